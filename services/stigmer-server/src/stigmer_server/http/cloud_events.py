"""CloudEvents 1.0 in their HTTP binding: taken in any of its three modes, and given in their own JSON format.

    structured   content-type: application/cloudevents+json         one event is the body
    batched      content-type: application/cloudevents-batch+json   a list of events is the body
    binary       ce-id, ce-source, ce-type, …                       the headers are the event, the body is its data

The specification leaves little to choose, so this reads it to the letter; the SDK for Python guesses where it says
"must", and loses digits of times on the way.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from stigmer_grpc import InvalidArgumentError, StatusCode
from stigmer_protos import descriptors

from stigmer_server.cloud_events import to_json
from stigmer_server.http.exchange import Exchange
from stigmer_server.http.problems import HttpError
from stigmer_server.http.proto_json import Problems, parse_json, read
from stigmer_server.messages import Message

SERVICE = "ai.stigmer.events.v1.EventController"
PUBLISH, SUBSCRIBE, LIST = (f"/{SERVICE}/{name}" for name in ("publish", "subscribe", "list"))
EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_FAMILY = "application/cloudevents"
_PREFIX = "ce-"
_FIELDS: Mapping[str, str] = {
    "id": "id",
    "source": "source",
    "specversion": "spec_version",
    "type": "type",
    "subject": "subject",
    "time": "time",
    "datacontenttype": "data_content_type",
    "dataschema": "data_schema",
}
"""Attributes to fields of the message; every other attribute is an extension."""
_NAME = re.compile(r"[a-z0-9]+").fullmatch
_JSON_TYPE = re.compile(r"[^/]+/(?:[^/;]+\+)?json(?:\s*;.*)?").fullmatch
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"').fullmatch
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_VERSION = "1.0"
_INT32 = 2**31


def is_binding(exchange: Exchange) -> bool:
    """Whether a request brings events in the HTTP binding, and not as the message of the call."""
    return exchange.body.media_type.startswith(_FAMILY) or f"{_PREFIX}specversion" in exchange.headers


async def request_of(exchange: Exchange) -> Message:
    """Return the request to publish the events that a request brings.

    Raises:
        InvalidArgumentError: They are no events; the violations name attributes by the fields of the message.
        HttpError: They are in a format that is not taken, or the body is not to be had.
        GoneError: The caller is gone.
    """
    text = await exchange.body.read()
    problems = Problems()
    match exchange.body.media_type:
        case media_type if media_type in (EVENT, BATCH):
            content: Any = parse_json(text)
            if media_type == EVENT:
                content = [content]
            elif not isinstance(content, list):
                problems.add("events", "type", "a batch is a list of events")
                content = []
            listed = cast("list[Any]", content)
            events = [_from_json(event, f"events[{at}]", problems) for at, event in enumerate(listed)]
        case media_type if media_type.startswith(_FAMILY):
            message = f"events are taken as {EVENT} or {BATCH}, not as {media_type[:100]!r}"
            raise HttpError(415, StatusCode.INVALID_ARGUMENT, message, headers={"accept": f"{EVENT}, {BATCH}"})
        case _:
            events = [_from_headers(exchange.headers, text, problems)]
    problems.check()
    return exchange.build({"events": events})


def batch(answer: Message) -> list[dict[str, Any]]:
    """Return the events of a list as a batch."""
    return [to_json(event) for event in answer.entries]


def _from_json(event: Any, path: str, problems: Problems) -> dict[str, Any]:
    if not isinstance(event, dict):
        problems.add(path, "type", "an event is an object")
        return {}
    content = dict(cast("dict[str, Any]", event))
    data, encoded = content.pop("data", None), content.pop("data_base64", None)
    attributes: dict[str, str] = {}
    for name, value in content.items():
        if name in _FIELDS and value is not None and not isinstance(value, str):
            problems.add(f"{path}.{name}", "type", "expected a string")
        elif value is not None:
            attributes[name] = _text_of(value, f"{path}.{name}", problems)
    made = _event(attributes, path, problems)
    if encoded is not None:
        if data is not None:
            problems.add(path, "oneof", "only one of data and data_base64 may be given")
        made["binary_data"] = encoded
    elif "data" in event:
        is_text = isinstance(data, str) and not _says_json(attributes.get("datacontenttype", ""))
        made["text_data" if is_text else "json_data"] = data
    return made


def _text_of(value: Any, path: str, problems: Problems) -> str:
    """Return an attribute in the canonical text of its type."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() if -_INT32 <= value < _INT32:
            return str(value)
        case _:
            problems.add(path, "type", "an attribute is a string, true or false, or a whole number of 32 bits")
            return ""


def _from_headers(headers: Headers, body: bytes, problems: Problems) -> dict[str, Any]:
    attributes: dict[str, str] = {}
    for name, value in headers.items():
        if name.startswith(_PREFIX):
            attribute = name.removeprefix(_PREFIX)
            if attribute in attributes:
                problems.add(name, "twice", "may be given only once")
            attributes[attribute] = _from_header(name, value, problems)
    content_type = headers.get("content-type", "")
    if "datacontenttype" in attributes:
        problems.add(f"{_PREFIX}datacontenttype", "header", "the type of the data is said by content-type")
    if content_type:
        attributes["datacontenttype"] = content_type
    made = _event(attributes, "events[0]", problems)
    if body:
        made |= _data(content_type, body)
    return made


def _from_header(name: str, value: str, problems: Problems) -> str:
    """Return the text of an attribute: out of its quotes, and out of its percent-encoding, once."""
    quoted = _QUOTED(value)
    plain = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    try:
        if _BROKEN_PERCENT(plain):
            raise ValueError(plain)
        return unquote_to_bytes(plain.encode("latin-1")).decode()
    except ValueError:
        problems.add(name, "encoding", "expected UTF-8, with % before two hexadecimal digits only")
        return ""


def _event(attributes: Mapping[str, str], path: str, problems: Problems) -> dict[str, Any]:
    """Return the event of attributes, still without data, as the JSON of its message."""
    made: dict[str, Any] = {}
    extensions: dict[str, str] = {}
    for name, value in attributes.items():
        if name in _FIELDS:
            made[_FIELDS[name]] = value
        elif _NAME(name):
            extensions[name] = value
        else:
            problems.add(f"{path}.{name}", "attribute", "names of attributes have lower-case letters and digits only")
    for name in _missing(attributes):
        problems.add(f"{path}.{_FIELDS[name]}", "attribute", f"the attribute {name} is required")
    if attributes.get("specversion", _VERSION) != _VERSION:
        problems.add(f"{path}.spec_version", "attribute", f"only events of version {_VERSION} are taken")
    return {**made, "extensions": extensions} if extensions else made


def _missing(attributes: Mapping[str, str]) -> Iterable[str]:
    return (name for name in ("id", "source", "specversion", "type") if not attributes.get(name))


def _data(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the data of an event in binary mode, as the field that fits its type. Raises: InvalidArgumentError."""
    if content_type and _says_json(content_type):
        plain = parse_json(body)
        if _is_kept(plain):
            return {"json_data": plain}
        # Numbers that no Value can hold, such as 64-bit ids, are kept as they were written.
        return {"text_data": body.decode()}
    if content_type.lower().startswith("text/"):
        try:
            return {"text_data": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"binary_data": base64.b64encode(body).decode()}


def _is_kept(plain: Any) -> bool:
    try:
        read(plain, descriptors.message_type("google.protobuf.Value")())
    except InvalidArgumentError:
        return False
    return True


def _says_json(content_type: str) -> bool:
    return not content_type or _JSON_TYPE(content_type.strip().lower()) is not None
