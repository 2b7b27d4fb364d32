"""The worker of agents killed at any moment of their runs: each goes on, and no finished call is made again."""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, client_of, enum_name, phase, run_stack
from stigmer_runner.testing import temporal_server

SHORT, FULL = 3, 100
TOGETHER = 5
"""Runs in progress when a worker is killed, each somewhere else."""
MAIN = "You are the main agent."
HELPERS = {"first": "You are the first helper.", "second": "You are the second helper."}
MODEL_CALLS = 16
"""Of an undisturbed run: ten of the main agent, and three of each helper."""
THINKS_SECONDS = 0.15
UNKNOWN = "was not run again"


def note(who: str, number: int) -> tuple[str, dict[str, Any]]:
    """A call with an effect that a second run would double."""
    return "execute", {"command": f"echo {who}-{number} >> /workspace/ledger.txt; cat /workspace/ledger.txt | wc -l"}


def conversation(server: OpenAIServer) -> None:
    """Ten steps, of which one gives work to two sub-agents at once."""
    tasks = [("task", {"subagent_type": name, "description": f"Help {name}"}) for name in HELPERS]
    server.replies[MAIN] = [
        {"text": "Planning.", "tool_calls": [("write_todos", {"todos": [{"content": "a", "status": "pending"}]})]},
        {"tool_calls": [note("main", 1)]},
        {"tool_calls": [("write_file", {"file_path": "/a.txt", "content": "a"})]},
        {"text": "Asking both.", "tool_calls": tasks},
        {"tool_calls": [note("main", 2), ("read_file", {"file_path": "/a.txt"})]},
        {"tool_calls": [("ls", {"path": "/"})]},
        {"tool_calls": [note("main", 3)]},
        {"tool_calls": [("glob", {"pattern": "*.txt", "path": "/"})]},
        {"tool_calls": [note("main", 4)]},
        {"text": "The end."},
    ]
    for name, instructions in HELPERS.items():
        server.replies[instructions] = [
            {"tool_calls": [note(name, 1)]},
            {"tool_calls": [note(name, 2)]},
            {"text": f"Helped {name}."},
        ]


NOTES = (("main", 4), ("first", 2), ("second", 2))
EFFECTS = {f"{who}-{number}" for who, count in NOTES for number in range(1, count + 1)}


@dataclass(slots=True, kw_only=True)
class Found:
    """What the campaign found."""

    killed: int = 0
    repeated: int = 0
    unknown: int = 0
    seconds: list[float] = field(default_factory=list[float])


@pytest.fixture(scope="module")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with temporal_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
async def stigmer(temporal: str, tmp_path: Path) -> AsyncIterator[Stigmer]:
    async with run_stack(tmp_path / "stack", temporal) as stack, client_of(stack) as client:
        yield client


@pytest.fixture
def model() -> Iterator[OpenAIServer]:
    server = OpenAIServer()
    conversation(server)
    server.delay = THINKS_SECONDS
    yield server
    server.close()


async def run_one(stigmer: Stigmer, agent: str, model: OpenAIServer, name: str, wait: float) -> tuple[Any, float]:
    """Run the agent after a while; the status in the end, and how long it took. The key tells whose calls are whose."""
    await asyncio.sleep(wait)
    begun = perf_counter()
    execution = await stigmer.execute(
        agent,
        "Go",
        model="openai:test",
        env={"OPENAI_BASE_URL": model.url},
        secrets={"OPENAI_API_KEY": f"sk-{name}"},
    )
    status = await stigmer.finish(execution.metadata.id, seconds=120)
    return status, perf_counter() - begun


def prompts(model: OpenAIServer, name: str) -> Counter[str]:
    """How often each prompt of a run was sent: by which agent, and how far its conversation had got."""
    return Counter(
        f"{model.system(body).partition(chr(10))[0]} {len(body['messages'])}"
        for body, key in zip(model.calls, model.keys, strict=True)
        if key == f"sk-{name}"
    )


def ledgers(stigmer: Stigmer) -> dict[str, list[str]]:
    """What the runs' tools wrote down, by workspace."""
    return {
        path.parent.name: path.read_text().split() for path in (stigmer.stack.data / "workspaces").rglob("ledger.txt")
    }


def check(model: OpenAIServer, status: Any, name: str, found: Found) -> None:
    """Hold one run against an undisturbed one."""
    assert phase(status) == "EXECUTION_COMPLETED", status.error
    said = [each.content for each in status.messages if enum_name(each, "type") == "MESSAGE_AI" and each.content]
    assert said == ["Planning.", "Asking both.", "The end."]
    sent = prompts(model, name)
    assert len(sent) == MODEL_CALLS
    # A kill costs the call in flight: one of the main agent, or one of each helper, as they work side by side.
    again = Counter({prompt: count - 1 for prompt, count in sent.items() if count > 1})
    assert max(again.values(), default=0) <= 1, again
    assert len(again) <= len(HELPERS), again
    found.repeated += again.total()
    # What a lost answer had asked for is gone from the status, and what was called is in it as it ended.
    calls = Counter(call.name for call in status.tool_calls)
    assert {enum_name(call, "status") for call in status.tool_calls} <= {"TOOL_CALL_COMPLETED", "TOOL_CALL_FAILED"}
    assert calls == Counter(write_todos=1, execute=8, write_file=1, task=2, read_file=1, ls=1, glob=1)
    unknown = [call for call in status.tool_calls if UNKNOWN in f"{call.result}{call.error}"]
    assert len(unknown) <= len(HELPERS), unknown
    found.unknown += len(unknown)


async def test_a_killed_worker_repeats_no_finished_call_and_doubles_no_effect(
    stigmer: Stigmer, model: OpenAIServer, rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    moments = rounds(short=SHORT, full=FULL)
    seeded = random.Random(20261130)
    sub_agents = [
        {"name": name, "description": f"Helps as the {name}.", "instructions": instructions}
        for name, instructions in HELPERS.items()
    ]
    agent = await stigmer.agent(MAIN, sub_agents=sub_agents)
    worker = await stigmer.stack.start_runner()
    undisturbed = [await run_one(stigmer, agent, model, f"undisturbed-{number}", 0) for number in range(2)]
    nothing = Found()
    for number, (status, _) in enumerate(undisturbed):
        check(model, status, f"undisturbed-{number}", nothing)
    assert (nothing.repeated, nothing.unknown) == (0, 0)
    length = min(seconds for _, seconds in undisturbed)
    found, batch = Found(), 0
    while found.killed < moments:
        batch += 1
        count = min(TOGETHER, moments - found.killed)
        # The kill comes when the earliest is near its end, and the others anywhere before.
        names = [f"{batch}-{number}" for number in range(count)]
        waits = [seeded.uniform(0, length) for _ in range(count)]
        runs = [
            asyncio.create_task(run_one(stigmer, agent, model, name, wait))
            for name, wait in zip(names, waits, strict=True)
        ]
        await asyncio.sleep(length)
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
        worker = await stigmer.stack.start_runner()
        for name, (status, seconds) in zip(names, await asyncio.gather(*runs), strict=True):
            check(model, status, name, found)
            found.seconds.append(seconds)
            found.killed += 1
    lines = ledgers(stigmer)
    assert len(lines) == moments + len(undisturbed)
    # No effect is there twice; one is missing only where everybody was told that its outcome is not known.
    assert all(len(set(ledger)) == len(ledger) and set(ledger) <= EFFECTS for ledger in lines.values()), lines
    assert sum(len(EFFECTS) - len(ledger) for ledger in lines.values()) <= found.unknown
    more = sorted(seconds - length for seconds in found.seconds)
    figures(
        kills=found.killed,
        model_calls=len(model.calls),
        repeated=found.repeated,
        effects=sum(map(len, lines.values())),
        unknown_outcomes=found.unknown,
        undisturbed=f"{length:.1f} s",
        more=f"{statistics.median(more):.1f} s at the median, {more[-1]:.1f} s at most",
    )
