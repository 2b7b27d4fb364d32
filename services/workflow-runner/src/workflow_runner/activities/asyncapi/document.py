"""Reading AsyncAPI documents, versions 2 and 3: servers, channels, operations and messages in one form.

References inside of a document are followed. What a document says of other files is refused: a call must not
depend on what stands elsewhere by then.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, cast

from stigmer_dsl.problems import pointer_parts

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.structured import read

Json = Mapping[str, Any]

_MOST_HOPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server of a document."""

    name: str
    url: str
    """May hold `{variables}`, and may lack a scheme."""
    protocol: str
    variables: Json = field(default_factory=dict[str, Any])
    security: tuple[str, ...] = ()
    """The kinds of its security schemes, such as `scramSha256`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageType:
    """What a message may look like."""

    content_type: str
    payload: Any = None
    """A JSON Schema that stands by itself; None: anything goes."""
    headers: Any = None
    correlation: str = ""
    """Where its correlation id is, such as `$message.header#/correlationId`."""
    bindings: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that can be done with a channel."""

    address: str
    parameters: Json
    messages: tuple[MessageType, ...]
    servers: tuple[str, ...]
    """Names of those that have the channel; empty: all."""
    bindings: Json
    channel_bindings: Json


class Document:
    """A document."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._version = str(root.get("asyncapi", ""))
        if not self._version.startswith(("2.", "3.")):
            raise _wrong(f"it says `asyncapi: {self._version or None}`, and only versions 2 and 3 are known")
        self._is_new = self._version.startswith("3.")

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers, in the order of the document."""
        return tuple(self._server(name, self._at(each)) for name, each in self._section("servers").items())

    def operation(self, *, channel: str | None, operation: str | None, publishes: bool) -> Operation:
        """Return the operation that a task names, by its id or by its channel.

        Raises:
            CallFailedError: There is none; says what there is.
        """
        if operation is not None:
            return self._by_id(operation)
        found = self._channel(channel or "")
        if self._is_new:
            return self._new_operation(found, {})
        # What clients may publish is `publish` of the channel; they subscribe to `subscribe`.
        first, second = ("publish", "subscribe") if publishes else ("subscribe", "publish")
        return self._old_operation(*found, self._at(found[1].get(first) or found[1].get(second) or {}))

    def _by_id(self, operation: str) -> Operation:
        if self._is_new:
            operations = self._section("operations")
            if operation not in operations:
                raise _unknown("operation", operation, operations)
            found = self._at(operations[operation])
            return self._new_operation(self._referred("channels", found.get("channel")), found)
        known: dict[str, Operation] = {}
        for name, raw in self._section("channels").items():
            channel = self._at(raw)
            for verb in ("publish", "subscribe"):
                found = self._at(channel.get(verb) or {})
                if "operationId" in found:
                    known[str(found["operationId"])] = self._old_operation(name, channel, found)
        if operation not in known:
            raise _unknown("operation", operation, known)
        return known[operation]

    def _channel(self, name: str) -> tuple[str, Json]:
        channels = self._section("channels")
        if name in channels:
            return name, self._at(channels[name])
        for key, raw in channels.items():
            if self._at(raw).get("address") == name:
                return key, self._at(raw)
        raise _unknown("channel", name, channels)

    def _old_operation(self, name: str, channel: Json, operation: Json) -> Operation:
        return Operation(
            address=name,
            parameters={key: _default(self._at(each)) for key, each in _object(channel.get("parameters")).items()},
            messages=tuple(self._messages(self._at(operation.get("message") or {}))),
            servers=tuple(channel.get("servers") or ()),
            bindings=self._bindings(operation),
            channel_bindings=self._bindings(channel),
        )

    def _new_operation(self, named: tuple[str, Json], operation: Json) -> Operation:
        name, channel = named
        listed: list[Any] = list(operation.get("messages") or _object(channel.get("messages")).values())
        address = channel.get("address")
        return Operation(
            address=name if address is None else str(address),
            parameters={key: _default(self._at(each)) for key, each in _object(channel.get("parameters")).items()},
            messages=tuple(message for each in listed for message in self._messages(self._at(each))),
            servers=tuple(self._referred("servers", each)[0] for each in channel.get("servers") or ()),
            bindings=self._bindings(operation),
            channel_bindings=self._bindings(channel),
        )

    def _server(self, name: str, server: Json) -> Server:
        url = server.get("url") or f"{server.get('host', '')}{server.get('pathname', '')}"
        schemes: list[str] = []
        for each in server.get("security") or ():
            known = _object(self._section("components").get("securitySchemes"))
            found: Any = self._at(each)
            # Version 2 names schemes, version 3 has them here.
            parts = [found] if "type" in found else [self._at(known[key]) for key in found if key in known]
            schemes += (str(part.get("type", "")) for part in parts)
        return Server(
            name=name,
            url=str(url),
            protocol=str(server.get("protocol", "")).lower(),
            variables={key: self._at(each) for key, each in _object(server.get("variables")).items()},
            security=tuple(schemes),
        )

    def _messages(self, message: Json) -> Iterator[MessageType]:
        if isinstance(message.get("oneOf"), list):
            for each in message["oneOf"]:
                yield from self._messages(self._at(each))
            return
        for trait in message.get("traits") or ():
            message = {**self._at(trait), **message}
        payload, format_ = message.get("payload"), str(message.get("schemaFormat", ""))
        if isinstance(payload, dict) and "schemaFormat" in payload:
            wrapped = cast("Json", payload)
            payload, format_ = wrapped.get("schema"), str(wrapped["schemaFormat"])
        correlation = self._at(message.get("correlationId") or {})
        yield MessageType(
            content_type=str(message.get("contentType") or self._root.get("defaultContentType") or "application/json"),
            payload=self._schema(payload) if _is_json_schema(format_) else None,
            headers=self._schema(message.get("headers")),
            correlation=str(correlation.get("location", "")),
            bindings=self._bindings(message),
        )

    def _schema(self, schema: Any) -> Any:
        """Return a schema with what it may refer to beside it."""
        if not isinstance(schema, dict):
            return schema
        return {**cast("Json", schema), "components": self._root.get("components") or {}}

    def _bindings(self, element: Json) -> Json:
        return {name: self._at(each) for name, each in self._at(element.get("bindings") or {}).items()}

    def _section(self, name: str) -> Json:
        return _object(self._root.get(name))

    def _referred(self, section: str, reference: Any) -> tuple[str, Json]:
        """Return an element of a section by the reference to it."""
        pointer = _object(reference).get("$ref")
        if not isinstance(pointer, str) or not pointer.startswith(f"#/{section}/"):
            raise _wrong(f"a reference to one of its {section} is {pointer!r}")
        name = pointer_parts(pointer[1:])[1]
        return name, self._at(cast("Json", reference))

    def _at(self, element: Any) -> Json:
        """Return an object, which may stand where a reference says."""
        for _ in range(_MOST_HOPS):
            if not isinstance(element, dict):
                raise _wrong(f"{json.dumps(element)[:80]} stands where an object belongs")
            reference = cast("Json", element).get("$ref")
            if reference is None:
                return cast("Json", element)
            element = self._follow(str(reference))
        raise _wrong("its references go in circles")

    def _follow(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise _wrong(f"it refers to {reference!r}, outside of it; bring what it needs into one document")
        found: Any = self._root
        for part in pointer_parts(reference[1:]):
            key: Any = int(part) if isinstance(found, list) and part.isdecimal() else part
            try:
                found = cast("Any", found)[key]
            except (LookupError, TypeError):
                raise _wrong(f"it refers to {reference!r}, which is not in it") from None
        return found


@lru_cache(maxsize=32)
def read_document(text: str) -> Document:
    """Return the document that a JSON or YAML text is.

    Raises:
        CallFailedError: It is none.
    """
    try:
        root = read(text)
    except ValueError as error:
        raise _wrong(f"it is neither JSON nor YAML: {error}") from None
    if not isinstance(root, dict):
        raise _wrong("it is no object")
    return Document(cast("Json", root))


def _default(parameter: Json) -> Any:
    return parameter.get("default", _object(parameter.get("schema")).get("default"))


def _object(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _is_json_schema(format_: str) -> bool:
    return not format_ or "vnd.aai.asyncapi" in format_ or "schema+json" in format_ or "schema+yaml" in format_


def _unknown(kind: str, name: str, there: Json) -> CallFailedError:
    close = get_close_matches(name, list(there), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return _wrong(f"it has no {kind} {name!r}{hint}; there are: {', '.join(there) or 'none'}")


def _wrong(sentence: str) -> CallFailedError:
    return CallFailedError("configuration", f"the AsyncAPI document: {sentence}")
