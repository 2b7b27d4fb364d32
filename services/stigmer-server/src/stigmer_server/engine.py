"""The engine that runs executions: Temporal, seen from the server, which needs very little of it.

An execution is started by its id alone; its runner asks the server for everything else. Starting is idempotent,
so the server may start anything that is still pending as often as it likes. That is how it makes up for every
way of losing a start: Temporal away, a server killed after its commit, a call that timed out but was done.

Temporal's library is imported when an engine of it starts, and never by a server without one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from loguru import logger

from stigmer_server.kinds import Kind

if TYPE_CHECKING:
    from temporalio.client import Client

_STARTERS = 16
_CONNECT_SECONDS = 10.0
_CALL_TIMEOUT = timedelta(seconds=10)
_SWEEP_SECONDS = 30.0
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 15.0


class Engine(Protocol):
    """Starts and stops runs. Neither method waits or fails: what cannot be done now is done later."""

    def submit(self, kind: Kind, id: str, org: str) -> None:
        """Start the run of a stored, pending execution, once."""
        ...

    def cancel(self, kind: Kind, id: str, reason: str) -> None:
        """Ask a run to stop, if there is one; it may clean up."""
        ...

    def terminate(self, kind: Kind, id: str, reason: str) -> None:
        """End a run at once, if there is one."""
        ...


class Ledger(Protocol):
    """What the engine must know of executions, and tell of them."""

    def pending(self) -> AsyncIterator[tuple[Kind, str, str]]:
        """Yield every execution (kind, id, org) that waits to be started, oldest first."""
        ...

    async def fail(self, kind: Kind, id: str, reason: str) -> None:
        """Record that an execution cannot be started, ever."""
        ...


class NoEngine:
    """Leaves every execution pending, for a server with an engine to start."""

    def submit(self, kind: Kind, id: str, org: str) -> None:
        """Do nothing."""

    def cancel(self, kind: Kind, id: str, reason: str) -> None:
        """Do nothing."""

    def terminate(self, kind: Kind, id: str, reason: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    kind: Kind
    id: str
    org: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    kind: Kind
    id: str
    reason: str
    at_once: bool


class _AwayError(Exception):
    """Temporal does not answer, or not yet."""


class TemporalEngine:
    """Temporal, which may come late, go away and come back."""

    def __init__(self, address: str, namespace: str, queues: Mapping[str, str]) -> None:
        self._address = address
        self._namespace = namespace
        self._queues = queues
        self._connected = asyncio.Event()
        self._work: asyncio.Queue[_Start | _Stop] = asyncio.Queue()
        self._stops: dict[str, _Stop] = {}
        self._started: set[str] = set()
        self._starting: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether Temporal answered when last asked."""
        return self._connected.is_set()

    def start(self, ledger: Ledger) -> None:
        """Begin to look for Temporal; returns at once."""
        self._task = asyncio.create_task(self._run(ledger), name="engine")

    async def close(self) -> None:
        """Stop. Runs go on without the server."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def submit(self, kind: Kind, id: str, org: str) -> None:
        """Start it now; while Temporal is away nothing is kept here, because what is pending is found again."""
        if self.connected:
            self._work.put_nowait(_Start(kind=kind, id=id, org=org))

    def cancel(self, kind: Kind, id: str, reason: str) -> None:
        """Stop it now, or when Temporal is back."""
        self._put_stop(_Stop(kind=kind, id=id, reason=reason, at_once=False))

    def terminate(self, kind: Kind, id: str, reason: str) -> None:
        """End it now, or when Temporal is back."""
        self._put_stop(_Stop(kind=kind, id=id, reason=reason, at_once=True))

    def _put_stop(self, action: _Stop) -> None:
        self._stops[action.id] = action
        if self.connected:
            self._work.put_nowait(action)

    async def _run(self, ledger: Ledger) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                client = await self._connect()
                logger.info("connected to Temporal at {} (namespace {})", self._address, self._namespace)
                delay = _FIRST_DELAY
                await self._serve(client, ledger)
            except* _AwayError as group:
                self._connected.clear()
                level = "WARNING" if delay == _FIRST_DELAY else "DEBUG"
                logger.log(level, "Temporal at {} is away, executions wait: {}", self._address, group.exceptions[0])
            except* Exception:  # noqa: BLE001 - a fault in one round must not end the engine
                self._connected.clear()
                logger.exception("the engine stumbled, and goes on")
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not cryptography
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _connect(self) -> Client:
        from temporalio.client import Client
        from temporalio.service import RPCError

        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await Client.connect(self._address, namespace=self._namespace)
        except (RuntimeError, RPCError, OSError, TimeoutError) as error:
            raise _AwayError(str(error) or type(error).__name__) from error

    async def _serve(self, client: Client, ledger: Ledger) -> None:
        """Do what is asked, and look for what was not, until Temporal no longer answers."""
        self._work = asyncio.Queue()
        self._connected.set()
        for action in self._stops.values():
            self._work.put_nowait(action)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep(ledger))
            for _ in range(_STARTERS):
                group.create_task(self._act(client, ledger))

    async def _sweep(self, ledger: Ledger) -> None:
        """Submit what is pending and was not started by this server, now and every half minute."""
        while True:
            pending: set[str] = set()
            async for kind, id, org in ledger.pending():
                pending.add(id)
                if id not in self._started:
                    self._work.put_nowait(_Start(kind=kind, id=id, org=org))
            self._started &= pending
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _act(self, client: Client, ledger: Ledger) -> None:
        while True:
            action = await self._work.get()
            if isinstance(action, _Start):
                if action.id not in self._started | self._starting | self._stops.keys():
                    await self._start(client, action, ledger)
            elif action.id in self._starting:
                # Stopped while it is being started: there is nothing to stop yet.
                await asyncio.sleep(_FIRST_DELAY)
                self._work.put_nowait(action)
            else:
                await self._stop(client, action)

    async def _start(self, client: Client, action: _Start, ledger: Ledger) -> None:
        from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
        from temporalio.exceptions import WorkflowAlreadyStartedError
        from temporalio.service import RPCError

        kind, queue = action.kind, self._queues[action.kind.name]
        self._starting.add(action.id)
        try:
            await client.start_workflow(
                kind.run,
                {"execution_id": action.id, "org": action.org},
                id=kind.run_id(action.id),
                task_queue=queue,
                memo={"activityTaskQueue": queue},
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=_CALL_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            logger.debug("{} {} had been started before", kind.title, action.id)
        except RPCError as error:
            if _is_away(error):
                raise _AwayError(error.message) from error
            logger.error("{} {} cannot be started: {}", kind.title, action.id, error.message)
            await ledger.fail(kind, action.id, f"the run could not be started: {error.message}")
        finally:
            self._starting.discard(action.id)
        self._started.add(action.id)

    async def _stop(self, client: Client, action: _Stop) -> None:
        from temporalio.service import RPCError, RPCStatusCode

        try:
            handle = client.get_workflow_handle(action.kind.run_id(action.id))
            if action.at_once:
                await handle.terminate(reason=action.reason, rpc_timeout=_CALL_TIMEOUT)
            else:
                await handle.cancel(reason=action.reason, rpc_timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND and _is_away(error):
                raise _AwayError(error.message) from error
        self._stops.pop(action.id, None)


def _is_away(error: object) -> bool:
    """Tell a service that cannot answer now from one that says no. A namespace may still be in the making."""
    from temporalio.service import RPCError, RPCStatusCode

    away = {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.NOT_FOUND,
    }
    return isinstance(error, RPCError) and error.status in away
