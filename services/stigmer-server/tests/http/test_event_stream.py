"""Server-sent events: what is sent, how it is resumed, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
from stigmer_grpc import CallContext, NotFoundError, OutOfRangeError
from stigmer_protos import descriptors

from stigmer_server.http import event_stream
from stigmer_server.http.gateway import Limits
from stigmer_server.http.testing import Front, serve_handlers
from stigmer_server.testing import manifest

QUERIES = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionQueryController"
RESOURCES = "ai.stigmer.resources.v1.ResourceController"
RUN = descriptors.message_type("ai.stigmer.agentic.workflowexecution.v1.WorkflowExecution")
WATCH_EVENT: Any = descriptors.message_type("ai.stigmer.resources.v1.WatchEvent")
FLOW = "document: {dsl: 1.0.0, namespace: t, name: flow, version: 0.1.0}\ndo:\n  - a: {set: {b: 1}}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    type: str = "message"
    id: str = ""
    data: Any = None


async def events(response: httpx2.Response) -> AsyncIterator[Event]:
    """What an EventSource would make of an answer."""
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if not line:
            if "data" in fields:
                yield Event(
                    type=fields.get("event", "message"), id=fields.get("id", ""), data=orjson.loads(fields["data"])
                )
            fields = {}
        elif line.startswith(":"):
            continue
        else:
            name, _, value = line.partition(": ")
            fields[name] = value


async def make_run(front: Front) -> str:
    flow = await front.client.post("/v1/workflows", json=manifest("workflow", "Flow", {"definition": FLOW}))
    spec = {"workflowId": flow.json()["metadata"]["id"]}
    run = await front.client.post("/v1/workflow-executions", json=manifest("workflow_execution", "run", spec))
    assert run.status_code == 201, run.text
    return run.json()["metadata"]["id"]


async def report(front: Front, run: str, phase: str) -> None:
    response = await front.client.put(f"/v1/workflow-executions/{run}/status", json={"phase": phase})
    assert response.status_code == 200, response.text


async def test_an_execution_is_followed_to_its_end(front: Front) -> None:
    run = await make_run(front)
    async with front.client.stream("GET", f"/v1/workflow-executions/{run}/events") as response:
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        stream = events(response)
        first = await anext(stream)
        assert first.data["status"]["phase"] == "EXECUTION_PENDING"
        await report(front, run, "EXECUTION_IN_PROGRESS")
        assert (await anext(stream)).data["status"]["phase"] == "EXECUTION_IN_PROGRESS"
        await report(front, run, "EXECUTION_COMPLETED")
        rest = [event async for event in stream]
    assert [event.type for event in rest] == ["message", "end"]
    assert rest[0].data["status"]["phase"] == "EXECUTION_COMPLETED"
    assert rest[-1].id == event_stream.END


async def test_a_stream_that_came_to_its_end_is_not_begun_again(front: Front) -> None:
    response = await front.client.get("/v1/workflow-executions/x/events", headers={"last-event-id": event_stream.END})
    assert response.status_code == 204


async def test_a_call_that_fails_at_once_has_the_status_of_its_error(front: Front) -> None:
    response = await front.client.get("/v1/workflow-executions/wex-none/events")
    assert response.status_code == 404
    assert response.json()["code"] == "NOT_FOUND"


async def test_the_plain_way_streams_too(front: Front) -> None:
    run = await make_run(front)
    path = f"/rpc/{QUERIES}/subscribe"
    async with front.client.stream("POST", path, json={"executionId": run}) as response:
        assert (await anext(events(response))).data["metadata"]["id"] == run


async def test_the_stop_of_the_server_is_no_end_of_the_stream(front: Front) -> None:
    run = await make_run(front)
    async with front.client.stream("GET", f"/v1/workflow-executions/{run}/events") as response:
        stream = events(response)
        await anext(stream)
        stop = asyncio.create_task(front.api.app.__aexit__(None, None, None))
        async with asyncio.timeout(10):
            rest = [event async for event in stream]
            await stop
    assert [(event.type, event.data["code"], event.id) for event in rest] == [("error", "UNAVAILABLE", "")]


async def test_events_carry_their_type_and_where_to_go_on() -> None:
    asked: list[str] = []

    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        asked.append(request.resume_token)
        for number, kind in enumerate((1, 2, 3, 4), start=1):
            yield WATCH_EVENT(type=kind, resume_token=f"token-{number}")

    async with serve_handlers({RESOURCES: {"watch": watch}}) as stand:
        async with stand.client.stream("GET", "/v1/resources:watch?resume_token=old") as response:
            told = [event async for event in events(response)]
        again = await stand.client.get("/v1/resources:watch?resumeToken=old", headers={"last-event-id": "token-2"})
        assert again.status_code == 200
    assert [(event.type, event.id) for event in told] == [
        ("created", "token-1"), ("updated", "token-2"), ("deleted", "token-3"), ("synced", "token-4"), ("end", ""),
    ]  # fmt: skip
    assert told[0].data == {"type": "WATCH_EVENT_TYPE_CREATED", "resumeToken": "token-1"}
    assert asked == ["old", "token-2"]


async def test_an_error_after_the_first_event_is_an_event() -> None:
    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield WATCH_EVENT(resume_token="a")
        raise OutOfRangeError("too old")

    async with serve_handlers({RESOURCES: {"watch": watch}}) as stand:
        response = await stand.client.get("/v1/resources:watch", headers={"x-request-id": "mine"})
        assert response.status_code == 200
    *_, last = [
        event async for event in events(httpx2.Response(200, headers=response.headers, content=response.content))
    ]
    assert last.type == "error"
    assert (last.data["code"], last.data["detail"], last.data["requestId"]) == ("OUT_OF_RANGE", "too old", "mine")


async def test_a_quiet_stream_is_kept_open_by_comments() -> None:
    over = asyncio.Event()

    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        await over.wait()
        yield WATCH_EVENT(resume_token="a")

    lines: list[str] = []
    limits = Limits(heartbeat_seconds=0.05)
    async with (
        serve_handlers({RESOURCES: {"watch": watch}}, request_limits=limits) as stand,
        stand.client.stream("GET", "/v1/resources:watch") as response,
        asyncio.timeout(10),
    ):
        async for line in response.aiter_lines():
            lines.append(line)
            if lines.count(": ") == 3:
                over.set()
    assert "event: end" in lines


async def test_a_reader_that_goes_ends_the_call() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield WATCH_EVENT()
        finally:
            ended.set()

    async def get(request: Any, context: CallContext) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    handlers = {RESOURCES: {"watch": watch, "getRevision": get}}
    async with serve_handlers(handlers) as stand:
        for path in ("/v1/resources:watch", f"/rpc/{RESOURCES}/getRevision"):
            begun.clear()
            ended.clear()
            verb = "GET" if path.startswith("/v1") else "POST"
            content = None if verb == "GET" else {"kind": "agent", "id": "a", "version": "1"}
            call = asyncio.create_task(stand.client.request(verb, path, json=content))
            async with asyncio.timeout(10):
                await begun.wait()
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
                await ended.wait()


async def test_a_reader_that_stops_reading_holds_the_call_back() -> None:
    sent = 0
    full = asyncio.Event()

    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        nonlocal sent
        while True:
            sent += 1
            yield WATCH_EVENT(resume_token="x" * 100_000)
            full.set()

    async with serve_handlers({RESOURCES: {"watch": watch}}) as stand:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.port, limit=2**10)
        writer.write(b"GET /v1/resources:watch HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readexactly(100)
        settled = -1
        async with asyncio.timeout(20):
            while settled != sent:
                settled = sent
                await asyncio.sleep(0.3)
        # What the kernel and the buffers between take, and no more: each is a few megabytes at most.
        assert sent * 100_000 < 20_000_000
        writer.close()


async def test_a_call_that_fails_before_its_first_event_is_a_problem() -> None:
    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        raise NotFoundError("gone")
        yield b""

    async with serve_handlers({RESOURCES: {"watch": watch}}) as stand:
        response = await stand.client.get("/v1/resources:watch")
        assert response.status_code == 404


async def test_the_deadline_ends_a_stream() -> None:
    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield WATCH_EVENT(resume_token="a")
        await asyncio.Event().wait()

    async with (
        serve_handlers({RESOURCES: {"watch": watch}}) as stand,
        stand.client.stream("GET", "/v1/resources:watch", headers={"grpc-timeout": "300m"}) as response,
    ):
        told = [event async for event in events(response)]
    assert [event.type for event in told] == ["message", "error"]
    assert told[-1].data["code"] == "DEADLINE_EXCEEDED"
