"""What is kept of a session grows with its conversation, and not with its steps."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import aiosqlite
from agent_runner.turn.agent import differences
from agent_runner.turn.journal import Journal, Turn
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph


def _joined(said: list[str], more: Sequence[Any]) -> list[str]:
    return [*said, *(each for some in more for each in some)]


class _State(TypedDict):
    said: Annotated[list[str], DeltaChannel(_joined, list)]
    turns: Annotated[int, add]


def _answer(state: _State) -> dict[str, Any]:
    return {"said": ["a" * 100], "turns": 1}


def _graph(saver: Any) -> Any:
    made: Any = StateGraph(_State)
    for name, before in (("first", START), ("second", "first"), ("third", "second")):
        made.add_node(name, _answer)
        made.add_edge(before, name)
    made.add_edge("third", END)
    return made.compile(checkpointer=saver)


async def _take(journal: Journal, execution: str) -> Any:
    """Take a turn of three steps; gives the state after it."""
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    async with (
        journal.hold(Turn(thread="t", execution=execution, attempt=1)) as lease,
        journal.checkpoints(lease) as saver,
    ):
        graph = _graph(saver)
        await graph.ainvoke({"said": [execution]}, config, durability="sync")
        await saver.settle(differences(graph, (await graph.aget_state(config)).values))
        return (await graph.aget_state(config)).values


async def _bytes(path: Path) -> int:
    sql = "SELECT (SELECT SUM(LENGTH(checkpoint)) FROM checkpoints), (SELECT SUM(LENGTH(value)) FROM writes)"
    async with aiosqlite.connect(path) as connection, connection.execute(sql) as cursor:
        row: Any = await cursor.fetchone()
        return sum(int(each or 0) for each in row)


async def test_two_hundred_turns_take_twice_as_much_as_one_hundred(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    values: Any = None
    async with Journal.open(path) as journal:
        for number in range(100):
            await _take(journal, f"question {number}")
        half = await _bytes(path)
        for number in range(100, 200):
            values = await _take(journal, f"question {number}")
        whole = await _bytes(path)

    said: list[str] = values["said"]
    assert [each for each in said if each.startswith("q")] == [f"question {n}" for n in range(200)]
    assert (len(said), values["turns"]) == (800, 600)
    assert whole < 2.2 * half
    assert whole < 1.5 * sum(map(len, said))
