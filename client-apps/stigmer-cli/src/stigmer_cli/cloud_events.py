"""CloudEvents 1.0 between their JSON format and the messages of the contract."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from stigmer_protos import descriptors

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.messages import to_value, value_to_plain
from stigmer_cli.plain import Json, is_list, is_object
from stigmer_cli.resources import Message

SPEC_VERSION = "1.0"
_MESSAGE = "ai.stigmer.events.v1.CloudEvent"
_FIELDS = {
    "id": "id",
    "source": "source",
    "specversion": "spec_version",
    "type": "type",
    "subject": "subject",
    "datacontenttype": "data_content_type",
    "dataschema": "data_schema",
}
"""Attributes of the JSON format by the fields of the message that are texts as well."""


def to_message(event: Json, *, place: str) -> Message:
    """Return the message of an event in the JSON format; `place` says where it stands, for errors.

    Raises:
        InvalidInputError: It is none; what is wrong is told.
    """
    if not is_object(event):
        msg = f"{place}: an event is an object"
        raise InvalidInputError(msg, hint="""such as {"type": "com.example.placed", "source": "/shop", "data": {…}}""")
    message: Message = descriptors.message_type(_MESSAGE)()
    for name, value in event.items():
        _set_attribute(message, name, value, place)
    for required in ("source", "type"):
        if not getattr(message, required):
            msg = f"{place}: the event has no {required}"
            raise InvalidInputError(msg, hint=f"every event has a `{required}`")
    message.spec_version = message.spec_version or SPEC_VERSION
    return message


def _set_attribute(message: Message, name: str, value: Json, place: str) -> None:
    if name == "data":
        _set_data(message, value)
    elif name == "data_base64":
        try:
            message.binary_data = base64.b64decode(str(value), validate=True)
        except binascii.Error as error:
            msg = f"{place}: data_base64 is no base64: {error}"
            raise InvalidInputError(msg) from None
    elif name == "time":
        try:
            ParseDict({"time": value}, message)
        except ParseError:
            msg = f"{place}: time: {value!r} is no time"
            raise InvalidInputError(msg, hint="write it like 2026-01-31T12:00:00Z") from None
    elif is_object(value) or is_list(value) or value is None:
        msg = f"{place}: {name}: an attribute is a text, a number, true or false"
        raise InvalidInputError(msg, hint="what an event carries stands under `data`")
    elif name in _FIELDS:
        setattr(message, _FIELDS[name], str(value))
    else:
        message.extensions[name] = json.dumps(value) if not isinstance(value, str) else value


def _set_data(message: Message, value: Json) -> None:
    message.json_data.CopyFrom(to_value(value))


def to_json(message: Message) -> dict[str, Any]:
    """Return an event in the JSON format."""
    event: dict[str, Any] = {"specversion": message.spec_version or SPEC_VERSION}
    for name, field in _FIELDS.items():
        if getattr(message, field):
            event[name] = getattr(message, field)
    if message.HasField("time"):
        event["time"] = MessageToDict(message)["time"]
    event |= _sorted(message.extensions)
    match message.WhichOneof("data"):
        case "json_data":
            event["data"] = value_to_plain(message.json_data)
        case "text_data":
            event["data"] = message.text_data
        case "binary_data":
            event["data_base64"] = base64.b64encode(message.binary_data).decode()
        case _:
            pass
    return event


def read_events(text: str, *, name: str) -> list[Message]:
    """Return the events of a text: one in the JSON format, a list of them, or one on each line.

    Raises:
        InvalidInputError: There is none, or one cannot be read.
    """
    try:
        value: Json = json.loads(text)
    except json.JSONDecodeError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if len(lines) < 2:
            msg = f"{name}:{error.lineno}:{error.colno}: this is not JSON: {error.msg}"
            raise InvalidInputError(msg) from None
        return [_of_line(line, place=f"{name}:{number}") for number, line in lines]
    values = value if is_list(value) else [value]
    if not values:
        msg = f"{name} holds no event"
        raise InvalidInputError(msg)
    return [
        to_message(item, place=f"{name}[{index}]" if len(values) > 1 else name) for index, item in enumerate(values)
    ]


def _of_line(line: str, *, place: str) -> Message:
    try:
        return to_message(json.loads(line), place=place)
    except json.JSONDecodeError as error:
        msg = f"{place}:{error.colno}: this is not JSON: {error.msg}"
        raise InvalidInputError(msg, hint="write one event, a list of events, or one event on each line") from None


def _sorted(extensions: Mapping[str, str]) -> dict[str, str]:
    return {name: extensions[name] for name in sorted(extensions)}
