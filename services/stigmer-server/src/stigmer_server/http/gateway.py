"""The application: one request in, one call made, one answer out.

Owns the order of things: whom it lets in, which method is meant, how its shape is answered. What the parts do is in the
modules beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from loguru import logger
from starlette.datastructures import Headers
from starlette.responses import Response
from stigmer_grpc import AbortedError, Channel, RpcError, Service, StatusCode
from stigmer_grpc.errors import REQUEST_ID

from stigmer_server.cloud_events import to_json
from stigmer_server.controllers.kinds import NEXT_PAGE
from stigmer_server.http import answers, cloud_events, etags, metadata, requests
from stigmer_server.http.bodies import Body, GoneError, Receive
from stigmer_server.http.downloads import chunk_of, download
from stigmer_server.http.event_stream import event_stream
from stigmer_server.http.exchange import Exchange, Scope, Send
from stigmer_server.http.hosts import Hosts
from stigmer_server.http.patches import patch
from stigmer_server.http.problems import HttpError
from stigmer_server.http.routes import RESOURCES, Route, Router, routes
from stigmer_server.http.uploads import upload
from stigmer_server.messages import Message, to_plain

Page: TypeAlias = Callable[[Headers, Mapping[str, str]], Awaitable[Response]]
"""Answers GET at a fixed path, given the headers and the metadata that a call of the request's would have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request may be and take."""

    body_bytes: int = 16 * 1024 * 1024
    """Of a body that is read into memory."""
    upload_bytes: int = 256 * 1024 * 1024
    """Of a body that is handed on piece by piece."""
    body_seconds: float = 30.0
    """For a body to come, or the next piece of it."""
    heartbeat_seconds: float = 15.0
    """Without an event until a stream of them says that it is still there."""


class Gateway:
    """An ASGI application over the services of a server.

    Args:
        channel: Reaches the services; every call of a request goes through it.
        services: What the server serves.
        kinds: Names of the kinds whose resources it keeps.
        hosts: Whom to let in.
        limits: Of one request.
        stopping: Set when the server begins to stop.
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
        stopping: asyncio.Event,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self._channel = channel
        self.routes = tuple(routes(services, kinds))
        self._router = Router(self.routes)
        self._hosts = hosts
        self._limits = limits
        self._stopping = stopping
        self._pages = dict(pages or {})

    def add_page(self, path: str, page: Page) -> None:
        """Answer GET at a fixed path with a page."""
        self._pages[path] = page

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
                return await page(headers, metadata.call_metadata(headers, id, scope["client"]))
            return _options_or_refusal(verb, {"GET"})
        match = self._router.find(path)
        if match is None:
            raise HttpError(404, StatusCode.NOT_FOUND, f"nothing is at {scope['path']}; /docs tells what there is")
        route = match.routes.get("GET" if verb == "HEAD" else verb)
        if route is None or (verb == "HEAD" and route.method.server_streaming):
            return _options_or_refusal(verb, match.routes)
        if route.method.client_streaming:
            body.limit = self._limits.upload_bytes
        options, parameters = requests.take_options(route, requests.parse_query(scope["query_string"]))
        exchange = Exchange(
            channel=self._channel,
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
        if method.server_streaming:
            return await self._stream(exchange)
        trailers: dict[str, str | bytes] = {}
        versions = etags.wanted_versions(exchange)
        try:
            answer = await self._unary(exchange, versions, trailers)
        except AbortedError as error:
            if not versions:
                raise
            raise etags.outdated(error.message) from error
        return await _answered(exchange, answer, metadata.answer_headers(trailers))

    async def _unary(self, exchange: Exchange, versions: frozenset[str], trailers: dict[str, str | bytes]) -> Message:
        if exchange.route.method.client_streaming:
            return await upload(exchange, trailers)
        if exchange.route.verb == "PATCH":
            return await patch(exchange, trailers, versions=versions)
        request = await _request(exchange)
        if versions:
            etags.require(versions, request)
        return await exchange.unary(request, trailers)

    async def _stream(self, exchange: Exchange) -> Response:
        method, is_rpc = exchange.route.method, exchange.route.is_rpc
        if chunk_of(method.descriptor.output_type) is not None and not is_rpc:
            return await download(exchange)
        render = _event_of if method.path == cloud_events.SUBSCRIBE and not is_rpc else to_plain
        return await event_stream(
            exchange, stopping=self._stopping, heartbeat=self._limits.heartbeat_seconds, render=render
        )


async def _request(exchange: Exchange) -> Message:
    route = exchange.route
    if route.method.path == cloud_events.PUBLISH and not route.is_rpc and cloud_events.is_binding(exchange):
        return await cloud_events.request_of(exchange)
    return await exchange.message()


async def _answered(exchange: Exchange, answer: Message, headers: dict[str, str]) -> Response:
    route, asked = exchange.route, exchange.headers
    if route.method.path == cloud_events.LIST and cloud_events.BATCH in asked.get("accept", ""):
        if answer.next_page_token:
            headers[NEXT_PAGE] = answer.next_page_token
        text = answers.text_of(cloud_events.batch(answer), pretty=exchange.options.pretty)
        return await answers.content(text, asked, media_type=cloud_events.BATCH, headers=headers)
    status = 200
    if route.method.name == "create" and not route.is_rpc and not exchange.is_dry:
        status = 201
        headers["location"] = f"{route.path}/{answer.metadata.id}"
    if tag := etags.tag_of(exchange, answer):
        headers["etag"] = tag
    if etags.is_known(exchange, tag):
        return answers.unchanged(headers)
    ordered = not route.method.service.startswith(RESOURCES)
    text = answers.text_of(to_plain(answer), pretty=exchange.options.pretty, ordered=ordered)
    return await answers.content(text, asked, status=status, headers=headers)


def _event_of(delivery: Message) -> Any:
    """Return the event that is delivered; None where only the place in the stream is told."""
    return to_json(delivery.event) if delivery.HasField("event") else None


def _with_options(sent: dict[str, str], options: requests.Options, route: Route) -> dict[str, str]:
    if options.dry_run:
        sent[metadata.DRY_RUN] = "true"
    if options.force:
        sent[metadata.FORCE] = "true"
    return sent


def _options_or_refusal(verb: str, allowed: Collection[str]) -> Response:
    """Answer a method that the path does not have. Raises: HttpError: it was no question for those that it has."""
    names = ", ".join(sorted({*allowed, "OPTIONS", *(["HEAD"] if "GET" in allowed else [])}))
    if verb == "OPTIONS":
        return Response(status_code=204, headers={"allow": names})
    message = f"{verb} is not allowed here; allowed: {names}"
    raise HttpError(405, StatusCode.UNIMPLEMENTED, message, headers={"allow": names})
