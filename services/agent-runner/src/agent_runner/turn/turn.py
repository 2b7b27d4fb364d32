"""Takes a turn: everything between a person's message and the agent's answer, from wherever an earlier attempt got to.

Knows nothing of Temporal: who calls it says when to stop, and decides whether to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk, AnyMessage, HumanMessage
from loguru import logger
from stigmer_grpc.errors import DeadlineExceededError, RpcError, UnavailableError
from stigmer_runner.redaction import Redactor
from stigmer_runner.server import Environments

from agent_runner.contract import COMPLETED, FAILED, FINAL_PHASES, QUEUED, WAITING, ResolvedRun, TurnResult
from agent_runner.errors import AgentRunnerError, ExecutionEndedError, ResourceError, SupersededError
from agent_runner.models.catalog import ModelCatalog, ModelChoice
from agent_runner.models.prices import Prices
from agent_runner.resources import Message, Resources, of_execution, phase_name, status_of
from agent_runner.status.builder import StatusBuilder
from agent_runner.status.reporter import StatusReporter
from agent_runner.status.teller import Teller
from agent_runner.turn.agent import Graph, build_agent, differences
from agent_runner.turn.answers import read_answer
from agent_runner.turn.conversation import Conversation, read_conversation
from agent_runner.turn.decisions import Decisions, Waiting, next_expiry, waiting_calls
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.equipment import Equipment, Equipper
from agent_runner.turn.events import Heard, Said
from agent_runner.turn.failures import classify
from agent_runner.turn.gate import Gate
from agent_runner.turn.inbox import Inbox
from agent_runner.turn.journal import Journal, Lease, Turn
from agent_runner.turn.middleware import TurnContext
from agent_runner.turn.usage import Meter

_RENEW_SECONDS = 5.0
_AWAY_SECONDS = 1.0
_SUMMARIES = "summarization"


class HandedOverError(Exception):
    """The turn stopped between two steps because its worker stops; another goes on with it."""


class TransientError(Exception):
    """The turn may succeed when it is tried again; `str` is safe for Temporal's history."""

    def __init__(self, error: AgentRunnerError) -> None:
        super().__init__(error.summary)
        self.code = error.code
        self.retry_after = error.retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLimits:
    """What bounds a turn.

    Attributes:
        steps: Steps of the graph.
        status_seconds: Pause between reports of an answer that is being given.
        attempts: Attempts after which a failing model fails the run.
    """

    steps: int = 1000
    status_seconds: float = 0.5
    attempts: int = 6


class TurnTaker:
    """Takes turns.

    Args:
        resources: The server.
        environments: Executions' variables and secrets.
        journal: The runner's memory.
        models: The models.
        keys: Secrets of this process.
        limits: What bounds each turn.
        equipper: Gets ready what agents have at hand.
        prices: What models cost.
    """

    def __init__(
        self,
        *,
        resources: Resources,
        environments: Environments,
        journal: Journal,
        models: ModelCatalog,
        keys: tuple[str, ...],
        limits: TurnLimits,
        equipper: Equipper,
        prices: Prices,
    ) -> None:
        self._resources = resources
        self._environments = environments
        self._journal = journal
        self._models = models
        self._keys = keys
        self._limits = limits
        self._equipper = equipper
        self._prices = prices

    async def take(self, run: ResolvedRun, *, attempt: int, stop: asyncio.Event) -> TurnResult:
        """Take the turn of `run`, or what an earlier attempt left of it, and report its end.

        Args:
            run: The execution and its chain.
            attempt: Number of this attempt, rising.
            stop: Set when the worker stops.

        Raises:
            HandedOverError: `stop` was set, and the turn is not over.
            TransientError: Trying again may help.
            SupersededError: A later attempt has the turn.
            RpcError: The server is away.
        """
        execution = await self._resources.execution(run.execution_id)
        phase = phase_name(execution)
        if phase in FINAL_PHASES:
            return TurnResult(phase=phase)
        if not await self._is_first(run, execution):
            return TurnResult(phase=QUEUED)
        environment = await self._environments.get(run.execution_id)
        variables = {**environment.variables, **environment.secrets}
        redactor = Redactor([*environment.secrets.values(), *self._keys])
        status = status_of(execution)
        inbox, builder = Inbox(status), StatusBuilder(status, redactor)

        async def push(status: Message) -> None:
            inbox.offer((await self._resources.report(run.execution_id, status)).status.sent_messages)

        reporter = StatusReporter(builder, push, seconds=self._limits.status_seconds)
        builder.said_by_person(run.execution_id, execution.spec.message)
        taken = _Taken(
            run=run,
            message=execution.spec.message,
            builder=builder,
            redactor=redactor,
            inbox=inbox,
            reporter=reporter,
            teller=Teller(builder.drafts, lambda deltas: self._resources.tell(run.execution_id, deltas)),
            stop=stop,
        )
        try:
            plan = await self._plan(run, execution, variables)
            async with self._journal.hold(
                Turn(thread=run.thread, execution=run.execution_id, attempt=attempt)
            ) as lease:
                result = await self._hold(taken, lease, plan)
            if result.phase == WAITING:
                return result
        except ExecutionEndedError as error:
            logger.info("{}: {}", run.execution_id, error)
            return TurnResult(phase=await self._phase(run.execution_id))
        except (HandedOverError, SupersededError, RpcError):
            raise
        except asyncio.CancelledError:
            await _quietly(reporter.flush())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the run's end must be told
            result = await self._failed(taken, error, redactor, attempt)
        await self._journal.forget_effects(run.execution_id)
        self._environments.forget(run.execution_id)
        return result

    async def _is_first(self, run: ResolvedRun, execution: Message) -> bool:
        """Whether no other execution of the session comes before this one; says so in the status when one does."""
        while (first := await self._journal.queue(run.thread, run.execution_id)) != run.execution_id:
            try:
                over = phase_name(await self._resources.execution(first)) in FINAL_PHASES
            except ExecutionEndedError:
                over = True
            if not over:
                status = status_of(execution)
                status.status_reason = f"waits for {first}, which came before it in the same session"
                await _quietly(self._resources.report(run.execution_id, status))
                return False
            # It ended without a word of its runner: it was terminated, or deleted.
            await self._journal.leave(first)
        return True

    async def _plan(self, run: ResolvedRun, execution: Message, variables: Mapping[str, str]) -> _Plan:
        definition = of_execution(await self._resources.agent(run.agent_id), execution)
        config = execution.spec.execution_config
        temperature = config.temperature if config.HasField("temperature") else None
        return _Plan(
            definition=definition,
            choices=self._models.choose_all(definition.models, environment=variables, temperature=temperature),
            equipment=await self._equipper.equip(run.thread, definition, variables),
        )

    async def _hold(self, taken: _Taken, lease: Lease, plan: _Plan) -> TurnResult:
        """Run the agent while the status is reported and the lease renewed; whichever of them fails ends the turn."""
        taken.tell_beginning(plan.choices[0], plan.equipment.tools.notices)
        work = asyncio.create_task(self._run(taken, lease, plan))
        watchers = [asyncio.create_task(each) for each in (taken.reporter.run(), taken.teller.run(), _renew(lease))]
        try:
            await asyncio.wait((work, *watchers), return_when=asyncio.FIRST_COMPLETED)
            for watcher in watchers:
                if watcher.done() and not work.done():
                    await watcher
            return await work
        finally:
            for task in (work, *watchers):
                task.cancel()
            await asyncio.gather(work, *watchers, return_exceptions=True)

    async def _run(self, taken: _Taken, lease: Lease, plan: _Plan) -> TurnResult:
        run, definition, equipment = taken.run, plan.definition, plan.equipment
        used, earlier = await self._journal.used(run.thread, run.execution_id)
        context = TurnContext(
            execution=run.execution_id,
            thread=run.thread,
            ledger=lease,
            observe=taken.reporter.observe,
            settle=taken.reporter.settle,
            redact=taken.redactor.value,
            recorder=self._models.recorder,
            effects=equipment.effects,
            meter=Meter(record=lease, prices=self._prices, budget=definition.budget, used=used, earlier=earlier),
            gate=Gate(policies=definition.approvals, observe=taken.reporter.observe, origins=equipment.tools.origins),
            inbox=taken.inbox,
        )
        decisions = Decisions(self._resources, run.execution_id, taken.builder)
        config: Any = {"configurable": {"thread_id": run.thread}, "recursion_limit": self._limits.steps}
        async with self._journal.checkpoints(lease) as saver:
            # In a thread: the first use of a provider imports its package, which takes seconds.
            graph = await asyncio.to_thread(
                build_agent,
                definition,
                models=self._models,
                choices=plan.choices,
                context=context,
                checkpointer=saver,
                tools=equipment.tools.main,
                of_sub_agents=equipment.tools.of_sub_agents,
                backend=equipment.backend,
                skills=equipment.skills,
                schema=definition.schema,
            )
            state = await graph.aget_state(config)
            # Not `state.next`: a step whose result is kept and whose successors are not yet known is not in there.
            waiting = bool(state.tasks)
            conversation = read_conversation(state.values, waiting=waiting, message_id=run.execution_id)
            if conversation.passed:
                raise ResourceError("the session has gone on since this execution failed: say it again instead")
            taken.tell_so_far(conversation, context)
            given: Any = {"messages": [HumanMessage(taken.message, id=run.execution_id)]}
            calls: tuple[Waiting, ...] = ()
            # What an execution before this one has left undone is nobody's: a new message begins anew.
            if conversation.begun:
                given, calls = None, waiting_calls(state)
            finished = conversation.finished
            while True:
                if finished:
                    given = await _end(taken, state.values["messages"], definition)
                    if given is None:
                        await saver.settle(differences(graph, state.values))
                        return TurnResult(phase=COMPLETED)
                elif calls:
                    given = await decisions.resume(calls)
                    if given is None:
                        return await _wait(taken, calls)
                    taken.builder.start()
                await _follow(graph, given, config, taken, context)
                state, given = await graph.aget_state(config), None
                calls, finished = waiting_calls(state), not state.tasks

    async def _failed(self, taken: _Taken, error: Exception, redactor: Redactor, attempt: int) -> TurnResult:
        known = classify(error, model=taken.model)
        if known is None:
            logger.error("{}: {}", taken.run.execution_id, redactor.text("".join(traceback.format_exception(error))))
            known = AgentRunnerError(f"the run failed inside the runner ({type(error).__name__}); its log tells more")
        logger.warning("{}: attempt {}: {}", taken.run.execution_id, attempt, redactor.text(str(known)))
        if known.transient and attempt < self._limits.attempts:
            taken.builder.notice("retry", f"{known}. Trying again (attempt {attempt} of {self._limits.attempts}).")
            await _quietly(taken.reporter.flush())
            raise TransientError(known) from None
        taken.builder.finish(FAILED, error=str(known))
        try:
            await taken.deliver()
        except ExecutionEndedError:
            return TurnResult(phase=await self._phase(taken.run.execution_id))
        return TurnResult(phase=FAILED, code=known.code, error=redactor.text(known.summary))

    async def _phase(self, execution_id: str) -> str:
        """The phase of an execution that is over; one that is deleted counts as cancelled."""
        try:
            phase = phase_name(await self._resources.execution(execution_id))
        except ExecutionEndedError:
            return "EXECUTION_CANCELLED"
        return phase if phase in FINAL_PHASES else FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a turn is taken with."""

    definition: AgentDefinition
    choices: tuple[ModelChoice, ...]
    equipment: Equipment


@dataclass(slots=True, kw_only=True)
class _Taken:
    """A turn that is being taken."""

    run: ResolvedRun
    message: str
    builder: StatusBuilder
    redactor: Redactor
    inbox: Inbox
    reporter: StatusReporter
    teller: Teller
    stop: asyncio.Event
    model: str = ""

    def tell_beginning(self, choice: ModelChoice, notices: Mapping[str, str]) -> None:
        """Report that the turn is in progress, and what the person should know of it."""
        self.model = str(choice)
        self.builder.start()
        if choice.fallback:
            logger.warning("{}: no model is configured: the scripted model answers", self.run.execution_id)
            self.builder.notice(
                "scripted",
                "No model is configured for this runner, so the built-in scripted model answers. No AI is involved.",
            )
        for key, text in notices.items():
            self.builder.notice(key, text)
        self.reporter.soon()

    async def deliver(self) -> None:
        """Report the end, waiting for a server that is away: only this attempt knows all that is in the status.

        Raises:
            ExecutionEndedError: The server takes no more of this execution.
            RpcError: The server refused, or is still away when the worker stops.
        """
        while True:
            try:
                return await self.reporter.flush()
            except (UnavailableError, DeadlineExceededError):
                if self.stop.is_set():
                    raise
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AWAY_SECONDS):
                        await self.stop.wait()

    def tell_so_far(self, conversation: Conversation, context: TurnContext) -> None:
        """Bring the status to what the checkpoint holds."""
        self.builder.keep_answers(conversation.answers)
        for event in conversation.events():
            self.builder.observe(event)
        context.call_ids |= self.builder.call_ids | conversation.earlier_calls
        self.reporter.soon()


async def _end(taken: _Taken, messages: Sequence[AnyMessage], definition: AgentDefinition) -> Any:
    """Report the answer; gives what the agent is to go on with instead, if somebody has said something meanwhile.

    The server decides: it lets nothing complete that a person is about to be answered in.
    """
    if not taken.inbox.unseen(messages):
        if definition.schema is not None:
            taken.builder.answer(read_answer(messages, definition.schema))
        taken.builder.finish(COMPLETED)
        await taken.deliver()
    sent = taken.inbox.unseen(messages)
    if not sent:
        return None
    taken.builder.start()
    for message in sent:
        taken.reporter.observe(Heard(message_id=message.id or "", text=message.text))
    return {"messages": sent}


async def _wait(taken: _Taken, calls: tuple[Waiting, ...]) -> TurnResult:
    """Report that people must decide; the turn goes on when they have, or when they may no longer."""
    taken.builder.wait()
    await taken.deliver()
    return TurnResult(phase=WAITING, until=next_expiry(calls, taken.builder.status.approvals))


async def _follow(graph: Graph, given: Any, config: Any, taken: _Taken, context: TurnContext) -> None:
    """Run the graph to its end, telling the text of its answers.

    Raises:
        HandedOverError: The worker stops; the last finished step is kept.
    """
    stream: AsyncGenerator[tuple[tuple[str, ...], str, Any]] = graph.astream(
        given, config, stream_mode=["messages", "updates"], subgraphs=True, durability="sync"
    )
    async with aclosing(stream) as parts:
        async for namespace, mode, data in parts:
            if mode == "messages":
                _tell_text(data, context)
            elif not namespace and taken.stop.is_set():
                raise HandedOverError


def _tell_text(data: tuple[Any, dict[str, Any]], context: TurnContext) -> None:
    message, metadata = data
    if not isinstance(message, AIMessageChunk) or metadata.get("lc_source") == _SUMMARIES:
        return
    scope = str(metadata.get("langgraph_checkpoint_ns", ""))
    task = (context.task_of(scope) or scope) if "|" in scope else ""
    if thought := _thought(message):
        context.observe(Said(draft=scope, text=thought, task=task, thinking=True))
    if message.text:
        context.observe(Said(draft=scope, text=message.text, task=task))


def _thought(message: AIMessageChunk) -> str:
    """What a piece of an answer has of the model's thinking."""
    if isinstance(message.content, str) and "reasoning_content" not in message.additional_kwargs:
        return ""
    return "".join(str(block.get("reasoning", "")) for block in message.content_blocks if block["type"] == "reasoning")


async def _renew(lease: Lease) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        await lease.renew()


async def _quietly(report: Coroutine[Any, Any, None]) -> None:
    """Make a report that may fail: another one will follow."""
    with contextlib.suppress(RpcError, ExecutionEndedError):
        await asyncio.shield(report)
