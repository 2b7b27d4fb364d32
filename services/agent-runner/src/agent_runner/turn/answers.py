"""Answers that have a schema: the model gives them by a tool, and is told what is wrong until one fits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from langchain.agents.middleware import AgentMiddleware, hook_config
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from stigmer_dsl import WorkflowError
from stigmer_dsl.schemas import broken_rules
from stigmer_runner import is_too_deep

from agent_runner.errors import AnswerError, ResourceError
from agent_runner.models.marks import NUDGE, is_marked

ANSWER_TOOL = "give_answer"
"""Name of the tool by which models give such answers."""

MOST_ATTEMPTS = 5
_MOST_PROBLEMS = 20
ASK_FOR_ANSWER = f"Give your answer by calling {ANSWER_TOOL}, and nothing else."
_NOT_ALONE = f"Call {ANSWER_TOOL} alone, once nothing else is left to do."


class AnswerMiddleware(AgentMiddleware[Any, Any, Any]):
    """Ends the turn with the first answer that fits.

    Args:
        schema: JSON Schema, draft 2020-12.

    Raises:
        ResourceError: It is no schema of an object's properties or anything else that JSON Schema knows.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        super().__init__()
        check_schema(schema)
        self._schema = schema
        self.tools = [answer_tool(schema)]

    @hook_config(can_jump_to=["end", "model"])
    async def aafter_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Look at what the model said, end the turn when it is the answer, and ask again when it is none."""
        messages: list[AnyMessage] = state["messages"]
        last = messages[-1]
        if not isinstance(last, AIMessage):
            return None
        calls = [call for call in last.tool_calls if call["name"] == ANSWER_TOOL]
        if not calls:
            nudge = HumanMessage(ASK_FOR_ANSWER, additional_kwargs={NUDGE: True})
            return None if last.tool_calls else self._again(messages, [nudge])
        alone = len(last.tool_calls) == 1
        problems = problems_of(answer_of(calls[0], self._schema), self._schema) if alone else [_NOT_ALONE]
        if not problems:
            return {"messages": [_told(calls[0], "The answer was taken.", "success")], "jump_to": "end"}
        told: list[AnyMessage] = [_told(call, "\n".join(problems), "error") for call in calls]
        return self._again(messages, told) if alone else {"messages": told}

    def _again(self, messages: Sequence[AnyMessage], more: list[AnyMessage]) -> dict[str, Any]:
        if sum(_is_attempt(message) for message in messages) >= MOST_ATTEMPTS:
            raise no_answer()
        return {"messages": more, "jump_to": "model"}


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema.

    Raises:
        ResourceError: It is none.
    """
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ResourceError(f"the output schema is not valid: {error.json_path}: {error.message}") from None


def problems_of(answer: Any, schema: Mapping[str, Any]) -> list[str]:
    """What is wrong with an answer.

    Raises:
        ResourceError: The schema refers to what is not in it, or takes too long to check.
    """
    if is_too_deep(answer):
        return ["the answer is nested too deep to be kept: give it with fewer lists and objects inside each other"]
    try:
        found = broken_rules(schema, answer, "the answer")
    except WorkflowError as error:
        raise ResourceError(error.detail) from None
    return [f"{each.place}: {each.message}" for each in found[:_MOST_PROBLEMS]]


def no_answer() -> AnswerError:
    """The error of a model that gives none that fits."""
    return AnswerError(f"the model gave no answer that fits the output schema in {MOST_ATTEMPTS} attempts")


def read_answer(messages: Sequence[AnyMessage], schema: Mapping[str, Any]) -> Any:
    """The answer that ended a turn, from its messages."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                if call["name"] == ANSWER_TOOL:
                    return answer_of(call, schema)
    return None


def answer_of(call: Any, schema: Mapping[str, Any]) -> Any:
    """What a call of the tool gives; an answer that is no object is its only argument."""
    return call["args"] if _is_object(schema) else call["args"].get("answer")


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" or "properties" in schema


def answer_tool(schema: Mapping[str, Any]) -> StructuredTool:
    """The tool by which a model gives such an answer; nobody runs it."""
    wanted: dict[str, Any] = dict(schema)
    if not _is_object(schema):
        wanted = {"type": "object", "properties": {"answer": dict(schema)}, "required": ["answer"]}
    wanted.setdefault("properties", {})

    async def never(**_: Any) -> str:
        raise AssertionError(ANSWER_TOOL)

    return StructuredTool(
        name=ANSWER_TOOL,
        description="Give your final answer. Call this once, alone, when nothing else is left to do.",
        args_schema={"title": ANSWER_TOOL, "description": "The final answer.", **wanted},
        coroutine=never,
    )


def _told(call: Any, text: str, status: Any) -> ToolMessage:
    return ToolMessage(content=text, name=ANSWER_TOOL, tool_call_id=call["id"], status=status)


def _is_attempt(message: AnyMessage) -> bool:
    is_wrong = isinstance(message, ToolMessage) and message.name == ANSWER_TOOL and message.status == "error"
    return is_wrong or is_marked(message, NUDGE)


def as_text(answer: Any) -> str:
    """An answer as a person reads it."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, indent=2)
