"""Tools with effects, across attempts of one turn: run by a real graph over the real journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agent_runner.errors import SupersededError
from agent_runner.models.catalog import ModelCatalog, ModelSettings
from agent_runner.models.prices import Prices
from agent_runner.turn.agent import build_agent
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.effects import Effect
from agent_runner.turn.events import Event, Noticed, ToolFinished
from agent_runner.turn.gate import Gate
from agent_runner.turn.inbox import Inbox
from agent_runner.turn.journal import Journal, Lease, Turn
from agent_runner.turn.middleware import TurnContext
from agent_runner.turn.usage import Budget, Meter, Usage
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, tool
from stigmer_protos.descriptors import message_type

SCRIPT = """
turns:
  - {text: Paying., tool_calls: [{name: pay, args: {amount: 5}}]}
  - {text: "Result: $result"}
"""


@dataclass
class Till:
    """A tool with an effect, which can be held while it runs."""

    paid: list[int] = field(default_factory=list[int])
    started: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def tool(self) -> BaseTool:
        async def pay(amount: int) -> str:
            """Pay an amount."""
            self.paid.append(amount)
            self.started.set()
            await self.go_on.wait()
            return f"paid {amount}"

        return tool(pay)


@dataclass
class Attempt:
    """One attempt at the turn."""

    graph: Any
    lease: Lease
    events: list[Event]
    config: Any = field(default_factory=lambda: {"configurable": {"thread_id": "t"}})

    async def run(self) -> str:
        state = await self.graph.aget_state(self.config)
        given = None if state.values else {"messages": [HumanMessage("Pay", id="e")]}
        result = await self.graph.ainvoke(given, self.config, durability="sync")
        return str(result["messages"][-1].text)


@asynccontextmanager
async def attempt(folder: Path, till: Till, number: int, **effects: Effect) -> AsyncGenerator[Attempt]:
    """One attempt, as a worker of its own makes it."""
    (folder / "pay.yaml").write_text(SCRIPT)
    models = ModelCatalog(ModelSettings(provider="scripted", model="pay", scripts=folder))
    events: list[Event] = []

    async def settle() -> None:
        pass

    async with (
        Journal.open(folder / "journal.db") as journal,
        journal.hold(Turn(thread="t", execution="e", attempt=number)) as lease,
        journal.checkpoints(lease) as saver,
    ):
        graph = build_agent(
            AgentDefinition(name="payer", instructions="Pay."),
            models=models,
            choices=models.choose_all((), environment={}),
            context=TurnContext(
                execution="e",
                thread="t",
                ledger=lease,
                observe=events.append,
                settle=settle,
                inbox=Inbox(message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionStatus")()),
                gate=Gate(policies=(), observe=events.append),
                meter=Meter(record=lease, prices=Prices.load(), budget=Budget(), used=Usage()),
                effects=effects,
            ),
            checkpointer=saver,
            tools=(till.tool(),),
        )
        yield Attempt(graph=graph, lease=lease, events=events)


async def _interrupted(folder: Path, till: Till, **effects: Effect) -> None:
    """An attempt that dies while the tool runs."""
    async with attempt(folder, till, 1, **effects) as first:
        running = asyncio.create_task(first.run())
        async with asyncio.timeout(10):
            await till.started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    till.go_on.set()


async def test_an_undisturbed_tool_runs_once(tmp_path: Path) -> None:
    till = Till()
    till.go_on.set()
    async with attempt(tmp_path, till, 1) as only:
        assert await only.run() == "Result: paid 5"
    assert till.paid == [5]


async def test_a_tool_that_was_interrupted_is_not_run_again_and_everyone_is_told(tmp_path: Path) -> None:
    till = Till()
    await _interrupted(tmp_path, till)
    async with attempt(tmp_path, till, 2) as second:
        said = await second.run()

    assert till.paid == [5]
    assert "not known" in said
    assert [event.failed for event in second.events if isinstance(event, ToolFinished)] == [True]
    assert [event for event in second.events if isinstance(event, Noticed)]


async def test_a_repeatable_tool_that_was_interrupted_runs_again(tmp_path: Path) -> None:
    till = Till()
    await _interrupted(tmp_path, till, pay=Effect.REPEATABLE)
    async with attempt(tmp_path, till, 2, pay=Effect.REPEATABLE) as second:
        assert await second.run() == "Result: paid 5"
    assert till.paid == [5, 5]


async def test_a_tool_that_finished_before_its_checkpoint_gives_its_recorded_result(tmp_path: Path) -> None:
    till = Till()
    async with attempt(tmp_path, till, 1) as first:
        running = asyncio.create_task(first.run())
        async with asyncio.timeout(10):
            await till.started.wait()
        # Another attempt takes the thread: the tool's result is still recorded, its checkpoint is refused.
        async with attempt(tmp_path, till, 2) as second:
            till.go_on.set()
            with pytest.raises(SupersededError):
                await running
            assert await second.run() == "Result: paid 5"
    assert till.paid == [5]


async def test_an_execution_that_is_over_leaves_no_effects(tmp_path: Path) -> None:
    till = Till()
    await _interrupted(tmp_path, till)
    async with Journal.open(tmp_path / "journal.db") as journal:
        await journal.forget_effects("e")
    async with attempt(tmp_path, till, 2) as second:
        assert await second.run() == "Result: paid 5"
    assert till.paid == [5, 5]


async def test_a_tool_that_raises_is_a_failed_call_and_not_a_failed_run(tmp_path: Path) -> None:
    class Broken(Till):
        def tool(self) -> BaseTool:
            async def pay(amount: int) -> str:
                """Pay an amount."""
                raise OSError(f"no {amount} left")

            return tool(pay)

    async with attempt(tmp_path, Broken(), 1) as only:
        assert await only.run() == "Result: Error: no 5 left"
        (finished,) = [event for event in only.events if isinstance(event, ToolFinished)]
        assert finished.failed


async def test_a_thread_is_held_by_one_execution_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    async with Journal.open(tmp_path / "a.db") as one, Journal.open(tmp_path / "a.db") as two:

        async def second() -> None:
            async with two.hold(Turn(thread="t", execution="second", attempt=1), poll=0.01):
                order.append("second")

        async with one.hold(Turn(thread="t", execution="first", attempt=1)) as lease:
            waiting = asyncio.create_task(second())
            await lease.renew()
            async with two.hold(Turn(thread="other", execution="second", attempt=1)):
                order.append("other thread")
            order.append("first")
        async with asyncio.timeout(10):
            await waiting
    assert order == ["other thread", "first", "second"]


async def test_a_later_attempt_takes_the_thread_and_an_earlier_one_cannot_take_it_back(tmp_path: Path) -> None:
    first, second = (Turn(thread="t", execution="e", attempt=number) for number in (1, 2))
    async with (
        Journal.open(tmp_path / "a.db") as journal,
        journal.hold(first) as old,
        journal.hold(second) as new,
    ):
        await new.check()
        with pytest.raises(SupersededError):
            await old.check()
        with pytest.raises(SupersededError):
            await old.renew()
        with pytest.raises(SupersededError):
            async with journal.hold(first):
                pass


async def test_a_thread_whose_holder_died_is_free_after_its_lease(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with (
        asyncio.timeout(10),
        Journal.open(path, lease_seconds=0.2) as dead,
        Journal.open(path) as alive,
        dead.hold(Turn(thread="t", execution="first", attempt=1)),
        alive.hold(Turn(thread="t", execution="second", attempt=1), poll=0.01) as lease,
    ):
        await lease.check()
