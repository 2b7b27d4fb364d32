"""Streams of bytes as a file: an archive, a JSON text or a file of a workspace, piece by piece as the call gives it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from starlette.responses import Response
from stigmer_grpc import ResponseStream, RpcError

from stigmer_server.http.bodies import GoneError
from stigmer_server.http.exchange import Exchange, Scope, Send, cancelled_when_gone
from stigmer_server.messages import Message

ARCHIVE, JSON, ANYTHING = "application/zip", "application/json", "application/octet-stream"

_SAFE = re.compile(r"[^a-zA-Z0-9._-]")


def chunk_of(answer: Descriptor) -> str | None:
    """Return the one field of a stream's answers that is a piece of a file, or None when it is no file."""
    fields = list(answer.fields)
    return fields[0].name if len(fields) == 1 and fields[0].type == FieldDescriptor.TYPE_BYTES else None


def media_type_of(answer: Descriptor) -> str:
    """Return what the pieces of a file make."""
    return {"OutputPart": JSON, "FilePart": ANYTHING}.get(answer.name, ARCHIVE)


async def download(exchange: Exchange) -> Response:
    """Return the answer that streams the file which a request means.

    Raises:
        RpcError: There is no such file, or none of the resource that should have it.
        InvalidArgumentError, HttpError, GoneError: See `Exchange.message`.
    """
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if exchange.route.through is None:
        request = await exchange.message()
        name = _name_of(exchange, request)
    else:
        resource = await _found(exchange)
        etag = f'"{resource.status.version_hash}"'
        headers["etag"] = etag
        if etag in exchange.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        request = _request(exchange, resource)
        name = f"{resource.metadata.slug or 'artifact'}.zip"
    headers["content-disposition"] = _disposition(name)
    stream = exchange.stream(request)
    try:
        async with cancelled_when_gone(exchange.receive):
            first: Message | None = await anext(stream, None)
    except BaseException:
        stream.cancel()
        raise
    return _FileResponse(exchange, stream, first, headers)


def _name_of(exchange: Exchange, request: Message) -> str:
    """Return what the file is called where it is saved."""
    if media_type_of(exchange.route.method.descriptor.output_type) == ANYTHING:
        return PurePosixPath(request.path).name or "file"
    return "output.json" if exchange.route.method.name == "getOutput" else "artifact.zip"


def _disposition(name: str) -> str:
    """Return the header that has the answer saved; a name beyond plain ASCII is told in the way that RFC 6266 has."""
    plain = _SAFE.sub("-", name)
    told = f'attachment; filename="{plain}"'
    return told if plain == name else f"{told}; filename*=UTF-8''{quote(name, safe='')}"


async def _found(exchange: Exchange) -> Message:
    """Return the resource that has the file."""
    route = exchange.route.through
    assert route is not None  # noqa: S101 - asked before
    finder = replace(exchange, route=route)
    return await finder.unary(await finder.message(), {})


def _request(exchange: Exchange, resource: Message) -> Message:
    request: Message = exchange.route.method.request_type()
    (field,) = request.DESCRIPTOR.fields
    setattr(request, field.name, getattr(resource.status, field.name))
    return request


class _FileResponse(Response):
    """The answer itself. A call that fails in the middle cuts the connection: only so the caller sees it is not all."""

    def __init__(
        self, exchange: Exchange, stream: ResponseStream, first: Message | None, headers: dict[str, str]
    ) -> None:
        super().__init__(headers=headers, media_type=media_type_of(exchange.route.method.descriptor.output_type))
        del self.headers["content-length"]
        self._exchange = exchange
        self._stream = stream
        self._first = first
        self._field = chunk_of(exchange.route.method.descriptor.output_type) or ""

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        try:
            async with cancelled_when_gone(self._exchange.receive):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if self._first is not None:
                    await self._piece(send, self._first)
                    async for message in self._stream:
                        await self._piece(send, message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except GoneError:
            return
        except RpcError as error:
            raise ConnectionAbortedError(f"cut after a part: {error}") from error
        finally:
            self._stream.cancel()

    async def _piece(self, send: Send, message: Message) -> None:
        await send({"type": "http.response.body", "body": getattr(message, self._field), "more_body": True})
