"""CloudEvents 1.0: what an event must be, its JSON form, and how events are kept and told apart.

Events are records of the store like resources, of a kind that is no kind of resource. What the contract's own rules
say of an event (lengths, URIs, required attributes) is checked with them; here stands what they cannot say.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.protobuf.json_format import Error as JsonError
from stigmer_protos import descriptors
from stigmer_sqlite.port import KindSchema, Record

from stigmer_server.errors import InvalidError, Violation
from stigmer_server.messages import Message, copied, value_to_plain
from stigmer_server.naming import new_id, new_ulid
from stigmer_server.unit import timestamp

EVENT = "cloud_event"
"""The store's kind of events."""
LOG = "cloud_event_log"
"""The store's kind of what is known of an organization's events as a whole; one record for each that has had any."""
SCHEMAS = (
    KindSchema(kind=EVENT, indexes={"type": "$.type", "source": "$.source", "subject": "$.subject"}),
    KindSchema(kind=LOG),
)
MAX_EVENT_BYTES = 2**20
MAX_EXTENSIONS = 64

_EXTENSION = re.compile(r"[a-z0-9]{1,64}")
_CORE = frozenset({"id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data"})
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|\"[\t\x20-\x7e]*\"))*[ \t]*")
# What the specification keeps out of strings: control characters and the code points that are no characters.
_NO_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17))
    + "]"
)
_STRINGS = ("id", "type", "subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events of an organization are meant; everything given must hold."""

    org: str
    types: Sequence[str] = ()
    """Any of these; one that ends in `*` stands for all that begin so. None: every type."""
    source: str = ""
    subject: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Extension attributes and their values, by which what belongs together is correlated."""

    @property
    def where(self) -> Mapping[str, str | Sequence[str]]:
        """What an index can tell; `fits` tells the rest."""
        found: dict[str, str | Sequence[str]] = {}
        if self.types and not any(type_.endswith("*") for type_ in self.types):
            found["type"] = tuple(self.types)
        found |= {name: value for name, value in (("source", self.source), ("subject", self.subject)) if value}
        return found

    def fits(self, event: Message) -> bool:
        """Tell whether an event of the organization is meant."""
        return (
            (not self.types or any(_is_of(event.type, type_) for type_ in self.types))
            and self.source in ("", event.source)
            and self.subject in ("", event.subject)
            and all(event.extensions.get(name) == value for name, value in self.attributes.items())
        )


def _is_of(type_: str, pattern: str) -> bool:
    return type_.startswith(pattern[:-1]) if pattern.endswith("*") else type_ == pattern


def parse(wire: bytes) -> Message:
    """Return the event that the bytes encode."""
    return descriptors.message_type("ai.stigmer.events.v1.CloudEvent").FromString(wire)


def completed(event: Message, path: str) -> Message:
    """Return a copy of a published event with what its publisher left to the server: id, time and version.

    Raises:
        InvalidError: It breaks a rule of CloudEvents; names every one with its path.
    """
    if violations := list(_violations(event, path)):
        shown = "; ".join(f"{violation.field}: {violation.message}" for violation in violations[:3])
        raise InvalidError(shown, violations)
    message = copied(event)
    message.id = message.id or new_ulid()
    message.spec_version = "1.0"
    if not message.HasField("time"):
        message.time.CopyFrom(timestamp())
    return message


def key_of(event: Message) -> str:
    """Return what tells an event from every other of its organization: its source and id."""
    return hashlib.blake2b(f"{event.source}\0{event.id}".encode(), digest_size=20).hexdigest()


def record_of(org: str, event: Message) -> Record:
    """Return a completed event as the store keeps it; its slug is its key, so that it is kept once."""
    return Record(
        kind=EVENT,
        id=new_id("evt"),
        org_id=org,
        slug=key_of(event),
        data=orjson.dumps(to_json(event)).decode(),
        wire=event.SerializeToString(),
    )


def log_id(org: str) -> str:
    """Return the id of what is known of an organization's events."""
    return f"{LOG}/{org}"


def to_json(event: Message) -> dict[str, Any]:
    """Return the event in the JSON format of CloudEvents."""
    found: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    optional = {
        "subject": event.subject,
        "time": event.time.ToJsonString() if event.HasField("time") else "",
        "datacontenttype": event.data_content_type,
        "dataschema": event.data_schema,
    }
    found |= {name: value for name, value in optional.items() if value}
    found |= {name: event.extensions[name] for name in sorted(event.extensions)}
    match event.WhichOneof("data"):
        case "json_data":
            found["data"] = value_to_plain(event.json_data)
        case "text_data":
            found["data"] = event.text_data
        case "binary_data":
            found["data_base64"] = base64.b64encode(event.binary_data).decode()
        case _:
            pass
    return found


def _violations(event: Message, path: str) -> Iterator[Violation]:
    for name in _STRINGS:
        if _NO_TEXT.search(getattr(event, name)):
            yield _violation(f"{path}.{name}", "text", "holds a control character, or what is no character")
    if event.data_content_type and not _MEDIA_TYPE.fullmatch(event.data_content_type):
        yield _violation(f"{path}.data_content_type", "media_type", "is no media type, such as application/json")
    if len(event.extensions) > MAX_EXTENSIONS:
        problem = f"has {len(event.extensions)} entries; {MAX_EXTENSIONS} are allowed"
        yield _violation(f"{path}.extensions", "extensions", problem)
    for name in sorted(event.extensions)[:MAX_EXTENSIONS]:
        yield from _extension_violations(name, event.extensions[name], f"{path}.extensions[{name[:100]}]")
    yield from _value_violations(event, path)
    if (size := event.ByteSize()) > MAX_EVENT_BYTES:
        yield _violation(path, "size", f"has {size} bytes; an event has at most {MAX_EVENT_BYTES}")


def _extension_violations(name: str, value: str, path: str) -> Iterator[Violation]:
    if not _EXTENSION.fullmatch(name):
        yield _violation(path, "extension_name", "has a name that is not 1 to 64 lower-case letters and digits")
    elif name in _CORE:
        yield _violation(path, "extension_name", "has the name of an attribute that events have anyway")
    if _NO_TEXT.search(value):
        yield _violation(path, "text", "holds a control character, or what is no character")


def _value_violations(event: Message, path: str) -> Iterator[Violation]:
    if event.HasField("time"):
        try:
            event.time.ToJsonString()
        except (JsonError, ValueError):
            yield _violation(f"{path}.time", "time", "is no time between the years 1 and 9999")
    if event.WhichOneof("data") == "json_data":
        try:
            value_to_plain(event.json_data)
        except ValueError as error:
            yield _violation(f"{path}.json_data", "json", str(error))


def _violation(path: str, rule: str, message: str) -> Violation:
    return Violation(field=path, rule=f"event.{rule}", message=message)
