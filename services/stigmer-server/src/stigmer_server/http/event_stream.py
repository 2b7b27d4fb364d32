"""Streams of answers as server-sent events, for browsers' EventSource and for curl.

    id: <resume token>          where the stream can be resumed; comes back as Last-Event-ID
    event: <type>               where the answers have a type: created, updated, …; else none, which means "message".
                                `bookmark` where there is nothing to tell but the id
    data: <proto-JSON>

A comment keeps the connection open while nothing happens. `event: end` says that there is nothing more, and after it a
client that asks again with the id it came with gets 204, which ends an EventSource for good. `event: error` carries the
problem details of a call that failed after the answer had begun.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor
from starlette.responses import Response
from stigmer_grpc import ResponseStream, RpcError, UnavailableError

from stigmer_server.http import answers
from stigmer_server.http.bodies import GoneError
from stigmer_server.http.exchange import Exchange, Scope, Send, cancelled_when_gone
from stigmer_server.http.problems import to_bytes
from stigmer_server.messages import Message, to_plain

MEDIA_TYPE = "text/event-stream"
END = "end"
"""Type of the last event, and its id where the stream has no other ids."""

_RETRY_MILLISECONDS = 2000
_FIRST_SECONDS = 0.25
"""How long the first answer is waited for, so that a call that fails at once fails with the status of its error."""
_TOKEN = "resume_token"  # noqa: S105 - the name of a field
_LAST_ID = "last-event-id"

Render = Callable[[Message], Any]
"""Makes the JSON of an event's data; None for an answer that tells nothing but where the stream can be resumed."""
_BOOKMARK = b"event: bookmark\n"


async def event_stream(
    exchange: Exchange, *, stopping: asyncio.Event, heartbeat: float, render: Render = to_plain
) -> Response:
    """Begin the call of a request and return the answer that streams it.

    Args:
        exchange: The request.
        stopping: Set when the server stops: a stream that ends then has not come to its end.
        heartbeat: Seconds without an event until a comment is sent.
        render: Makes the data of an event.

    Raises:
        RpcError: The call failed at once.
        InvalidArgumentError, HttpError, GoneError: See `Exchange.message`.
    """
    request = await exchange.message()
    last_id = exchange.headers.get(_LAST_ID, "")
    if last_id and _is_resumable(request.DESCRIPTOR):
        # The header is newer than what the address says: an EventSource asks the same address again and again.
        request.resume_token = last_id
    elif last_id == END:
        return Response(status_code=204)
    stream = exchange.stream(request)
    first = asyncio.ensure_future(anext(stream))
    try:
        async with cancelled_when_gone(exchange.receive):
            await asyncio.wait({first}, timeout=_FIRST_SECONDS)
        if first.done() and isinstance(error := first.exception(), RpcError):
            raise error
    except BaseException:
        first.cancel()
        stream.cancel()
        raise
    encode = _Encoder(exchange.route.method.descriptor.output_type, render)
    return _EventResponse(exchange, stream, first, encode, stopping, heartbeat)


class _EventResponse(Response):
    """The answer itself; it ends the call whatever becomes of the connection."""

    def __init__(
        self,
        exchange: Exchange,
        stream: ResponseStream,
        first: asyncio.Future[Message],
        encode: _Encoder,
        stopping: asyncio.Event,
        heartbeat: float,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"}, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._exchange = exchange
        self._stream = stream
        self._next = first
        self._encode = encode
        self._stopping = stopping
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        try:
            async with cancelled_when_gone(self._exchange.receive):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_all(send)
        except GoneError:
            return
        finally:
            self._next.cancel()
            self._stream.cancel()

    async def _send_all(self, send: Send) -> None:
        await _send(send, f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
        while True:
            await asyncio.wait({self._next}, timeout=self._heartbeat)
            if not self._next.done():
                await _send(send, b": \n\n")
                continue
            try:
                message = self._next.result()
            except (StopAsyncIteration, RpcError) as error:
                await _send(send, self._last(error), more=False)
                return
            await _send(send, self._encode(message))
            self._next = asyncio.ensure_future(anext(self._stream))

    def _last(self, error: Exception) -> bytes:
        """Return the event that says how the stream ended."""
        if isinstance(error, RpcError):
            failure = error
        elif self._stopping.is_set():
            failure = UnavailableError("the server is stopping")
        else:
            id_line = b"" if self._encode.has_ids else f"id: {END}\n".encode()
            return id_line + f"event: {END}\ndata: {{}}\n\n".encode()
        _, told = answers.told(failure, instance=self._exchange.path, request_id=self._exchange.id)
        return b"event: error\ndata: " + to_bytes(told) + b"\n\n"


class _Encoder:
    """Makes events of the answers of one method."""

    def __init__(self, descriptor: Descriptor, render: Render) -> None:
        self.has_ids = _TOKEN in descriptor.fields_by_name
        self._types = _type_names(descriptor)
        self._render = render

    def __call__(self, message: Message) -> bytes:
        lines: list[bytes] = []
        if self.has_ids and message.resume_token:
            lines.append(f"id: {message.resume_token}\n".encode())
        if self._types and message.type in self._types:
            lines.append(f"event: {self._types[message.type]}\n".encode())
        rendered = self._render(message)
        if rendered is None:
            lines.append(_BOOKMARK)
            rendered = to_plain(message)
        return b"".join([*lines, b"data: ", orjson.dumps(rendered), b"\n\n"])


def _type_names(descriptor: Descriptor) -> dict[int, str]:
    """Return the names of the types of a stream's answers, from the enum of their field `type`: `created`."""
    field = descriptor.fields_by_name.get("type")
    if field is None or field.enum_type is None:
        return {}
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field.enum_type.name).upper() + "_"
    values: Any = field.enum_type.values
    return {value.number: value.name.removeprefix(prefix).lower() for value in values if value.number}


def _is_resumable(request: Descriptor) -> bool:
    return _TOKEN in request.fields_by_name


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
