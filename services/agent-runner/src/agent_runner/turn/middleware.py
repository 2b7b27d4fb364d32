"""What the runner adds around every model call and every tool call of an agent.

LangGraph's middleware is the one place that sees a tool call with its id, before and after, in main and sub-agents
alike; so events are told from here, and effects are recorded here.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command
from loguru import logger

from agent_runner.errors import AgentRunnerError, ModelCallError
from agent_runner.models.recorder import Recorder
from agent_runner.models.whole import not_json
from agent_runner.turn.effects import BUILT_IN, Effect, EffectKey, EffectLedger, Recorded, arguments_hash
from agent_runner.turn.events import (
    Heard,
    Noticed,
    Observer,
    Planned,
    Resumed,
    Todo,
    ToolFinished,
    ToolRequest,
    ToolStarted,
    Unsaid,
    Used,
)
from agent_runner.turn.failures import classify
from agent_runner.turn.gate import Answer, Gate
from agent_runner.turn.inbox import Inbox
from agent_runner.turn.thread import answered, events_of, read_todos, tool_request
from agent_runner.turn.usage import Meter


def _as_it_is(value: Any) -> Any:
    return value


async def _nothing() -> None:
    return None


ToolResult = ToolMessage | Command[Any]

_TASK = "task"
_SHOWN = 500
"""Characters of broken arguments that a model is shown again."""
_serde = JsonPlusSerializer()


@dataclass(slots=True, kw_only=True)
class TurnContext:
    """What all agents of one turn share.

    Attributes:
        execution: The execution's id.
        thread: The session's thread.
        ledger: The record of effects.
        observe: Where events go.
        settle: Makes sure that what was observed has been reported, if the server can be reached.
        gate: Decides which tool calls are made.
        inbox: What people say meanwhile.
        meter: Counts what is used, and keeps it within the budget.
        redact: Takes secrets out of a JSON value.
        recorder: Writes down what models answer, if they are to be.
        effects: What tools do when run twice, beyond the built-in ones.
        bring: Brings files to the workspace that people have put into the session since.
        call_ids: Every tool_call_id that was seen; some providers give the same one twice.
        tasks: The step of the graph that runs a `task` call → that call's id.
        resumed: The `task` calls whose sub-agents have been told of.
    """

    execution: str
    thread: str
    ledger: EffectLedger
    observe: Observer
    settle: Callable[[], Awaitable[None]]
    gate: Gate
    inbox: Inbox
    meter: Meter
    redact: Callable[[Any], Any] = _as_it_is
    recorder: Recorder | None = None
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    bring: Callable[[], Awaitable[object]] = _nothing
    call_ids: set[str] = field(default_factory=set[str])
    tasks: dict[str, str] = field(default_factory=dict[str, str])
    resumed: set[str] = field(default_factory=set[str])

    def effect(self, tool: str) -> Effect:
        """What running `tool` twice would do."""
        return self.effects.get(tool) or BUILT_IN.get(tool, Effect.ONCE)

    def task_of(self, scope: str) -> str:
        """The `task` call on whose behalf the step `scope` runs; empty in the main agent."""
        outer, inner, _ = scope.partition("|")
        return self.tasks.get(outer, "") if inner else ""


class RunnerMiddleware(AgentMiddleware[Any, Any, Any]):
    """Tells events, makes tool_call_ids unique, records effects and turns a tool's exception into a result."""

    def __init__(self, context: TurnContext, models: Mapping[str, BaseChatModel], *, agent: str = "") -> None:
        """Ask `models`, by `provider:model`, in this order, for a sub-agent: the next one when one cannot answer."""
        super().__init__()
        self._agent = agent
        self._context = context
        self._models = models

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Call the model and tell what it answered."""
        # Told now, because a worker that dies while the model thinks tells nothing any more.
        await self._context.settle()
        scope = _scope()
        if task := self._context.task_of(scope):
            self._resume(task, request)
        heard = [] if "|" in scope else self._heard(request)
        if heard:
            await self._context.bring()
            request = request.override(messages=[*request.messages, *heard])
        response, model = await self._answered(request, handler)
        for message in response.result:
            if isinstance(message, AIMessage):
                self._make_ids_unique(message)
                self._record(request, message)
                await self._context.meter.note(model, message.id or scope, message)
                self._context.observe(Used(execution=self._context.meter.used, session=self._context.meter.session))
                self._context.observe(answered(message, draft=scope, task=task))
        return replace(response, result=[*heard, *response.result]) if heard else response

    def _resume(self, task: str, request: ModelRequest[Any]) -> None:
        """Tell, once, what a sub-agent's thread holds: the attempt before may have told more of it, or less."""
        if task in self._context.resumed:
            return
        self._context.resumed.add(task)
        for event in events_of(request.state["messages"], task=task):
            self._context.observe(event)
        self._context.observe(Resumed(task=task))

    def _heard(self, request: ModelRequest[Any]) -> list[HumanMessage]:
        """What people have said since the model was asked last."""
        heard = self._context.inbox.unseen(request.state["messages"])
        for message in heard:
            self._context.observe(Heard(message_id=message.id or "", text=message.text))
        return heard

    def _record(self, request: ModelRequest[Any], answer: AIMessage) -> None:
        context = self._context
        if context.recorder is None:
            return
        try:
            context.recorder.note(
                context.execution, agent=self._agent, messages=request.messages, answer=answer, redact=context.redact
            )
        except OSError as error:
            logger.warning("the recording of {} goes no further: {}", context.execution, error)

    async def _answered(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> tuple[ModelResponse[Any], str]:
        """What the first model answers that can, and which one that is."""
        names = list(self._models)
        asked, name = request, names.pop(0)
        while True:
            try:
                async with self._context.meter.call():
                    return await handler(asked), name
            except Exception as error:
                failed = classify(error, model=name)
                if not names or not isinstance(failed, ModelCallError):
                    raise
                name = names.pop(0)
                self._context.observe(Unsaid(draft=_scope()))
                told = f"{str(failed).rstrip('.')}. {name} answers instead."
                self._context.observe(Noticed(key=f"fallback:{name}", text=told))
                asked = request.override(model=self._models[name])

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Run the tool at most once, and tell its start and its end."""
        scope, wanted = _scope(), tool_request(request.tool_call)
        task = self._context.task_of(scope)
        if wanted.name == _TASK:
            self._context.tasks[scope] = wanted.id
        if (sent := not_json(wanted.args)) is not None:
            return self._refuse(wanted, sent, task)
        admitted = self._context.gate.admit(wanted, task=task)
        if isinstance(admitted, Answer):
            return self._answer(wanted, admitted, task)
        if admitted is not wanted:
            request, wanted = request.override(tool_call={**request.tool_call, "args": dict(admitted.args)}), admitted
        self._context.observe(ToolStarted(request=wanted, task=task))
        result = await self._run(request, handler, wanted, scope)
        text, failed = _outcome(result)
        self._context.observe(ToolFinished(request=wanted, text=text, failed=failed, task=task))
        if not task and (todos := _todos(result)) is not None:
            self._context.observe(Planned(todos=todos))
        return result

    def _answer(self, wanted: ToolRequest, answer: Answer, task: str) -> ToolMessage:
        """Give the model an answer in place of a call."""
        self._context.observe(ToolFinished(request=wanted, text=answer.text, skipped=answer.failed, task=task))
        status: Any = "error" if answer.failed else "success"
        return ToolMessage(content=answer.text, name=wanted.name, tool_call_id=wanted.id, status=status)

    def _refuse(self, wanted: ToolRequest, sent: str, task: str) -> ToolMessage:
        """Tell the model that what it sent as a call's arguments is none."""
        text = f"The arguments of {wanted.name!r} are not valid JSON, so it was not called. You sent: {sent[:_SHOWN]}"
        self._context.observe(ToolFinished(request=wanted, text=text, failed=True, task=task))
        return ToolMessage(content=text, name=wanted.name, tool_call_id=wanted.id, status="error")

    async def _run(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolResult]],
        wanted: ToolRequest,
        scope: str,
    ) -> ToolResult:
        effect = self._context.effect(wanted.name)
        if effect is Effect.PURE:
            return await self._call(request, handler, wanted)
        key = EffectKey(thread=self._context.thread, scope=scope, call_id=wanted.id)
        arguments = arguments_hash(wanted.args)
        before = await self._context.ledger.begin(
            key, execution=self._context.execution, name=wanted.name, arguments=arguments
        )
        if before is not None and (known := self._known(before, wanted, arguments, effect)) is not None:
            return known
        result = await self._call(request, handler, wanted)
        result_type, data = _serde.dumps_typed(result)
        await self._context.ledger.finish(key, result_type=result_type, result=data)
        return result

    def _known(self, before: Recorded, wanted: ToolRequest, arguments: str, effect: Effect) -> ToolResult | None:
        """What to answer for a call that was begun before, or None to run it."""
        if before.result is not None and before.arguments == arguments:
            return _serde.loads_typed((before.result_type, before.result))
        if before.result is None and effect is Effect.REPEATABLE:
            return None
        text = (
            f"The worker stopped while {wanted.name!r} was running. Whether it took effect is not known, "
            "and it was not run again. Find out what happened before trying it once more."
        )
        self._context.observe(Noticed(key=f"unknown-outcome:{wanted.id}", text=text))
        return ToolMessage(content=text, name=wanted.name, tool_call_id=wanted.id, status="error")

    async def _call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]], wanted: ToolRequest
    ) -> ToolResult:
        try:
            return self._redacted(await handler(request))
        except (GraphBubbleUp, AgentRunnerError):
            raise
        except Exception as error:
            if wanted.name == _TASK:  # a model's error inside a sub-agent is the turn's: it may be tried again
                raise
            logger.warning("tool {} failed: {}", wanted.name, type(error).__name__)
            return ToolMessage(
                content=self._context.redact(f"Error: {error}"),
                name=wanted.name,
                tool_call_id=wanted.id,
                status="error",
            )

    def _redacted(self, result: ToolResult) -> ToolResult:
        """The result without secrets: a model needs none, and it would be kept with the conversation."""
        messages: list[Any] = [result] if isinstance(result, ToolMessage) else list(_update(result).get("messages", ()))
        for message in messages:
            if isinstance(message, ToolMessage):
                message.content = self._context.redact(message.content)
                message.artifact = self._context.redact(message.artifact)
        return result

    def _make_ids_unique(self, message: AIMessage) -> None:
        for call in message.tool_calls:
            if not call["id"] or call["id"] in self._context.call_ids:
                call["id"] = f"call_{uuid.uuid4().hex}"
            self._context.call_ids.add(call["id"])


def _scope() -> str:
    return str(get_config().get("configurable", {}).get("checkpoint_ns", ""))


def _update(result: ToolResult) -> dict[str, Any]:
    update: Any = None if isinstance(result, ToolMessage) else result.update
    return cast("dict[str, Any]", update) if isinstance(update, dict) else {}


def _outcome(result: ToolResult) -> tuple[str, bool]:
    """A tool's result as text, and whether the tool failed."""
    found: list[Any] = [result] if isinstance(result, ToolMessage) else list(_update(result).get("messages", ()))
    messages = [message for message in found if isinstance(message, ToolMessage)]
    return "\n".join(message.text for message in messages), any(message.status == "error" for message in messages)


def _todos(result: ToolResult) -> tuple[Todo, ...] | None:
    items = _update(result).get("todos")
    return None if items is None else read_todos(items)
