"""Runs that go quiet: ended without a word, unknown to Temporal, or taken up by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stigmer_server import drafts
from stigmer_server.engine import dispatch
from stigmer_server.engine.port import AwayError, Runs, RunState, Work
from stigmer_server.engine.testing import MemoryRuns
from stigmer_server.messages import copied
from stigmer_server.testing import Api, serve
from stigmer_server.transitions import Phase
from stigmer_server.unit import Unit

Make = Callable[..., Awaitable[Any]]
AGENT, WORKFLOW = EXECUTIONS = ["agent_execution", "workflow_execution"]
PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = range(1, 6)
QUIET = 0.05


@asynccontextmanager
async def watched(folder: Path, runs: Runs, **settings: Any) -> AsyncGenerator[Api]:
    """Open a server that asks soon after runs that are quiet."""

    async def connect() -> Runs:
        return runs

    async with serve(folder, connect_engine=connect, watch_seconds=QUIET, log_level="error", **settings) as api:
        yield api


def follow(api: Api, kind: str, execution: Any) -> Any:
    field = "value" if kind == AGENT else "executionId"
    return api.stream(kind, "subscribe", {field: execution.metadata.id})


async def until(api: Api, kind: str, execution: Any, holds: Callable[[Any], bool]) -> Any:
    """Follow an execution until its status is as it should be; return that status."""
    async with asyncio.timeout(30):
        async for state in follow(api, kind, execution):
            if holds(state.status):
                return state.status
    raise AssertionError("the stream ended")


async def begun(api: Api, make: Make, runs: MemoryRuns, kind: str) -> tuple[Any, str]:
    """Return an execution that runs, and the id of its run."""
    made = await make(api, kind)
    async with asyncio.timeout(30):
        while made.status.temporal_workflow_id not in runs.runs:  # noqa: ASYNC110 - runs in memory tell of nothing
            await asyncio.sleep(0.01)
    await api(kind, "updateStatus", {"executionId": made.metadata.id, "status": {"phase": "EXECUTION_IN_PROGRESS"}})
    return made, made.status.temporal_workflow_id


@pytest.mark.parametrize("kind", EXECUTIONS)
@pytest.mark.parametrize("ended", [Phase.FAILED, Phase.CANCELLED, Phase.TERMINATED])
async def test_a_run_that_ended_without_a_word_ends_its_execution_for_everybody(
    tmp_path: Path, make: Make, kind: str, ended: Phase
) -> None:
    runs = MemoryRuns()
    async with watched(tmp_path, runs) as api:
        made, run = await begun(api, make, runs, kind)
        states = follow(api, kind, made)
        runs.runs[run].state = RunState(ended=ended, reason="the run was ended outside")
        async with asyncio.timeout(30):
            last = [state async for state in states][-1]
        assert api.app.resources.kinds[kind].phase_of(last.status) is ended
        assert "ended outside" in (last.status.error or last.status.status_reason)
        assert last.status.completed_at
        assert await api(kind, "get", {"value": made.metadata.id}) == last


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_run_that_temporal_lost_fails_its_execution_with_the_reason(
    tmp_path: Path, make: Make, kind: str
) -> None:
    runs = MemoryRuns()
    async with watched(tmp_path, runs) as api:
        made, run = await begun(api, make, runs, kind)
        del runs.runs[run]
        status = await until(api, kind, made, lambda status: status.phase == FAILED)
        assert "lost its data" in status.error
        assert run in status.error


async def test_a_run_that_is_lost_before_anybody_took_it_up_is_started_again(tmp_path: Path, make: Make) -> None:
    runs = MemoryRuns()
    async with watched(tmp_path, runs) as api:
        made = await make(api, AGENT)
        run = made.status.temporal_workflow_id
        async with asyncio.timeout(30):
            for _ in range(2):
                while run not in runs.runs:  # noqa: ASYNC110 - runs in memory tell of nothing
                    await asyncio.sleep(0.01)
                runs.runs.pop(run)
        assert (await api(AGENT, "get", {"value": made.metadata.id})).status.phase == PENDING


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_what_waits_for_a_runner_says_so_until_one_comes(tmp_path: Path, make: Make, kind: str) -> None:
    runs = MemoryRuns()
    runs.workers = 0
    async with watched(tmp_path, runs, workflow_execution_queue="flows", agent_execution_queue="agents") as api:
        made = await make(api, kind)
        status = await until(api, kind, made, lambda status: bool(status.status_reason))
        queue = "agents" if kind == AGENT else "flows"
        assert (status.phase, status.status_reason) == (PENDING, f"Waiting for a runner: none polls the queue {queue}")
        runs.workers = 1
        await until(api, kind, made, lambda status: not status.status_reason)


async def test_what_waits_for_temporal_says_so(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(dispatch, "_LONGEST_DELAY", 0.02)
    runs, there = MemoryRuns(), asyncio.Event()

    async def connect() -> Runs:
        if not there.is_set():
            raise AwayError("not yet")
        return runs

    async with serve(tmp_path, connect_engine=connect, watch_seconds=QUIET, temporal_address="there:7233") as api:
        made = await make(api, AGENT)
        status = await until(api, AGENT, made, lambda status: bool(status.status_reason))
        assert status.status_reason == "Waiting for Temporal: there:7233 (namespace default) does not answer"
        there.set()
        await until(api, AGENT, made, lambda status: not status.status_reason)


async def test_a_reason_that_somebody_gave_is_left_alone(tmp_path: Path, make: Make) -> None:
    runs = MemoryRuns()
    runs.workers = 0
    async with watched(tmp_path, runs) as api:
        made, _ = await begun(api, make, runs, AGENT)
        await until(api, AGENT, made, lambda status: "none polls" in status.status_reason)
        paused = await api(AGENT, "pause", {"id": made.metadata.id, "reason": "lunch"})
        assert paused.status.status_reason == "lunch"
        await asyncio.sleep(QUIET * 6)
        assert (await api(AGENT, "get", {"value": made.metadata.id})).status.status_reason == "lunch"


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_nobody_waits_longer_for_a_runner_than_the_settings_say(tmp_path: Path, make: Make, kind: str) -> None:
    runs = MemoryRuns()
    runs.workers = 0
    async with watched(tmp_path, runs, pending_timeout_seconds=0.3) as api:
        made = await make(api, kind)
        status = await until(api, kind, made, lambda status: status.phase == FAILED)
        assert "no runner took it up within 0.3 s: no runner polls the queue" in status.error
        async with asyncio.timeout(30):
            while runs.runs[made.status.temporal_workflow_id].state.ended is not Phase.TERMINATED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_thousands_that_are_pending_are_each_started_once(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(dispatch, "_LONGEST_DELAY", 0.02)
    async with serve(tmp_path, log_level="error") as api:
        session = await make(api, "session")
        kind = api.app.resources.kinds[AGENT]
        made = await make(api, AGENT, spec={"sessionId": session.metadata.id, "agentId": ""})
        draft = copied(made)
        draft.metadata.id = draft.metadata.slug = ""
        draft.ClearField("status")

        def work(unit: Unit) -> None:
            for _ in range(999):
                drafts.insert(kind, draft, unit)

        for _ in range(3):
            await api.app.resources.transact(work)
        await api.app.resources.transact(lambda unit: [drafts.insert(kind, draft, unit) for _ in range(2)])
    cuts = iter(range(300, 3_000, 300))

    class Cut(MemoryRuns):
        """Goes away after every three hundred starts."""

        next_cut = next(cuts)

        async def start(self, work: Any, queue: str) -> bool:
            if len(self.runs) >= self.next_cut:
                self.next_cut = next(cuts, 10**9)
                raise AwayError("cut")
            return await super().start(work, queue)

    runs = Cut()
    async with watched(tmp_path, runs):
        async with asyncio.timeout(100):
            while len(runs.runs) < 3_000:  # noqa: ASYNC110 - runs in memory tell of nothing
                await asyncio.sleep(0.05)
    assert len({run.execution for run in runs.runs.values()}) == len(runs.runs) == 3_000


class StumblingRuns(MemoryRuns):
    """Runs with a fault that only one execution brings out."""

    poison = ""

    async def start(self, work: Work, queue: str) -> bool:
        if self.poison in ("", work.id):
            self.poison = work.id
            raise ValueError("a fault of its own")
        return await super().start(work, queue)

    async def state(self, run: str) -> RunState | None:
        if self.poison in run:
            raise ValueError("a fault of its own")
        return await super().state(run)


async def test_a_fault_with_one_execution_holds_up_no_other(tmp_path: Path, make: Make) -> None:
    runs, connections = StumblingRuns(), 0

    async def connect() -> Runs:
        nonlocal connections
        connections += 1
        return runs

    async with serve(tmp_path, connect_engine=connect, watch_seconds=QUIET, log_level="error") as api:
        stuck = await make(api, AGENT)
        async with asyncio.timeout(30):
            while not runs.poison:  # noqa: ASYNC110 - runs in memory tell of nothing
                await asyncio.sleep(0.01)
        made, run = await begun(api, make, runs, WORKFLOW)
        runs.runs[run].state = RunState(ended=Phase.FAILED, reason="ended outside")
        await until(api, WORKFLOW, made, lambda status: status.phase == FAILED)
        assert (await api(AGENT, "get", {"value": stuck.metadata.id})).status.phase == PENDING
        # Temporal was there all the time.
        assert connections == 1
