"""Takes a turn: everything between a person's message and the agent's answer, from wherever an earlier attempt got to.

Knows nothing of Temporal: who calls it says when to stop, and decides whether to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from stigmer_grpc.errors import RpcError
from stigmer_runner.files import KeptFiles
from stigmer_runner.redaction import Redactor
from stigmer_runner.server import Environments

from agent_runner.contract import FAILED, FINAL_PHASES, QUEUED, WAITING, ResolvedRun, TurnResult
from agent_runner.errors import AgentRunnerError, ExecutionEndedError, SupersededError
from agent_runner.files.exchange import Exchange
from agent_runner.files.limits import FileLimits
from agent_runner.models.access import secrets_in
from agent_runner.models.catalog import ModelCatalog
from agent_runner.models.prices import Prices
from agent_runner.resources import Message, Resources, of_execution, phase_name, status_of
from agent_runner.status.builder import StatusBuilder
from agent_runner.status.reporter import StatusReporter
from agent_runner.status.teller import Teller
from agent_runner.turn.equipment import Equipper
from agent_runner.turn.failures import classify, fault
from agent_runner.turn.inbox import Inbox
from agent_runner.turn.journal import Journal, Lease, Turn
from agent_runner.turn.loop import HandedOverError, Loop
from agent_runner.turn.notices import notices
from agent_runner.turn.taken import Plan, Taken

_RENEW_SECONDS = 5.0


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
        files: What is taken out of the workspace.
    """

    steps: int = 1000
    status_seconds: float = 0.5
    attempts: int = 6
    files: FileLimits = field(default_factory=FileLimits)


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
        files: What people put into sessions, and get out of them.
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
        files: KeptFiles,
        prices: Prices,
    ) -> None:
        self._resources = resources
        self._environments = environments
        self._journal = journal
        self._models = models
        self._keys = keys
        self._limits = limits
        self._equipper = equipper
        self._files = files
        self._prices = prices
        self._loop = Loop(resources=resources, journal=journal, models=models, prices=prices, steps=limits.steps)

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
        redactor = Redactor([*environment.secrets.values(), *secrets_in(environment.secrets), *self._keys])
        status = status_of(execution)
        inbox, builder = Inbox(status), StatusBuilder(status, redactor)

        async def push(status: Message) -> None:
            inbox.offer((await self._resources.report(run.execution_id, status)).status.sent_messages)

        reporter = StatusReporter(builder, push, seconds=self._limits.status_seconds)
        builder.said_by_person(run.execution_id, execution.spec.message)
        taken = Taken(
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

    async def _plan(self, run: ResolvedRun, execution: Message, variables: Mapping[str, str]) -> Plan:
        await self._equipper.equip_fork(run, self._journal)
        definition = of_execution(await self._resources.agent(run.agent_id), execution)
        config = execution.spec.execution_config
        temperature = config.temperature if config.HasField("temperature") else None
        choices = self._models.choose_all(definition.models, environment=variables, temperature=temperature)
        await self._models.check(choices)
        return Plan(
            definition=definition,
            choices=choices,
            equipment=await self._equipper.equip(run.thread, definition, variables),
        )

    async def _hold(self, taken: Taken, lease: Lease, plan: Plan) -> TurnResult:
        """Run the agent while the status is reported and the lease renewed; whichever of them fails ends the turn."""
        backend = plan.equipment.backend
        taken.files = Exchange(
            kept=self._files,
            workspace=None if backend is None else backend.workspace,
            session=taken.run.session_id,
            execution=taken.run.execution_id,
            limits=self._limits.files,
            redactor=taken.redactor,
        )
        taken.tell_beginning(plan.choices[0], notices(plan, self._prices))
        work = asyncio.create_task(self._loop.run(taken, lease, plan))
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

    async def _failed(self, taken: Taken, error: Exception, redactor: Redactor, attempt: int) -> TurnResult:
        known = classify(error, model=taken.model)
        if known is None:
            logger.error("{}: {}", taken.run.execution_id, redactor.text("".join(traceback.format_exception(error))))
            known = fault(error)
        logger.warning("{}: attempt {}: {}", taken.run.execution_id, attempt, redactor.text(str(known)))
        if known.transient and attempt < self._limits.attempts:
            told = str(known).rstrip(".")
            taken.builder.notice("retry", f"{told}. Trying again (attempt {attempt} of {self._limits.attempts}).")
            await _quietly(taken.reporter.flush())
            raise TransientError(known) from None
        try:
            await self._take_files(taken)
            taken.builder.finish(FAILED, error=str(known))
            await taken.deliver()
        except ExecutionEndedError:
            return TurnResult(phase=await self._phase(taken.run.execution_id))
        return TurnResult(phase=FAILED, code=known.code, error=redactor.text(known.summary))

    async def _take_files(self, taken: Taken) -> None:
        """Save what a run that failed has made. Raises: ExecutionEndedError."""
        try:
            await taken.take_files()
        except ExecutionEndedError:
            raise
        except Exception as error:  # noqa: BLE001 - the failure that is to be told goes before
            text = taken.redactor.text(str(error))
            logger.warning("{}: its files stay in the workspace alone: {}", taken.run.execution_id, text)

    async def _phase(self, execution_id: str) -> str:
        """The phase of an execution that is over; one that is deleted counts as cancelled."""
        try:
            phase = phase_name(await self._resources.execution(execution_id))
        except ExecutionEndedError:
            return "EXECUTION_CANCELLED"
        return phase if phase in FINAL_PHASES else FAILED


async def _renew(lease: Lease) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        await lease.renew()


async def _quietly(report: Coroutine[Any, Any, None]) -> None:
    """Make a report that may fail: another one will follow."""
    with contextlib.suppress(RpcError, ExecutionEndedError):
        await asyncio.shield(report)
