"""Large executions, which are stored in parts: they must not differ from others in anything but what a report costs."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_protos import descriptors, workflow_execution
from stigmer_sqlite import Record, SqliteStore

from stigmer_server import encoding, parts
from stigmer_server.kinds import registry
from stigmer_server.messages import Message, to_plain
from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
KINDS = ["workflow_execution", "agent_execution"]
NEVER = 1 << 30


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say from which size on executions are divided."""
    return lambda size: monkeypatch.setattr(parts, "SPLIT_BYTES", size)


def workflow_report(chance: random.Random) -> dict[str, Any]:
    def task() -> dict[str, Any]:
        number = chance.randrange(12)
        found: dict[str, Any] = {"taskId": f"/do/{number}", "taskName": f"task {number}"}
        found["status"] = chance.choice(["WORKFLOW_TASK_IN_PROGRESS", "WORKFLOW_TASK_COMPLETED"])
        if chance.random() < 0.7:
            found["outputValue"] = {"n": chance.random(), "text": "ü" * chance.randrange(50), "list": [1, None, True]}
        if chance.random() < 0.1:
            del found["taskId"]  # as runners report that know no ids
        return found

    status: dict[str, Any] = {"tasks": [task() for _ in range(chance.randrange(4))]}
    if chance.random() < 0.3:
        status["phase"] = "EXECUTION_IN_PROGRESS"
    if chance.random() < 0.2:
        status["output"] = {"so": "far"}
    return status


def agent_report(chance: random.Random) -> dict[str, Any]:
    def call(number: int) -> dict[str, Any]:
        return {"id": f"c{number}", "name": "search", "status": "TOOL_CALL_RUNNING", "args": {"q": chance.random()}}

    status: dict[str, Any] = {"phase": "EXECUTION_IN_PROGRESS"} if chance.random() < 0.5 else {}
    if chance.random() < 0.5:
        texts = [f"message {n}" if chance.random() < 0.9 else "changed" for n in range(chance.randrange(8))]
        status["messages"] = [{"type": "MESSAGE_AI", "content": text, "toolCalls": [call(9)]} for text in texts]
    if chance.random() < 0.3:
        status["toolCalls"] = [call(number) for number in range(chance.randrange(5))]
    if chance.random() < 0.3:
        status["subAgentExecutions"] = [{"id": "s1", "name": "helper", "status": "SUB_AGENT_IN_PROGRESS"}]
    if chance.random() < 0.3:
        status["todos"] = {"t1": {"id": "t1", "content": str(chance.random())}}
    return status


REPORTS = {"workflow_execution": workflow_report, "agent_execution": agent_report}


async def update(api: Api, kind: str, execution: Message, status: dict[str, Any], **options: Any) -> Message:
    return await api(kind, "updateStatus", {"executionId": execution.metadata.id, "status": status}, **options)


def told(execution: Message) -> Any:
    """What an execution says, without what differs between any two."""
    return without_times(to_plain(execution.status))


def without_times(status: dict[str, Any]) -> dict[str, Any]:
    for said in (status, *status.get("tasks", ())):
        for name in ("audit", "startedAt", "completedAt", "temporalWorkflowId"):
            said.pop(name, None)
    return status


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
async def test_an_execution_in_parts_says_what_one_in_a_piece_says(
    tmp_path: Path, make: Make, split: Callable[[int], None], kind: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with serve(tmp_path) as api:
        parted, entire = await make(api, kind, "parted"), await make(api, kind, "entire")
        reports = [REPORTS[kind](chance) for _ in range(25)]
        reports += [{"phase": chance.choice(["EXECUTION_COMPLETED", "EXECUTION_FAILED"])}, REPORTS[kind](chance)]
        for status in reports:
            split(chance.choice([0, 0, 0, NEVER]))
            one = await update(api, kind, parted, status)
            split(NEVER)
            other = await update(api, kind, entire, status)
            assert told(one) == told(other)
            assert told(await api(kind, "get", {"value": parted.metadata.id})) == told(other)
    stored = documents(tmp_path)
    one, other = (stored[execution.metadata.id]["status"] for execution in (parted, entire))
    assert without_times(one) == without_times(other)


def documents(folder: Path) -> dict[str, Any]:
    database = sqlite3.connect(folder / "stigmer.db")
    found = {id: json.loads(data) for id, data in database.execute("SELECT id, data FROM documents")}
    database.close()
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_every_way_to_read_an_execution_gives_all_of_it(
    tmp_path: Path, make: Make, split: Callable[[int], None], kind: str
) -> None:
    split(0)
    path = "tasks" if kind == "workflow_execution" else "messages"
    key = "executionId" if kind == "workflow_execution" else "value"
    elements = [{"taskId": str(n)} if path == "tasks" else {"content": str(n)} for n in range(30)]
    async with serve(tmp_path) as api:
        made = await make(api, kind)
        async with api.stream(kind, "subscribe", {key: made.metadata.id}) as states:
            await anext(states)
            answer = await update(api, kind, made, {path: elements})
            streamed = await anext(states)
        got = await api(kind, "get", {"value": made.metadata.id})
        (listed,) = (await api(kind, "list", {})).entries
        for found in (answer, streamed, got, listed):
            assert found.metadata.id == made.metadata.id
            assert len(getattr(found.status, path)) == 30
            assert found == got
        gone = await api(kind, "delete", {"value": made.metadata.id})
        assert gone == got
    assert documents(tmp_path).get(made.metadata.id) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_report_writes_only_the_parts_it_changes(
    tmp_path: Path, make: Make, split: Callable[[int], None], kind: str
) -> None:
    split(0)
    path = "tasks" if kind == "workflow_execution" else "messages"

    def elements(changed: int, text: str) -> list[dict[str, Any]]:
        texts = [text if n == changed else f"first {n}" for n in range(20)]
        return [
            {"taskId": f"t{n}", "taskName": texts[n]} if path == "tasks" else {"content": texts[n]} for n in range(20)
        ]

    async with serve(tmp_path) as api:
        made = await make(api, kind)
        await update(api, kind, made, {path: elements(0, "first 0")})
        database = sqlite3.connect(tmp_path / "stigmer.db")
        database.execute("UPDATE resource_parts SET data = json_object('untouched', json(data))")
        database.commit()
        some = elements(7, "changed")
        await update(api, kind, made, {path: some[7:8] if path == "tasks" else some})
        await update(api, kind, made, {"error": "something else"})
        rows = database.execute("SELECT position, data LIKE '%untouched%' FROM resource_parts").fetchall()
        database.close()
    assert dict(rows) == {position: int(position != 7) for position in range(20)}


async def test_states_that_nobody_is_ready_for_are_not_loaded(
    tmp_path: Path, make: Make, split: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    split(0)
    loaded = 0
    get = SqliteStore.get

    async def counted(store: SqliteStore, kind: str, id: str) -> Record:
        nonlocal loaded
        loaded += kind == "agent_execution"
        return await get(store, kind, id)

    async with serve(tmp_path, transport="tcp") as api:
        made = await make(api, "agent_execution")
        await update(api, "agent_execution", made, {"messages": [{"content": "x" * 1_000_000}]})
        stalled = api.stream("agent_execution", "subscribe", {"value": made.metadata.id})
        monkeypatch.setattr(SqliteStore, "get", counted)
        for number in range(50):
            await update(api, "agent_execution", made, {"error": str(number)})
        ended = await update(api, "agent_execution", made, {"phase": "EXECUTION_COMPLETED"})
        # A connection takes some states until it is full; of the others, only the last is loaded.
        assert loaded < 25
        async with asyncio.timeout(20):
            assert [state async for state in stalled][-1] == ended
        assert loaded < 30


async def test_a_minimal_answer_has_metadata_and_phase_and_no_more(tmp_path: Path, make: Make) -> None:
    minimal = {"x-stigmer-return": "minimal"}
    async with serve(tmp_path) as api:
        made = await make(api, "workflow_execution", spec={"runtimeEnv": {"KEY": {"value": "x", "isSecret": True}}})
        status = {"phase": "EXECUTION_IN_PROGRESS", "tasks": [{"taskId": "1", "taskName": "x" * 20_000}]}
        answer = await update(api, "workflow_execution", made, status, metadata=minimal)
        told = await api("workflow_execution", "get", {"value": made.metadata.id})
        assert answer.metadata == told.metadata
        assert [field.name for field, _ in answer.ListFields()] == ["api_version", "kind", "metadata", "status"]
        assert [field.name for field, _ in answer.status.ListFields()] == ["phase"]
        late = await update(api, "workflow_execution", made, {"tasks": [{"taskId": "2"}]}, metadata=minimal)
        assert late == answer
        assert len((await api("workflow_execution", "get", {"value": made.metadata.id})).status.tasks) == 2


async def test_a_new_specification_of_a_large_execution_is_kept_whole_in_its_history(
    tmp_path: Path, make: Make, split: Callable[[int], None]
) -> None:
    split(0)
    async with serve(tmp_path) as api:
        made = await make(api, "agent_execution")
        await update(api, "agent_execution", made, {"messages": [{"content": "kept"}]})
        changed = await api("agent_execution", "get", {"value": made.metadata.id})
        changed.metadata.labels["team"] = "blue"
        changed = await api("agent_execution", "update", changed)
        entry = await api.app.resources.store.archived("agent_execution", made.metadata.id, number=2)
        assert registry()["agent_execution"].parse(entry.wire or b"") == changed
        assert json.loads(entry.data)["status"]["messages"] == [{"content": "kept"}]


def test_typed_messages_read_what_was_put_together() -> None:
    kind = registry()["workflow_execution"]
    message = kind.type()
    message.status.phase = 2
    message.status.audit.spec_audit.event = "created"
    head = message.SerializeToString()
    task = type(message.status)()
    task.tasks.add(task_id="a")
    whole = encoding.extended(head, 5, task.SerializeToString() * 3)
    typed = workflow_execution.WorkflowExecution.parse(whole)
    assert typed.status is not None
    assert typed.status.phase == 2
    assert [each.task_id for each in typed.status.tasks] == ["a"] * 3
    assert kind.parse(whole).status.audit.spec_audit.event == "created"


@given(st.lists(st.tuples(st.integers(1, 5000), st.binary(max_size=300)), max_size=8), st.binary(max_size=300))
def test_content_is_added_to_the_message_that_has_the_number(given: list[tuple[int, bytes]], more: bytes) -> None:
    wire = b"\x08\x96\x01" + b"".join(encoding.delimited(number, content) for number, content in given)
    numbers = [field.number for field in encoding.fields(wire)]
    assert numbers == [1, *(number for number, _ in given)]
    for number in {2, *numbers[1:]} - {1}:
        first = next((content for found, content in given if found == number), b"")
        grown = encoding.extended(wire, number, more)
        contents = {field.number: grown[field.content : field.end] for field in reversed(list(encoding.fields(grown)))}
        assert contents[number] == first + more
        assert len(grown) >= len(wire)


def test_the_arrays_of_a_kind_are_in_its_contract() -> None:
    divided = [kind for kind in registry().values() if kind.apart]
    assert {kind.name for kind in divided} == set(KINDS)
    for kind in divided:
        assert len({apart.owner for apart in kind.apart}) == 1
        for apart in kind.apart:
            resource: Any = descriptors.message_type(kind.described.message).DESCRIPTOR
            array = resource.fields_by_name[apart.owner].message_type.fields_by_name[apart.name]
            assert array.is_repeated
            assert not apart.key or apart.key in array.message_type.fields_by_name
