"""The application: one request in, one call made, one answer out.

Owns the order of things: whom it lets in, which method is meant, how its shape is answered. What the parts do is in the
modules beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from loguru import logger
from starlette.datastructures import Headers
from starlette.responses import Response
from stigmer_grpc import Channel, RpcError, Service, StatusCode
from stigmer_grpc.errors import REQUEST_ID

from stigmer_server.http import answers, metadata, requests
from stigmer_server.http.bodies import Body, GoneError, Receive
from stigmer_server.http.hosts import Hosts
from stigmer_server.http.problems import HttpError
from stigmer_server.http.proto_json import parse_json
from stigmer_server.http.routes import Match, Route, Router, routes
from stigmer_server.messages import Message

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Page: TypeAlias = Callable[[Headers], Awaitable[Response]]
"""Answers GET at a fixed path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request may be and take."""

    body_bytes: int = 16 * 1024 * 1024
    """Of a body that is read into memory."""
    body_seconds: float = 30.0
    """For such a body to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that is a call, with all that was found out before it is made."""

    route: Route
    match: Match
    headers: Headers
    path: str
    parameters: list[tuple[str, str]]
    options: requests.Options
    body: Body
    receive: Receive
    id: str
    """The request id."""
    metadata: Mapping[str, str]
    timeout: float


class Gateway:
    """An ASGI application over the services of a server.

    Args:
        channel: Reaches the services; every call of a request goes through it.
        services: What the server serves.
        kinds: Names of the kinds whose resources it keeps.
        hosts: Whom to let in.
        limits: Of one request.
        pages: What answers at fixed paths.
    """

    def __init__(
        self,
        channel: Channel,
        services: Iterable[Service],
        kinds: Collection[str],
        *,
        hosts: Hosts,
        limits: Limits,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self._channel = channel
        self.routes = tuple(routes(services, kinds))
        self._router = Router(self.routes)
        self._hosts = hosts
        self._limits = limits
        self._pages = dict(pages or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        id = metadata.request_id(headers)
        body = Body(receive, headers, limit=self._limits.body_bytes, seconds=self._limits.body_seconds)
        try:
            response = await self._answer(scope, headers, body, receive, id)
        except GoneError:
            return
        except (HttpError, RpcError) as error:
            response = answers.refusal(error, instance=scope["path"], request_id=id)
        except Exception as error:  # noqa: BLE001 - nothing that happens to one request may end the connection unanswered
            logger.opt(exception=error).error("{} {} failed, request {}", scope["method"], scope["path"], id)
            fault = HttpError(500, StatusCode.INTERNAL, f"internal error, request id {id}")
            response = answers.refusal(fault, instance=scope["path"], request_id=id)
        response.headers.setdefault(REQUEST_ID, id)
        if not body.complete:
            await body.spill()
            if not body.complete:
                response.headers["connection"] = "close"
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, headers: Headers, body: Body, receive: Receive, id: str) -> Response:
        metadata.check_headers(headers)
        self._hosts.check(scope, headers)
        verb, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
        page = self._pages.get(path)
        if page is not None:
            if verb in ("GET", "HEAD"):
                return await page(headers)
            return _options_or_refusal(verb, {"GET"})
        match = self._router.find(path)
        if match is None:
            raise HttpError(404, StatusCode.NOT_FOUND, f"nothing is at {scope['path']}; /docs tells what there is")
        route = match.routes.get("GET" if verb == "HEAD" else verb)
        if route is None or (verb == "HEAD" and route.method.server_streaming):
            return _options_or_refusal(verb, match.routes)
        options, parameters = requests.take_options(route, requests.parse_query(scope["query_string"]))
        exchange = Exchange(
            route=route,
            match=match,
            headers=headers,
            path=scope["path"],
            parameters=parameters,
            options=options,
            body=body,
            receive=receive,
            id=id,
            metadata=_with_options(metadata.call_metadata(headers, id, scope["client"]), options, route),
            timeout=metadata.timeout(headers),
        )
        return await self._call(exchange)

    async def _call(self, exchange: Exchange) -> Response:
        method = exchange.route.method
        if method.client_streaming or method.server_streaming:
            raise HttpError(501, StatusCode.UNIMPLEMENTED, f"{method.name} streams, which is not offered over HTTP yet")
        return await self._unary(exchange)

    async def _unary(self, exchange: Exchange) -> Response:
        route = exchange.route
        request = await message_of(exchange)
        trailers: dict[str, str | bytes] = {}
        stub = self._channel.service(route.method.service)
        call = stub.unary(
            route.method.name, request, timeout=exchange.timeout, metadata=exchange.metadata, trailers=trailers
        )
        answer = await unless_gone(exchange.receive, call)
        headers = metadata.answer_headers(trailers)
        status = 200
        if route.method.name == "create" and not route.is_rpc and not _is_dry(exchange):
            status = 201
            headers["location"] = f"{route.path}/{answer.metadata.id}"
        text = answers.message_bytes(answer, pretty=exchange.options.pretty)
        return await answers.content(text, exchange.headers, status=status, headers=headers)


async def message_of(exchange: Exchange) -> Message:
    """Return the one message of a request; its body, if it takes one, is JSON.

    Raises:
        InvalidArgumentError: It does not fit.
        HttpError: The body is not to be had.
        GoneError: The caller is gone.
    """
    body, route = exchange.body, exchange.route
    plain: Any = None
    if route.body is None:
        await body.spill()
    else:
        if not body.is_absent:
            check_json(body)
        text = await body.read()
        plain = parse_json(text) if text else None
    return requests.build(route, exchange.match, exchange.parameters, plain)


def check_json(body: Body) -> None:
    """Refuse a body that is not said to be JSON, which pages elsewhere cannot send unasked. Raises: HttpError."""
    media_type = body.media_type
    if media_type != answers.JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
        message = f"expected a body of type {answers.JSON}, got {media_type[:100] or 'none'!r}"
        raise HttpError(415, StatusCode.INVALID_ARGUMENT, message, headers={"accept": answers.JSON})


async def unless_gone(receive: Receive, call: Awaitable[Message]) -> Message:
    """Return what a call answers, and give the call up when the caller closes the connection.

    Raises:
        RpcError: The call failed.
        GoneError: The caller is gone.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine always runs in one
    watch = asyncio.create_task(_gone(receive))
    watch.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        return await call
    except asyncio.CancelledError:
        if watch.done() and task.uncancel() == 0:
            raise GoneError from None
        raise
    finally:
        watch.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_options(sent: dict[str, str], options: requests.Options, route: Route) -> dict[str, str]:
    if options.dry_run:
        sent[metadata.DRY_RUN] = "true"
    if options.force:
        sent[metadata.FORCE] = "true"
    return sent


def _is_dry(exchange: Exchange) -> bool:
    return exchange.metadata.get(metadata.DRY_RUN) == "true"


def _options_or_refusal(verb: str, allowed: Collection[str]) -> Response:
    """Answer a method that the path does not have. Raises: HttpError: it was no question for those that it has."""
    names = ", ".join(sorted({*allowed, "OPTIONS", *(["HEAD"] if "GET" in allowed else [])}))
    if verb == "OPTIONS":
        return Response(status_code=204, headers={"allow": names})
    message = f"{verb} is not allowed here; allowed: {names}"
    raise HttpError(405, StatusCode.UNIMPLEMENTED, message, headers={"allow": names})
