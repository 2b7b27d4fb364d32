"""Streams of requests: an archive as the body of one request, or one JSON message a line.

Nothing is held in memory but the piece that came last: the body is read as the call takes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from stigmer_grpc import FieldViolation, InvalidArgumentError, StatusCode

from stigmer_server.http.exchange import Exchange
from stigmer_server.http.problems import HttpError
from stigmer_server.http.proto_json import parse_json, read
from stigmer_server.http.requests import from_query, say
from stigmer_server.messages import Message

LINES = "application/x-ndjson"
FORM = "multipart/form-data"
ARCHIVES = ("application/zip", "application/octet-stream")

_MAX_FIELD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the messages of a method say a file: first what it is called, then its bytes."""

    header: FieldDescriptor
    chunk: FieldDescriptor


def shape_of(request: Descriptor) -> Shape | None:
    """Return how a stream of such messages says a file, or None when it says something else."""
    for oneof in request.oneofs:
        fields = list(oneof.fields)
        messages = [field for field in fields if field.message_type is not None]
        pieces = [field for field in fields if field.type == FieldDescriptor.TYPE_BYTES]
        if len(fields) == 2 and messages and pieces:
            return Shape(header=messages[0], chunk=pieces[0])
    return None


async def upload(exchange: Exchange, trailers: dict[str, str | bytes]) -> Message:
    """Make a call whose requests are the body, in whichever of its forms.

    Raises:
        RpcError: The call failed.
        HttpError: The body is of another type, or is not to be had.
        GoneError: The caller is gone.
    """
    method = exchange.route.method
    stub = exchange.channel.service(method.service)
    return await stub.client_stream(
        method.name, _addressed(exchange), timeout=exchange.timeout, metadata=exchange.metadata, trailers=trailers
    )


async def _addressed(exchange: Exchange) -> AsyncIterator[Message]:
    """Yield the messages, of which the first is also told what the path says."""
    shape, is_first = shape_of(exchange.route.method.descriptor.input_type), True
    async for message in _messages(exchange):
        if is_first and shape is not None and not message.HasField(shape.chunk.name):
            say(message, exchange.route, exchange.match)
        is_first = False
        yield message


def _messages(exchange: Exchange) -> AsyncIterator[Message]:
    media_type = exchange.body.media_type
    shape = shape_of(exchange.route.method.descriptor.input_type)
    if media_type == LINES:
        return _lines(exchange)
    if shape is not None and media_type in ARCHIVES:
        return _file(exchange, shape)
    if shape is not None and media_type == FORM:
        return _form(exchange, shape)
    takes = [LINES, *([*ARCHIVES, FORM] if shape is not None else [])]
    message = f"expected a body of type {', '.join(takes)}; got {media_type[:100] or 'none'!r}"
    raise HttpError(415, StatusCode.INVALID_ARGUMENT, message, headers={"accept": ", ".join(takes)})


async def _lines(exchange: Exchange) -> AsyncIterator[Message]:
    rest, number = b"", 0
    async for piece in exchange.body.pieces():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise HttpError(413, StatusCode.RESOURCE_EXHAUSTED, f"a line is longer than {_MAX_LINE_BYTES} bytes")
        for line in lines:
            number += 1
            if line.strip():
                yield _line(exchange, line, number)
    if rest.strip():
        yield _line(exchange, rest, number + 1)


def _line(exchange: Exchange, line: bytes, number: int) -> Message:
    message: Message = exchange.route.method.request_type()
    read(parse_json(line), message, path=f"line[{number}]")
    return message


async def _file(exchange: Exchange, shape: Shape) -> AsyncIterator[Message]:
    yield _header(exchange, shape, exchange.parameters)
    async for piece in exchange.body.pieces():
        yield _chunk(exchange, shape, piece)


async def _form(exchange: Exchange, shape: Shape) -> AsyncIterator[Message]:
    form = _Form(exchange.headers.get("content-type", ""))
    begun = False
    async for piece in exchange.body.pieces():
        form.feed(piece)
        if form.file_begun and not begun:
            begun = True
            yield _header(exchange, shape, [*exchange.parameters, *form.fields])
        for content in form.taken():
            yield _chunk(exchange, shape, content)
    form.close()
    if not begun:
        raise _wrong("form.file", "the form has no file; send one as a part with a filename")


def _header(exchange: Exchange, shape: Shape, parameters: list[tuple[str, str]]) -> Message:
    """Return the first message: what the query string and the fields of the form say of the file."""
    message: Message = exchange.route.method.request_type()
    header = getattr(message, shape.header.name)
    header.SetInParent()
    read(from_query(header.DESCRIPTOR, parameters), header)
    return message


def _chunk(exchange: Exchange, shape: Shape, content: bytes) -> Message:
    message: Message = exchange.route.method.request_type()
    setattr(message, shape.chunk.name, content)
    return message


class _Form:
    """A multipart body as it comes: fields first, then one file."""

    def __init__(self, content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _wrong("form.boundary", "the content type names no boundary")
        self.fields: list[tuple[str, str]] = []
        self.file_begun = False
        self._content: list[bytes] = []
        self._name = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._in_file = False
        self._field = ""
        self._text = bytearray()
        self._complete = False
        callbacks: Any = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_ends,
            "on_end": self._ends,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _wrong("form.boundary", str(error)) from None

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body. Raises: InvalidArgumentError: it is no form, or not one of ours."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _wrong("form.syntax", str(error)) from None

    def taken(self) -> list[bytes]:
        """Return what came of the file since the last time."""
        content, self._content = self._content, []
        return content

    def close(self) -> None:
        """Say that the body is over. Raises: InvalidArgumentError: the form is not."""
        if not self._complete:
            raise _wrong("form.syntax", "the form ends before its last boundary")

    def _part_begins(self) -> None:
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        if self.file_begun:
            raise _wrong("form.order", "fields come before the file, and there is one file")
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        self._in_file = self.file_begun = b"filename" in options
        try:
            self._field = options.get(b"name", b"").decode()
        except UnicodeDecodeError:
            raise _wrong("form.syntax", "the name of a field is not UTF-8") from None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._content.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD_BYTES:
            raise _wrong("form.field", f"a field takes at most {_MAX_FIELD_BYTES} bytes; a file needs a filename")

    def _part_ends(self) -> None:
        if not self._in_file:
            try:
                self.fields.append((self._field, self._text.decode()))
            except UnicodeDecodeError:
                raise _wrong("form.field", f"field {self._field!r} is not UTF-8") from None
        self._text.clear()

    def _ends(self) -> None:
        self._complete = True


def _wrong(rule: str, message: str) -> InvalidArgumentError:
    return InvalidArgumentError(message, [FieldViolation("", rule, message)])
