"""Words lost between the server and Temporal, and servers that die between any two of them."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stigmer_server import outbox
from stigmer_server.engine import dispatch
from stigmer_server.engine.port import Runs, RunState
from stigmer_server.engine.testing import FaultyRuns, MemoryRuns, lost
from stigmer_server.testing import Api, serve
from stigmer_server.transitions import Phase

Make = Callable[..., Awaitable[Any]]
KINDS = ["agent_execution", "workflow_execution"]
COMPLETED, FAILED, CANCELLED = 3, 4, 5
INJECTIONS = 1000


pytestmark = pytest.mark.slow


class Died(BaseException):
    """The server was killed here."""


@dataclass
class Line:
    """A line to Temporal that is cut, and a server that is killed, by chance."""

    runs: MemoryRuns
    dice: random.Random
    away: float = 0.15
    death: float = 0.1
    injected: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self) -> Runs:
        return FaultyRuns(self.runs, before=self._maybe, after=self._maybe)

    def _maybe(self, what: str) -> None:
        thrown = self.dice.random()
        if thrown < self.away + self.death:
            self.injected += 1
        if thrown < self.away:
            raise lost()
        if thrown < self.away + self.death:
            self.dead.set()
            raise Died(what)


@dataclass
class Subject:
    """An execution, and everything that was asked of it."""

    kind: str
    id: str
    token: bytes
    signals: list[tuple[str, Any]] = field(default_factory=list)
    paused: bool = False
    recoveries: int = 0
    end: int = 0
    """Number of its final phase."""


async def play(api: Api, runs: MemoryRuns, subject: Subject, dice: random.Random) -> None:
    """Ask something of an execution, or let its run get on."""
    kind, id = subject.kind, subject.id
    choice = dice.choice(["signal", "signal", "pause", "resume", "cancel", "terminate", "complete", "fail", "recover"])
    stored = await api(kind, "get", {"value": id})
    run = runs.runs.get(stored.status.temporal_workflow_id)
    if subject.end:
        if choice == "recover" and subject.end == FAILED:
            await api(kind, "recover", {"id": id})
            subject.recoveries += 1
            subject.end, subject.paused, subject.signals = 0, False, []
        return
    match choice:
        case "signal" if kind == "workflow_execution":
            number = dice.randrange(1000)
            request = {"executionId": id, "signalName": "n", "payload": number, "idempotencyKey": f"{number}"}
            for _ in range(2):
                await api(kind, "sendSignal", request)
            if ("stigmer.signal", number) not in subject.signals:
                subject.signals.append(("stigmer.signal", number))
        case "pause" if not subject.paused:
            await api(kind, "pause", {"id": id})
            subject.paused = True
            subject.signals.append(("stigmer.pause", None))
        case "resume" if subject.paused:
            await api(kind, "resume", {"id": id})
            subject.paused = False
            subject.signals.append(("stigmer.resume", None))
        case "cancel" | "terminate" if dice.random() < 0.3:
            stopped = await api(kind, choice, {"id": id, "reason": "enough"})
            subject.end = stopped.status.phase
        case "complete" | "fail" if run is not None and run.state.ended is None and dice.random() < 0.5:
            # A run ends when it has heard everything: what comes after its end is not for it.
            if [name for name, _ in run.heard()] != [name for name, _ in subject.signals]:
                return
            phase = "EXECUTION_COMPLETED" if choice == "complete" else "EXECUTION_FAILED"
            ended = await api(kind, "updateStatus", {"executionId": id, "status": {"phase": phase, "error": "no"}})
            run.state = RunState(ended=Phase.FAILED, reason="as reported")
            subject.end = ended.status.phase
        case _:
            pass


async def create(api: Api, make: Make, dice: random.Random, number: int) -> Subject:
    kind, token = KINDS[number % 2], dice.randbytes(12)
    made = await make(api, kind, f"run {number}", spec={"callbackToken": base64.b64encode(token).decode()})
    return Subject(kind=kind, id=made.metadata.id, token=token)


async def quiet(api: Api) -> None:
    """Wait until nothing is due."""
    store = api.app.resources.store
    async with asyncio.timeout(60):
        while [delivery async for delivery in outbox.all_due(store)]:  # noqa: ASYNC110 - the store tells of no absence
            await asyncio.sleep(0.02)


def deaf(*_: object) -> None:
    """Hear nothing."""


def check(subject: Subject, runs: MemoryRuns) -> None:
    mine = {id: run for id, run in runs.runs.items() if run.execution == subject.id}
    base = f"stigmer/{subject.kind.replace('_', '-')}/invoke/{subject.id}"
    possible = [base, *(f"{base}/recovery-{number}" for number in range(1, subject.recoveries + 1))]
    assert set(mine) <= set(possible)
    last = mine.get(possible[-1])
    stopped = subject.end in (CANCELLED, {"agent_execution": 8, "workflow_execution": 6}[subject.kind])
    if last is None:
        assert stopped, "an execution that nobody stopped was never started"
    elif subject.end == CANCELLED:
        assert len(last.cancelled) >= 1
    elif stopped:
        assert last.state.ended is Phase.TERMINATED
    else:
        heard = [(name, load.get("payload")) for name, load in last.heard()]
        assert heard == subject.signals
    outcomes = runs.told.get(subject.token, [])
    if subject.end:
        assert outcomes, "whoever waits was never told"
    if outcomes:
        first = outcomes[0]
        # Only the first is heard. It may be told again, where the answer to it was lost; and another end may be told
        # after it where the execution has been recovered meanwhile.
        assert subject.recoveries or all(outcome.phase is first.phase for outcome in outcomes)
        if first.phase is Phase.COMPLETED:
            assert first.execution is not None
            assert first.execution.metadata.id == subject.id
        else:
            assert first.execution is None
            assert subject.id in first.error


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_lost_everything_is_done_once(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(dispatch, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(dispatch, "_LONGEST_DELAY", 0.002)
    dice = random.Random(seed)
    runs = MemoryRuns()
    subjects: list[Subject] = []
    injected = 0
    while injected < INJECTIONS // 4:
        line = Line(runs, dice)
        async with serve(tmp_path, connect_engine=line.connect, log_level="error") as api:
            if dice.random() < 0.2:
                # Killed after the commit and before the engine hears of it.
                monkeypatch.setattr(api.app.resources.engine, "attend", deaf)
            while not line.dead.is_set() and injected + line.injected < INJECTIONS // 4:
                if dice.random() < 0.2:
                    subjects.append(await create(api, make, dice, len(subjects)))
                for subject in dice.sample(subjects, min(len(subjects), 4)):
                    await play(api, runs, subject, dice)
                if dice.random() < 0.02:
                    break
                await asyncio.sleep(0.001)
        injected += line.injected
    async with serve(tmp_path, connect_engine=Line(runs, dice, away=0, death=0).connect) as api:
        await quiet(api)
        waiting = {subject.id for subject in subjects if not subject.end}
        async with asyncio.timeout(30):
            while waiting - {run.execution for run in runs.runs.values()}:  # noqa: ASYNC110 - nor do runs in memory
                await asyncio.sleep(0.02)
        for subject in subjects:
            stored = await api(subject.kind, "get", {"value": subject.id})
            if subject.end:
                assert stored.status.phase == subject.end
    assert injected >= INJECTIONS // 4
    assert len(subjects) > 20
    for subject in subjects:
        check(subject, runs)
