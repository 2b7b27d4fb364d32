"""One question to a model, and its answer: a text, or what a JSON Schema asks for.

Knows nothing of Temporal, nor of secrets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from agent_runner.models.marks import NUDGE
from agent_runner.models.prices import Prices
from agent_runner.turn.answers import (
    ANSWER_TOOL,
    ASK_FOR_ANSWER,
    MOST_ATTEMPTS,
    answer_of,
    answer_tool,
    no_answer,
    problems_of,
)
from agent_runner.turn.usage import Usage, usage_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked.

    Attributes:
        messages: The conversation, instructions first.
        schema: JSON Schema of the answer; None: a text.
    """

    messages: tuple[AnyMessage, ...]
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of a question.

    Attributes:
        content: The answer.
        last: The model's last words, and the messages before them.
        usage: What all of it has used up.
    """

    content: Any
    last: tuple[tuple[AnyMessage, ...], AIMessage]
    usage: Usage


def question_of(arguments: Mapping[str, Any]) -> Question:
    """What a workflow asks, by the arguments of its activity."""
    said: list[AnyMessage] = [SystemMessage(arguments["system"])] if arguments["system"] else []
    for message in arguments["messages"]:
        kind = HumanMessage if message["role"] == "user" else AIMessage
        said.append(kind(message["content"]))
    return Question(messages=tuple(said), schema=arguments["schema"])


async def answered(question: Question, model: BaseChatModel, name: str, prices: Prices) -> Reply:
    """Ask a model called `name`; of an answer that does not fit the schema it is told what is wrong, and asked again.

    Raises:
        AnswerError: It gives none that fits.
        ResourceError: The schema refers to what is not in it.
        Exception: What the provider's package says, which `classify` knows.
    """
    schema, messages, used = question.schema, list(question.messages), Usage()
    asked: Any = model if schema is None else model.bind_tools([answer_tool(schema)], tool_choice=ANSWER_TOOL)
    for _ in range(MOST_ATTEMPTS):
        began = time.monotonic()
        answer: AIMessage = await asked.ainvoke(messages)
        used += usage_of(answer, name, prices, seconds=time.monotonic() - began)
        last = tuple(messages), answer
        if schema is None:
            return Reply(content=answer.text, last=last, usage=used)
        calls = [call for call in answer.tool_calls if call["name"] == ANSWER_TOOL]
        if not calls:
            # Nothing but words, or arguments that are no JSON.
            messages += [AIMessage(answer.text or "…"), HumanMessage(ASK_FOR_ANSWER, additional_kwargs={NUDGE: True})]
            continue
        content = answer_of(calls[0], schema)
        problems = problems_of(content, schema)
        if not problems:
            return Reply(content=content, last=last, usage=used)
        told = [
            ToolMessage("\n".join(problems), name=call["name"], tool_call_id=call["id"], status="error")
            for call in answer.tool_calls
        ]
        messages += [answer, *told]
    raise no_answer()
