"""What becomes of a run when something goes wrong that nobody thought of, or another attempt has the turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from agent_runner.activities import AgentActivities
from agent_runner.cloud import CloudActivities
from agent_runner.contract import FAILED, PAUSED, ResolvedRun, RunEnd, RunInput
from agent_runner.errors import JournalError, SupersededError
from agent_runner.turn.failures import classify
from agent_runner.turn.journal import Journal
from agent_runner.turn.turn import TransientError
from agent_runner.workspace.daytona.api import DaytonaError
from stigmer_protos.descriptors import message_type
from stigmer_runner.contract import answer_of
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

EXECUTION = "ai.stigmer.agentic.agentexecution.v1.AgentExecution"
SECRET = "sk-said-by-somebody"
RUN = ResolvedRun(
    execution_id="aex-1", org="", session_id="ses-1", thread="thread-ses-1", agent_instance_id="", agent_id="",
    turn_seconds=60,
)  # fmt: skip


class Server:
    """A server that has one execution."""

    def __init__(self, phase: int = 2, fault: Exception | None = None) -> None:
        self.kept: Any = message_type(EXECUTION)()
        self.kept.metadata.id = RUN.execution_id
        self.kept.status.phase = phase
        self.reports: list[Any] = []
        self._fault = fault

    async def resolve(self, *_: Any, **__: Any) -> ResolvedRun:
        if self._fault is not None:
            raise self._fault
        return RUN

    async def execution(self, _: str) -> Any:
        return self.kept

    async def report(self, _: str, status: Any) -> Any:
        self.reports.append(status)
        return self.kept


class Turns:
    """Turns that end as the test says."""

    def __init__(self, fault: Exception, *, stopped: bool = False) -> None:
        self._fault = fault
        self._stopped = stopped
        self.begun = asyncio.Event()

    async def take(self, _: ResolvedRun, *, attempt: int, stop: asyncio.Event) -> Any:
        self.begun.set()
        if self._stopped:
            await stop.wait()
        raise self._fault


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncGenerator[Journal]:
    async with Journal.open(tmp_path / "journal.db") as journal:
        yield journal


def activities(server: Any, turns: Any, journal: Journal) -> AgentActivities:
    return AgentActivities(resources=server, turns=turns, journal=journal, turn_seconds=60)


def check_told_once(error: ApplicationError) -> None:
    assert error.non_retryable
    assert error.message == "the run failed inside the runner (AttributeError); its log tells more"
    assert error.__cause__ is None
    assert error.__suppress_context__


async def test_a_fault_in_a_turn_ends_it_and_is_told_without_its_own_words(journal: Journal) -> None:
    made = activities(Server(), Turns(AttributeError(SECRET)), journal)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(made.turn, RUN)
    check_told_once(caught.value)


async def test_a_fault_while_a_run_is_resolved_ends_it(journal: Journal) -> None:
    made = activities(Server(fault=AttributeError(SECRET)), Turns(AttributeError(SECRET)), journal)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(made.resolve, RunInput(RUN.execution_id))
    check_told_once(caught.value)


async def test_an_end_is_told_before_what_can_go_wrong_here(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    async def broken(_: str) -> None:
        raise AttributeError(SECRET)

    monkeypatch.setattr(journal, "forget_effects", broken)
    made = activities(server, Turns(AttributeError(SECRET)), journal)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(made.finish, RunEnd(execution_id=RUN.execution_id, phase=FAILED, error="why"))
    check_told_once(caught.value)
    assert [status.error for status in server.reports] == ["why"]


async def test_a_fault_fails_the_run_of_a_server_that_drives_it_itself(journal: Journal) -> None:
    server = Server()
    made = activities(server, Turns(AttributeError(SECRET)), journal)
    await drive(made, server)
    (told,) = server.reports
    assert told.error == "the run failed inside the runner (AttributeError); its log tells more"


async def test_an_attempt_that_another_has_replaced_tells_no_end(journal: Journal) -> None:
    server = Server()
    made = activities(server, Turns(SupersededError("another attempt runs this turn now")), journal)
    with pytest.raises(ApplicationError, match="another attempt"):
        await drive(made, server)
    assert server.reports == []


async def drive(made: AgentActivities, server: Any) -> None:
    cloud = CloudActivities(made, server, None, most_bytes=10**6)
    await ActivityEnvironment().run(cloud.execute, answer_of(server.kept, most_bytes=10**6), RUN.thread)


async def test_a_pause_while_the_model_fails_is_a_pause(journal: Journal) -> None:
    turns = Turns(TransientError(JournalError("locked")), stopped=True)
    made = activities(Server(phase=phase_number(PAUSED)), turns, journal)
    environment = ActivityEnvironment()
    running = asyncio.create_task(environment.run(made.turn, RUN))
    await asyncio.wait_for(turns.begun.wait(), 10)
    environment.cancel(ActivityCancellationDetails(cancel_requested=True))
    result = await asyncio.wait_for(running, 10)
    assert result.phase == PAUSED


def phase_number(name: str) -> int:
    status: Any = message_type(f"{EXECUTION}Status")()
    return int(status.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name[name].number)


def test_a_workspace_that_is_away_is_not_told_as_the_model() -> None:
    away = DaytonaError(f"Daytona cannot be reached: {SECRET}")
    away.__cause__ = ConnectionError(SECRET)
    known = classify(away, model="openai:test")
    assert known is not None
    assert (known.transient, known.code, known.summary) == (
        True, "WorkspaceUnavailable", "the agent's workspace cannot be used",
    )  # fmt: skip
    assert str(known) == f"the agent's workspace cannot be used: {away}"
