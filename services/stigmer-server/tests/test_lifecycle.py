"""Lifecycle events: what is told of an execution and its tasks, each once, and only where that is asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
KIND = "workflow_execution"
PREFIX = "io.serverlessworkflow."


@asynccontextmanager
async def telling(folder: Path, make: Make, level: str) -> AsyncGenerator[tuple[Api, str]]:
    async with serve(folder, lifecycle_events=level) as api:
        yield api, (await make(api, KIND)).metadata.id


async def report(api: Api, id: str, phase: str = "", *tasks: tuple[str, str], **status: Any) -> None:
    made = [{"taskId": name, "reference": name, "status": f"WORKFLOW_TASK_{state}"} for name, state in tasks]
    said = {**({"phase": f"EXECUTION_{phase}"} if phase else {}), "tasks": made, **status}
    await api(KIND, "updateStatus", {"executionId": id, "status": said})


async def told(api: Api) -> list[tuple[str, Any]]:
    """Return the events that there are, oldest first: type without what all have, and data."""
    service = api.channel.service("ai.stigmer.events.v1.EventController")
    listed = await service.unary("list", {"org": "local", "pageSize": 1000})
    found = [(entry.type, json.loads(json_format.MessageToJson(entry.json_data))) for entry in listed.entries]
    assert all(name.startswith(PREFIX) and name.endswith(".v1") for name, _ in found)
    return [(name.removeprefix(PREFIX).removesuffix(".v1"), data) for name, data in found][::-1]


async def names(api: Api) -> list[str]:
    return [name for name, _ in await told(api) if not name.endswith("status-changed")]


async def test_nothing_is_told_unless_asked_for(local: Api, make: Make) -> None:
    execution = await make(local, KIND)
    await report(local, execution.metadata.id, "IN_PROGRESS", ("/do/0/a", "COMPLETED"))
    assert await told(local) == []


@pytest.mark.requirement(
    "lifecycle.workflow",
    "lifecycle.published",
    "lifecycle.workflow-started",
    "lifecycle.workflow-suspended",
    "lifecycle.workflow-resumed",
    "lifecycle.workflow-completed",
    "lifecycle.workflow-status",
    "phases",
)
async def test_an_execution_tells_what_becomes_of_it_once(tmp_path: Path, make: Make) -> None:
    async with telling(tmp_path, make, "workflows") as (api, id):
        for _ in range(2):
            await report(api, id, "IN_PROGRESS", ("/do/0/a", "IN_PROGRESS"))
        await api(KIND, "pause", {"id": id})
        await api(KIND, "resume", {"id": id})
        for _ in range(2):
            await report(api, id, "COMPLETED", outputValue={"n": 1})
        assert await names(api) == [f"workflow.{name}" for name in ("started", "suspended", "resumed", "completed")]
        found = await told(api)
        statuses = [data["status"] for name, data in found if name == "workflow.status-changed"]
        assert statuses == ["running", "suspended", "running", "completed"]
        assert {data["name"] for _, data in found} == {id}
        assert set(dict(found)["workflow.started"]["definition"]) == {"name", "namespace", "version"}
        assert dict(found)["workflow.completed"]["output"] == {"n": 1}


@pytest.mark.requirement("lifecycle.workflow-started")
async def test_one_that_is_over_at_once_has_started_too(tmp_path: Path, make: Make) -> None:
    async with telling(tmp_path, make, "tasks") as (api, id):
        for _ in range(2):
            begun = {"startedAt": "2026-01-01T00:00:00Z"}
            await report(api, id, "COMPLETED", ("/do/0/a", "COMPLETED"), outputValue={"n": 1}, **begun)
        assert await names(api) == [
            "workflow.started",
            *(f"task.{name}" for name in ("created", "started", "completed")),
            "workflow.completed",
        ]
        statuses = [data["status"] for name, data in await told(api) if name == "workflow.status-changed"]
        assert statuses == ["running", "completed"]


@pytest.mark.requirement(
    "lifecycle.tasks",
    "lifecycle.workflow-faulted",
    "lifecycle.task-created",
    "lifecycle.task-started",
    "lifecycle.task-suspended",
    "lifecycle.task-resumed",
    "lifecycle.task-retried",
    "lifecycle.task-faulted",
    "lifecycle.task-completed",
)
async def test_tasks_tell_what_becomes_of_them_once(tmp_path: Path, make: Make) -> None:
    async with telling(tmp_path, make, "tasks") as (api, id):
        await report(api, id, "IN_PROGRESS", ("/a", "IN_PROGRESS"))
        for _ in range(2):
            await report(api, id, "", ("/a", "COMPLETED"), ("/b", "COMPLETED"), ("/c", "IN_PROGRESS"))
        await api(KIND, "pause", {"id": id})
        await api(KIND, "resume", {"id": id})
        failed = {"tasks": [{"taskId": "/c", "reference": "/c", "status": 4, "error": "no", "attempt": 2}]}
        await api(KIND, "updateStatus", {"executionId": id, "status": failed})
        await report(api, id, "FAILED", error="no")
        of_tasks = [(data["task"], name) for name, data in await told(api) if name.startswith("task.")]
        assert of_tasks == [
            ("/a", "task.created"),
            ("/a", "task.started"),
            ("/a", "task.completed"),
            *(("/b", f"task.{name}") for name in ("created", "started", "completed")),
            *(("/c", f"task.{name}") for name in ("created", "started", "suspended", "resumed", "retried", "faulted")),
        ]
        assert dict(await told(api))["workflow.faulted"]["error"] == {"title": "no"}


@pytest.mark.requirement("lifecycle.workflow-cancelled", "lifecycle.task-cancelled")
@pytest.mark.parametrize(("control", "name"), [("cancel", "cancelled"), ("terminate", "cancelled")])
async def test_who_is_stopped_takes_its_tasks_along(tmp_path: Path, make: Make, control: str, name: str) -> None:
    async with telling(tmp_path, make, "tasks") as (api, id):
        await report(api, id, "IN_PROGRESS", ("/a", "IN_PROGRESS"))
        await api(KIND, control, {"id": id})
        assert (await names(api))[-2:] == [f"task.{name}", f"workflow.{name}"]


@pytest.mark.requirement("lifecycle.correlation-started", "lifecycle.correlation-completed")
@pytest.mark.parametrize("level", ["workflows", "tasks"])
async def test_waiting_for_events_is_told_once(tmp_path: Path, make: Make, level: str) -> None:
    async with telling(tmp_path, make, level) as (api, id):
        listening = {"taskId": "/l", "reference": "/l", "metadata": {"listening": {"one": [{"with": {"type": "t"}}]}}}
        for status in ("IN_PROGRESS", "IN_PROGRESS", "COMPLETED", "COMPLETED"):
            task = {**listening, "status": f"WORKFLOW_TASK_{status}"}
            await api(KIND, "updateStatus", {"executionId": id, "status": {"tasks": [task]}})
        failing = {**listening, "taskId": "/f", "reference": "/f"}
        for status in ("IN_PROGRESS", "FAILED"):
            task = {**failing, "status": f"WORKFLOW_TASK_{status}"}
            await api(KIND, "updateStatus", {"executionId": id, "status": {"tasks": [task]}})
        found = [(name, data) for name, data in await told(api) if "correlation" in name]
        assert [name.rpartition("-")[2] for name, _ in found] == ["started", "completed", "started"]
        assert [set(data) - {"name"} for _, data in found] == [{"startedAt"}, {"completedAt"}, {"startedAt"}]
        assert {data["name"] for _, data in found} == {id}
