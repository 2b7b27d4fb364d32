"""Every RPC over HTTP, by every path it has: the same outcome as over gRPC."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google.protobuf import json_format
from stigmer_grpc import Channel, RpcError, connect
from stigmer_protos import descriptors

from stigmer_server.http.requests import build
from stigmer_server.http.routes import Match, Route
from stigmer_server.http.testing import Front, serve_http
from stigmer_server.messages import Message, to_plain
from stigmer_server.testing import Api

Make = Callable[..., Awaitable[Any]]
SECONDS = 20.0
"""How long a stream is waited for that neither answers nor ends; none does so."""
KINDS = ["agent", "agent_instance", "agent_execution", "session", "workflow", "workflow_instance", "workflow_execution",
         "environment", "execution_context", "mcp_server"]  # fmt: skip


@pytest.fixture
async def wire(front: Front) -> AsyncIterator[Channel]:
    """The server over gRPC, through a socket."""
    (address,) = await front.api.app.serve("127.0.0.1:0")
    async with connect(address, pool=descriptors.pool()) as channel:
        yield channel


async def outcome_over_grpc(channel: Channel, route: Route, request: Message) -> tuple[str, Any]:
    """The code and the answer, or the message of the error."""
    method, stub = route.method, channel.service(route.method.service)
    try:
        if method.client_streaming:
            answer = await stub.client_stream(method.name, [request], timeout=SECONDS)
        elif method.server_streaming:
            async with aclosing(stub.stream(method.name, request, timeout=SECONDS)) as stream:
                async for answer in stream:
                    return "OK", to_plain(answer)
            return "OK", None
        else:
            answer = await stub.unary(method.name, request)
    except RpcError as error:
        return error.code.name, error.message
    return "OK", to_plain(answer)


async def outcome_over_http(client: httpx2.AsyncClient, route: Route, path: str, body: Any) -> tuple[str, Any]:
    headers: dict[str, str] = {}
    content: bytes | None = None
    if route.method.client_streaming:
        headers["content-type"], content = "application/x-ndjson", json.dumps(body).encode()
    elif route.body is not None:
        headers["content-type"], content = "application/json", json.dumps(body).encode()
    async with client.stream(route.verb, path, content=content, headers=headers) as response:
        if response.headers["content-type"].startswith("text/event-stream"):
            return await _first_event(response)
        await response.aread()
    if response.headers["content-type"] == "application/problem+json":
        problem = response.json()
        return problem["code"], problem["detail"]
    return "OK", response.json()


async def _first_event(response: httpx2.Response) -> tuple[str, Any]:
    is_error = False
    async for line in response.aiter_lines():
        is_error = is_error or line == "event: error"
        if line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            return (data["code"], data["detail"]) if is_error else ("OK", data)
    raise AssertionError("the stream ended without an event")


def all_routes(front: Front) -> list[Route]:
    from stigmer_server.http.routes import routes

    app: Any = front.api.app
    return list(routes(app._services, list(front.api.app.resources.kinds)))


@pytest.mark.parametrize("value", ["", "none-1"])
async def test_a_request_that_asks_for_nothing_fares_alike(front: Front, wire: Channel, value: str) -> None:
    """Each path, with its variables naming nothing and a body that says nothing: what is told must be the same."""
    tried = 0
    for route in all_routes(front):
        if route.through is not None:
            continue
        names = re.findall(r"\{(\w+)\}", route.path)
        variables = [value or "x" for _ in names]
        path = re.sub(r"\{\w+\}", value or "x", route.path)
        body: dict[str, Any] = {} if route.body is None else _body(route, value)
        request = build(route, Match(routes={}, variables=variables), [], None if route.body is None else body)
        over_http = await outcome_over_http(front.client, route, path, body)
        over_grpc = await outcome_over_grpc(wire, route, request)
        assert over_http == over_grpc, f"{route.verb} {route.path}"
        assert over_http[0] not in ("UNKNOWN", "INTERNAL"), f"{route.verb} {route.path}"
        tried += 1
    assert tried > 300


def _body(route: Route, value: str) -> dict[str, Any]:
    """A body whose strings all say `value`; empty when that is."""
    descriptor = route.method.descriptor.input_type
    if not value or route.body != "*" or descriptor.full_name.startswith("google."):
        return {}
    taken = {path.partition(".")[0] for path in route.fields.values()} | set(route.preset)
    text = [field for field in descriptor.fields if field.type == field.TYPE_STRING and not field.is_repeated]
    return {field.json_name: value for field in text if field.name not in taken}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_resource_reads_the_same_by_every_path(front: Front, wire: Channel, make: Make, kind: str) -> None:
    made = await make(front.api, kind, "Sample")
    described = descriptors.kind_by_enum_name(kind)
    values = {"id": made.metadata.id, "org": made.metadata.org, "slug": made.metadata.slug, "version": "1"}
    read = 0
    for route in all_routes(front):
        reads = route.verb == "GET" and route.kind == described and route.through is None
        if not reads or route.path.endswith((":watch", "/output")):
            continue
        names = re.findall(r"\{(\w+)\}", route.path)
        path = route.path
        for name in names:
            path = path.replace(f"{{{name}}}", values[name])
        request = build(route, Match(routes={}, variables=[values[name] for name in names]), [], None)
        over_http = await outcome_over_http(front.client, route, path, None)
        assert over_http == await outcome_over_grpc(wire, route, request), route.path
        read += over_http[0] == "OK"
        named = f"/rpc{route.method.path}"
        plain = json_format.MessageToDict(request)
        again = await outcome_over_http(front.client, _as_rpc(front, named), named, plain)
        assert again == over_http, route.path
    assert read >= 4


def _as_rpc(front: Front, path: str) -> Route:
    return next(route for route in all_routes(front) if route.path == path)


async def test_the_same_writes_make_the_same_resources(tmp_path: Path, make: Make) -> None:
    """One server written over gRPC and one over HTTP end alike, but for ids and times."""
    async with serve_http(tmp_path / "one") as one, serve_http(tmp_path / "two") as two:
        for kind in KINDS:
            await make(one.api, kind, "Sample")
            await make(OverHttp(two), kind, "Sample")
        for kind in KINDS:
            listed = [await front.client.get(f"/v1/{_collection(kind)}?org=local") for front in (one, two)]
            assert _timeless(listed[0].json()) == _timeless(listed[1].json())


class OverHttp(Api):
    """Calls by kind and verb, made over HTTP."""

    def __init__(self, front: Front) -> None:
        super().__init__(front.api.channel, front.api.app)
        self._front = front

    async def __call__(self, kind: str, verb: str, request: Any, **options: Any) -> Message:
        if verb != "create":
            return await super().__call__(kind, verb, request, **options)
        response = await self._front.client.post(f"/v1/{_collection(kind)}", json=request)
        assert response.status_code == 201, response.text
        message = descriptors.message_type(descriptors.kind_by_enum_name(kind).message)()
        return json_format.ParseDict(response.json(), message)


def _collection(kind: str) -> str:
    from stigmer_server.http.routes import collection

    return collection(descriptors.kind_by_enum_name(kind))


def _timeless(value: Any) -> Any:
    text = json.dumps(value, sort_keys=True)
    text = re.sub(r"[a-z]+-[0-9a-z]{26}", "ID", text)
    text = re.sub(r"(parent[ -][a-z_-]+)[ -]\d+", r"\1", text)
    return re.sub(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
