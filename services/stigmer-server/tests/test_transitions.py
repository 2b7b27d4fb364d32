"""The table of phase changes: what it can never allow, and that every path keeps to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stigmer_grpc import FailedPreconditionError

from stigmer_server.engine.port import Standing, Work
from stigmer_server.kinds import registry
from stigmer_server.ledger import Executions
from stigmer_server.testing import Api, serve
from stigmer_server.transitions import ENDED, LENIENT, TRANSITIONS, UNENDED, Cause, Phase, Verdict, judge

Make = Callable[..., Awaitable[Any]]
KINDS = ["agent_execution", "workflow_execution"]
causes, phases = st.sampled_from(Cause), st.sampled_from(Phase)
EXPECTED_TARGETS = {
    Cause.CANCEL: Phase.CANCELLED,
    Cause.TERMINATE: Phase.TERMINATED,
    Cause.PAUSE: Phase.PAUSED,
    Cause.RESUME: Phase.IN_PROGRESS,
    Cause.RECOVER: Phase.PENDING,
    Cause.EXPIRED: Phase.FAILED,
    Cause.START_FAILED: Phase.FAILED,
}


@given(st.lists(st.tuples(causes, phases), max_size=60))
def test_what_has_ended_stays_ended_whatever_comes_except_that_a_failure_is_recovered(wishes: list[Any]) -> None:
    now = Phase.PENDING
    for cause, wanted in wishes:
        before = now
        if judge(cause, now, wanted) is Verdict.CHANGE:
            now = wanted
        if before in ENDED and now is not before:
            assert (before, cause, now) == (Phase.FAILED, Cause.RECOVER, Phase.PENDING)


@given(causes, phases, phases)
def test_a_wish_changes_the_phase_to_what_the_table_says_or_not_at_all(cause: Cause, now: Phase, wanted: Phase) -> None:
    verdict = judge(cause, now, wanted)
    allowed = wanted in TRANSITIONS[cause].get(now, ())
    assert (verdict is Verdict.CHANGE) == (allowed and now is not wanted)
    assert verdict is not Verdict.REFUSE or cause not in LENIENT
    assert verdict is not Verdict.IGNORE or cause in LENIENT


@given(causes, phases)
def test_asking_twice_is_asking_once(cause: Cause, now: Phase) -> None:
    wanted = EXPECTED_TARGETS.get(cause, Phase.FAILED)
    if cause is not Cause.RECOVER and judge(cause, now, wanted) is Verdict.CHANGE:
        assert judge(cause, wanted, wanted) is Verdict.SAME


def test_every_phase_can_be_left_for_an_end_and_reached_from_the_beginning() -> None:
    steps = {(now, then) for table in TRANSITIONS.values() for now, targets in table.items() for then in targets}
    reached = {Phase.PENDING}
    while more := {then for now, then in steps if now in reached} - reached:
        reached |= more
    assert reached == set(Phase)
    assert all(any((now, end) in steps for end in ENDED) for now in UNENDED)


@pytest.mark.parametrize("name", KINDS)
def test_every_phase_of_the_contract_has_its_name_in_the_table(name: str) -> None:
    kind = registry()[name]
    status = kind.type().status
    numbers = {value.number for value in status.DESCRIPTOR.fields_by_name["phase"].enum_type.values} - {0}
    seen: set[Phase] = set()
    for number in numbers:
        status.phase = number
        seen.add(kind.phase_of(status))
        assert kind.phase_number(kind.phase_of(status)) == number
    assert seen == set(Phase) - ({Phase.WAITING_FOR_APPROVAL} if name == "workflow_execution" else set())


class Model:
    """One execution of a real server, and what the table says of it."""

    def __init__(self, api: Api, kind: str, made: Any) -> None:
        self.api, self.name, self.id = api, kind, made.metadata.id
        self.kind = registry()[kind]
        self.ledger = Executions(api.app.resources)
        self.begun = self.recovered = False

    async def phase(self) -> Phase:
        return self.kind.phase_of((await self.api(self.name, "get", {"value": self.id})).status)

    async def wish(self, cause: Cause, wanted: Phase) -> None:
        """Let a cause come by its real way."""
        message = await self.api(self.name, "get", {"value": self.id})
        run = self.kind.run_id(self.id, message.status.recoveries)
        standing = Standing(
            kind=self.kind,
            id=self.id,
            run=run,
            phase=Phase.PENDING,
            reason="",
            created=0,
            recovered=self.recovered,
            begun=self.begun,
        )
        match cause:
            case Cause.REPORT:
                status = {"phase": f"EXECUTION_{wanted}"}
                await self.api(self.name, "updateStatus", {"executionId": self.id, "status": status})
            case Cause.START_FAILED:
                work = Work(kind=self.kind, id=self.id, run=run, org="", phase=Phase.PENDING, deliveries=())
                await self.ledger.start_failed(work, "no")
            case Cause.LOST:
                await self.ledger.lost(standing, wanted, "gone")
            case Cause.EXPIRED:
                await self.ledger.expire(standing, "too late")
            case _:
                request = {"id": self.id, "reason": "because"}
                await self.api(self.name, cause.value, request)


def _wanted(model: Model, cause: Cause, wish: Phase) -> Phase | None:
    """What a cause can want; None where it has no way to say so."""
    if cause is Cause.RESUME:
        return Phase.IN_PROGRESS if model.begun else Phase.PENDING
    if cause in EXPECTED_TARGETS:
        return EXPECTED_TARGETS[cause]
    if cause is Cause.LOST and wish not in (Phase.FAILED, Phase.CANCELLED, Phase.TERMINATED):
        return None
    if model.name == "workflow_execution" and wish is Phase.WAITING_FOR_APPROVAL:
        return None
    return wish


async def _follow_the_table(api: Api, make: Make, kind: str, name: str, wishes: list[tuple[Cause, Phase]]) -> None:
    model = Model(api, kind, await make(api, kind, name))
    now = Phase.PENDING
    for cause, wish in wishes:
        wanted = _wanted(model, cause, wish)
        if wanted is None:
            continue
        verdict = judge(cause, now, wanted)
        if cause is Cause.RECOVER and model.recovered and now not in ENDED:
            verdict = Verdict.SAME
        if verdict is Verdict.REFUSE:
            with pytest.raises(FailedPreconditionError):
                await model.wish(cause, wanted)
        else:
            await model.wish(cause, wanted)
        if verdict is Verdict.CHANGE:
            model.begun = model.begun or wanted is Phase.IN_PROGRESS
            model.recovered = model.recovered or cause is Cause.RECOVER
            now = wanted
        assert await model.phase() is now, f"{cause} {wanted} -> {verdict}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_path_keeps_to_the_table(tmp_path: Path, make: Make, kind: str) -> None:
    with asyncio.Runner() as runner:
        server = serve(tmp_path)
        api = runner.run(server.__aenter__())
        number = 0

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.tuples(causes, phases), max_size=12))
        def check(wishes: list[tuple[Cause, Phase]]) -> None:
            nonlocal number
            number += 1
            runner.run(_follow_the_table(api, make, kind, f"run {number}", wishes))

        try:
            check()
        finally:
            runner.run(server.__aexit__(None, None, None))
