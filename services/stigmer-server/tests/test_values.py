"""Large values of executions: kept once by content, for as long as some execution has them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import zstandard
from stigmer_grpc import InvalidArgumentError, NotFoundError
from stigmer_protos import descriptors

from stigmer_server.http.testing import serve_http
from stigmer_server.testing import Api, manifest, serve

RUNTIME = "ai.stigmer.runtime.v1.ExecutionRuntimeController"
PART: Any = descriptors.message_type("ai.stigmer.runtime.v1.PutValuePart")
TEXT = json.dumps({"items": [{"id": index} for index in range(20_000)]}).encode()


async def execution_of(api: Api, **spec: Any) -> Any:
    document = "document: {dsl: 1.0.0, namespace: tests, name: flow, version: 0.1.0}\ndo: [{a: {set: {b: 1}}}]\n"
    workflow = await api("workflow", "apply", manifest("workflow", "flow", {"definition": document}))
    given = {"workflowId": workflow.metadata.id, **spec}
    return await api("workflow_execution", "create", manifest("workflow_execution", f"run {uuid4().hex}", given))


async def put(api: Api, execution: str, text: bytes) -> Any:
    kept = zstandard.compress(text)
    header = PART()
    header.header.execution_id = execution
    header.header.value.key, header.header.value.bytes = hashlib.sha256(kept).hexdigest(), len(text)
    pieces = [PART(chunk=kept[start : start + 10_000]) for start in range(0, len(kept), 10_000)]
    return await api.channel.service(RUNTIME).client_stream("putValue", [header, *pieces])


async def end(api: Api, execution: str, value: Any) -> None:
    large = {"key": value.key, "bytes": str(value.bytes)}
    status = {"phase": "EXECUTION_COMPLETED", "outputValue": "…", "largeOutput": large}
    await api("workflow_execution", "updateStatus", {"executionId": execution, "status": status})


async def output_of(api: Api, execution: str, **more: Any) -> bytes:
    request = {"executionId": execution, **more}
    return b"".join([part.chunk async for part in api.stream("workflow_execution", "getOutput", request)])


def kept_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "storage" / "values").glob("*"))


async def until_kept(folder: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while len(kept_in(folder)) != count:  # noqa: ASYNC110 - another task removes them
            await asyncio.sleep(0.01)


async def test_a_value_of_two_executions_is_kept_once_until_both_are_deleted(local: Api, tmp_path: Path) -> None:
    made = [(await execution_of(local)).metadata.id for _ in range(2)]
    for id in (*made, *made[:1]):
        await end(local, id, await put(local, id, TEXT)) if id == made[1] else await put(local, id, TEXT)
    assert len(kept_in(tmp_path)) == 1
    await local("workflow_execution", "delete", {"value": made[0]})
    assert await output_of(local, made[1]) == TEXT
    await local("workflow_execution", "delete", {"value": made[1]})
    await until_kept(tmp_path, 0)


async def test_outputs_and_inputs_are_read_whole_whether_they_are_large_or_not(local: Api) -> None:
    id = (await execution_of(local, input={"name": "Ada"})).metadata.id
    assert await output_of(local, id) == b"null"
    assert await output_of(local, id, input=True) == b'{"name":"Ada"}'
    await end(local, id, await put(local, id, TEXT))
    assert await output_of(local, id) == TEXT


async def test_an_execution_begins_with_a_value_of_the_one_that_started_it(local: Api, tmp_path: Path) -> None:
    parent = (await execution_of(local)).metadata.id
    value = await put(local, parent, TEXT)
    given = {"key": value.key, "bytes": str(value.bytes)}
    child = (await execution_of(local, largeInput=given, largeInputOf=parent)).metadata.id
    await local("workflow_execution", "delete", {"value": parent})
    run = await local.runtime("getWorkflowRun", child)
    assert run.large_input == value
    assert await output_of(local, child, input=True) == TEXT
    for of in (child, "wex-nothing"):
        with pytest.raises((InvalidArgumentError, NotFoundError)):
            await execution_of(local, largeInput={**given, "key": "0" * 64}, largeInputOf=of)


async def test_values_of_an_execution_are_no_other_ones(local: Api) -> None:
    one, other = [(await execution_of(local)).metadata.id for _ in range(2)]
    await end(local, other, await put(local, one, TEXT))
    with pytest.raises(NotFoundError):
        await output_of(local, other)


async def test_large_checkpoints_go_with_what_replaces_them(local: Api, tmp_path: Path) -> None:
    made = await execution_of(local)
    id = made.metadata.id
    position = {"reference": "/do/0/a", "taskName": "a", "taskId": "/do/0/a", "failed": True}
    values: list[Any] = []
    for number in range(3):
        values.append(await put(local, id, TEXT + b" " * number))
        large = {"key": values[-1].key, "bytes": str(values[-1].bytes)}
        request = {"executionId": id, "temporalWorkflowId": made.status.temporal_workflow_id, "largeContent": large}
        await local.channel.service(RUNTIME).unary("saveCheckpoint", {**request, "positions": [position]})
    await until_kept(tmp_path, 1)
    task = {"taskId": "/do/0/a", "taskName": "a", "status": "WORKFLOW_TASK_FAILED"}
    failed = {"phase": "EXECUTION_FAILED", "error": "no luck", "tasks": [task]}
    await local("workflow_execution", "updateStatus", {"executionId": id, "status": failed})
    await local("workflow_execution", "recover", {"id": id})
    assert (await local.runtime("getWorkflowRun", id)).large_checkpoint == values[-1]


async def test_a_killed_server_has_a_value_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "storage" / "incoming").mkdir(parents=True)
    (tmp_path / "storage" / "incoming" / "half.zst").write_bytes(b"half")
    (tmp_path / "storage" / "values").mkdir()
    (tmp_path / "storage" / "values" / f"{'0' * 64}.zst").write_bytes(b"put, and named by nothing")
    async with serve(tmp_path):
        await until_kept(tmp_path, 0)
    assert not list((tmp_path / "storage" / "incoming").glob("*"))


async def test_an_output_is_downloaded_over_http(tmp_path: Path) -> None:
    async with serve_http(tmp_path) as front:
        id = (await execution_of(front.api)).metadata.id
        await end(front.api, id, await put(front.api, id, TEXT))
        answer = await front.client.get(f"/v1/workflow-executions/{id}/output")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.content == TEXT
        given = await front.client.get(f"/v1/workflow-executions/{id}/output", params={"input": "true"})
        assert given.json() == {}
        assert (await front.client.get("/v1/workflow-executions/wex-none/output")).status_code == 404
