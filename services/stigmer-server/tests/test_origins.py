"""Executions that begin with the state of an earlier one: what they take over, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from stigmer_grpc import FailedPreconditionError, InvalidArgumentError, NotFoundError
from stigmer_sqlite.port import Query

from stigmer_server import checkpoints
from stigmer_server.engine.port import AwayError, Runs
from stigmer_server.engine.testing import MemoryRuns
from stigmer_server.testing import Api, manifest, serve

WORKFLOW = "workflow_execution"
RUNTIME = "ai.stigmer.runtime.v1.ExecutionRuntimeController"
DOCUMENT = "document: {{dsl: 1.0.0, namespace: tests, name: {name}, version: 0.1.0}}\ndo: [{{a: {{set: {{b: 1}}}}}}]\n"
PLACES: list[dict[str, Any]] = [
    {"reference": "/do/0/a", "task_name": "a", "task_id": "/do/0/a", "within": []},
    {"reference": "/do/1/l", "task_name": "l", "task_id": "/do/1/l", "within": []},
    {"reference": "/do/1/l/do/0/b", "task_name": "b", "task_id": "/do/1/l[1]/do/0/b", "within": ["/do/1/l"]},
]
STATE: dict[str, Any] = {"content": '{"state": 1}', "positions": PLACES}
DONE, OPEN = "WORKFLOW_TASK_COMPLETED", "WORKFLOW_TASK_IN_PROGRESS"


def task(id: str, status: str = DONE) -> dict[str, Any]:
    ended = {"completedAt": "2026-01-01T00:00:01Z"} if status == DONE else {}
    return {
        "taskId": id,
        "taskName": id.rpartition("/")[2],
        "status": status,
        "startedAt": "2026-01-01T00:00:00Z",
    } | ended


TASKS = [task("/do/0/a"), task("/do/1/l", OPEN), task("/do/1/l[0]/do/0/b"), task("/do/1/l[1]/do/0/b", OPEN)]


@pytest.fixture
def runs() -> MemoryRuns:
    return MemoryRuns()


@pytest.fixture
async def api(tmp_path: Path, runs: MemoryRuns) -> AsyncGenerator[Api]:
    async def connect() -> Runs:
        return runs

    async with serve(tmp_path, connect_engine=connect, temporal_address="there:7233") as made:
        yield made


async def workflow(api: Api, name: str = "flow") -> str:
    made = await api("workflow", "apply", manifest("workflow", name, {"definition": DOCUMENT.format(name=name)}))
    return str(made.metadata.id)


async def begin(api: Api, **spec: Any) -> Any:
    return await api(WORKFLOW, "create", manifest(WORKFLOW, f"run {uuid4().hex}", spec))


async def earlier(api: Api, runs: MemoryRuns, phase: str, **spec: Any) -> Any:
    """Return an execution that got as far as STATE says, and is in a phase."""
    made = await begin(api, workflowId=await workflow(api), **spec)
    run = made.status.temporal_workflow_id
    while run not in runs.runs:
        await api(WORKFLOW, "get", {"value": made.metadata.id})
    runs.runs[run].checkpoint = STATE
    status = {"phase": "EXECUTION_IN_PROGRESS", "startedAt": "2026-01-01T00:00:00Z", "tasks": TASKS}
    await api(WORKFLOW, "updateStatus", {"executionId": made.metadata.id, "status": status})
    if phase == "FAILED":
        failed = {**PLACES[2], "failed": True}
        left = {
            "content": base64.b64encode(b"kept").decode(),
            "positions": [*PLACES, failed],
            "temporal_workflow_id": run,
        }
        await api.channel.service(RUNTIME).unary("saveCheckpoint", {"execution_id": made.metadata.id, **left})
    if phase != "IN_PROGRESS":
        status = {"phase": f"EXECUTION_{phase}"}
        await api(WORKFLOW, "updateStatus", {"executionId": made.metadata.id, "status": status})
    return await api(WORKFLOW, "get", {"value": made.metadata.id})


async def run_of(api: Api, execution: Any) -> Any:
    return await api.channel.service(RUNTIME).unary("getWorkflowRun", {"execution_id": execution.metadata.id})


def tasks_of(execution: Any) -> dict[str, tuple[int, str]]:
    """Return of each task its status, and the execution that it is taken over from."""
    return {each.task_id: (each.status, dict(each.metadata).get("taken_from", "")) for each in execution.status.tasks}


@pytest.mark.parametrize(
    ("phase", "content", "begin_at"),
    [
        ("FAILED", b"kept", ""),
        ("COMPLETED", b'{"state": 1}', "/do/1/l/do/0/b"),
        ("CANCELLED", b'{"state": 1}', "/do/1/l/do/0/b"),
        ("IN_PROGRESS", b'{"state": 1}', "/do/1/l/do/0/b"),
    ],
)
async def test_an_execution_begins_where_another_one_was(
    api: Api, runs: MemoryRuns, phase: str, content: bytes, begin_at: str
) -> None:
    before = await earlier(api, runs, phase, input={"n": 1}, runtimeEnv={"KEY": {"value": "k-1234", "isSecret": True}})
    made = await begin(api, fromExecution=before.metadata.id)
    assert made.spec.workflow_id == before.spec.workflow_id
    run = await run_of(api, made)
    assert (run.checkpoint, run.begin_at, run.from_execution) == (content, begin_at, before.metadata.id)
    assert run.input.struct_value["n"] == 1
    assert list(run.secret_names) == ["KEY"]
    assert tasks_of(made) == {
        "/do/0/a": (3, before.metadata.id),
        "/do/1/l[0]/do/0/b": (3, before.metadata.id),
        "/do/1/l": (2, ""),
        **({"/do/1/l[1]/do/0/b": (2, "")} if phase == "FAILED" else {}),
    }
    assert made.status.temporal_workflow_id.endswith(made.metadata.id)
    assert await api(WORKFLOW, "get", {"value": before.metadata.id}) == before


async def test_its_secrets_are_its_own(api: Api, runs: MemoryRuns) -> None:
    given = {"KEY": {"value": "k-1234", "isSecret": True}, "PLAIN": {"value": "p"}, "OTHER": {"value": "o"}}
    before = await earlier(api, runs, "FAILED", runtimeEnv=given)
    made = await begin(api, fromExecution=before.metadata.id, runtimeEnv={"OTHER": {"value": "another"}})
    await api(WORKFLOW, "delete", {"value": before.metadata.id})
    service = api.channel.service(RUNTIME)
    token = await service.unary("issueToken", {"execution_id": made.metadata.id})
    shown = {"x-stigmer-execution-token": token.token}
    found = await service.unary("getEnvironment", {"execution_id": made.metadata.id}, metadata=shown)
    assert {name: item.value for name, item in found.values.items()} == {
        "KEY": "k-1234",
        "PLAIN": "p",
        "OTHER": "another",
    }
    assert (await run_of(api, made)).checkpoint == b"kept"


async def test_it_begins_with_a_task_that_is_named_or_with_the_first(api: Api, runs: MemoryRuns) -> None:
    before = await earlier(api, runs, "COMPLETED", input={"n": 1})
    made = await begin(api, fromExecution=before.metadata.id, fromTask="l")
    assert (await run_of(api, made)).begin_at == "/do/1/l"
    assert tasks_of(made) == {"/do/0/a": (3, before.metadata.id)}
    made = await begin(api, fromExecution=before.metadata.id, fromTask="/")
    run = await run_of(api, made)
    assert (run.checkpoint, run.from_execution, run.input.struct_value["n"]) == (b"", "", 1)
    assert tasks_of(made) == {}


async def test_a_dry_run_tells_what_it_would_begin_with(api: Api, runs: MemoryRuns) -> None:
    before = await earlier(api, runs, "COMPLETED")
    request = manifest(WORKFLOW, "dry", {"fromExecution": before.metadata.id, "fromTask": "l"})
    dry = await api(WORKFLOW, "create", request, metadata={"x-stigmer-dry-run": "true"})
    assert tasks_of(dry) == {"/do/0/a": (3, before.metadata.id)}
    with pytest.raises(NotFoundError):
        await api(WORKFLOW, "get", {"value": dry.metadata.id})


async def test_it_is_recovered_as_any_other(api: Api, runs: MemoryRuns) -> None:
    before = await earlier(api, runs, "FAILED")
    made = await begin(api, fromExecution=before.metadata.id)
    status = {"phase": "EXECUTION_FAILED"}
    await api(WORKFLOW, "updateStatus", {"executionId": made.metadata.id, "status": status})
    await api(WORKFLOW, "recover", {"id": made.metadata.id, "fromTask": "a"})
    run = await run_of(api, made)
    assert (run.checkpoint, run.begin_at, run.from_execution) == (b"kept", "/do/0/a", "")


async def test_what_cannot_be_is_refused_when_it_is_created(api: Api, runs: MemoryRuns) -> None:
    before = await earlier(api, runs, "COMPLETED")
    id = before.metadata.id
    with pytest.raises(FailedPreconditionError, match="known to have begun task nothing; begin with one of /do/0/a"):
        await begin(api, fromExecution=id, fromTask="nothing")
    with pytest.raises(InvalidArgumentError, match="is a run of"):
        await begin(api, fromExecution=id, workflowId=await workflow(api, "other"))
    with pytest.raises(InvalidArgumentError, match="leave it out"):
        await begin(api, fromExecution=id, input={"n": 2})
    with pytest.raises(InvalidArgumentError, match=r"goes with spec\.from_execution"):
        await begin(api, workflowId=before.spec.workflow_id, fromTask="a")
    with pytest.raises(NotFoundError):
        await begin(api, fromExecution="wex-01m82r6b428qhc55v1b3bm0877")
    with pytest.raises(FailedPreconditionError, match="has not begun"):
        await begin(api, fromExecution=(await begin(api, workflowId=await workflow(api))).metadata.id)


async def test_a_state_that_is_not_to_be_had_is_refused(
    api: Api, runs: MemoryRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await earlier(api, runs, "COMPLETED")
    runs.runs[before.status.temporal_workflow_id].checkpoint = {"content": "", "positions": []}
    with pytest.raises(FailedPreconditionError, match="has left no state"):
        await begin(api, fromExecution=before.metadata.id)
    del runs.runs[before.status.temporal_workflow_id]
    with pytest.raises(FailedPreconditionError, match="Temporal has forgotten its run"):
        await begin(api, fromExecution=before.metadata.id)

    async def away(_: str) -> Any:
        raise AwayError("no answer")

    monkeypatch.setattr(runs, "checkpoint", away)
    with pytest.raises(FailedPreconditionError, match="does not answer: no answer"):
        await begin(api, fromExecution=before.metadata.id)


async def test_of_an_execution_that_is_deleted_while_its_run_is_asked_nothing_stays(
    api: Api, runs: MemoryRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await earlier(api, runs, "COMPLETED")

    async def told(_: str) -> Any:
        await api(WORKFLOW, "delete", {"value": before.metadata.id})
        return STATE

    monkeypatch.setattr(runs, "checkpoint", told)
    with pytest.raises(NotFoundError):
        await begin(api, fromExecution=before.metadata.id)
    assert not (await api.app.resources.store.list(Query(kind=checkpoints.SCHEMA.kind))).records


async def test_one_that_is_asked_for_again_is_known_when_the_earlier_one_is_gone(api: Api, runs: MemoryRuns) -> None:
    before = await earlier(api, runs, "COMPLETED")
    request = manifest(WORKFLOW, "again", {"fromExecution": before.metadata.id})
    key = {"x-stigmer-idempotency-key": "once"}
    made = await api(WORKFLOW, "create", request, metadata=key)
    await api(WORKFLOW, "delete", {"value": before.metadata.id})
    assert (await api(WORKFLOW, "create", request, metadata=key)).metadata.id == made.metadata.id
