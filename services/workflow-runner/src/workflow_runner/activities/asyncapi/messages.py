"""Messages between workflows and brokers: checked, written as bytes, and read from them."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.problems import pointer_parts
from stigmer_dsl.schemas import invalid_schema, violations

from workflow_runner.activities.asyncapi.document import MessageType
from workflow_runner.activities.asyncapi.port import Inbound, Outbound
from workflow_runner.activities.bodies import text as text_of
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.structured import read_json

_MOST_TOLD = 5
_HEADER, _PAYLOAD = "$message.header#", "$message.payload#"


def outbound(payload: Any, headers: Mapping[str, Any], types: Sequence[MessageType]) -> Outbound:
    """Return a message to publish; it must be of one of `types`, where there are any.

    Raises:
        CallFailedError: It is of none; says what is wrong with it.
    """
    kind = _fitting(payload, headers, types)
    content_type = "application/json" if kind is None else kind.content_type
    key = None if kind is None else _key(kind, headers)
    as_text = isinstance(payload, str) and not _is_json(content_type)
    body = cast("str", payload).encode() if as_text else json.dumps(payload, ensure_ascii=False).encode()
    texts = {name: text_of(value) for name, value in headers.items() if value is not None}
    if any(character in name + value for name, value in texts.items() for character in "\r\n\0"):
        raise CallFailedError("validation", "a header of the message holds a line break")
    return Outbound(body=body, content_type=content_type, headers=texts, key=key)


def _fitting(payload: Any, headers: Mapping[str, Any], types: Sequence[MessageType]) -> MessageType | None:
    told: list[str] = []
    for kind in types:
        wrong = [*_wrong(kind.payload, payload, "payload"), *_wrong(kind.headers, {**headers}, "headers")]
        if not wrong:
            return kind
        told += wrong[:_MOST_TOLD]
    if not told:
        return None
    what = "no message of the operation" if len(types) > 1 else "not what the document says"
    raise CallFailedError("validation", f"the message is {what}: {'; '.join(told[: 2 * _MOST_TOLD])}")


def _wrong(schema: Any, value: Any, what: str) -> Iterable[str]:
    if schema is None:
        return ()
    problem = invalid_schema(schema)
    if problem is not None:
        pointer, message = problem
        raise CallFailedError(
            "configuration", f"the AsyncAPI document: the schema of the {what} is none at {pointer or '/'}: {message}"
        )
    try:
        found = violations(schema, value, f"the message's {what}")
    except WorkflowError as error:
        raise CallFailedError("configuration", f"the AsyncAPI document: {error.detail}") from None
    return [f"{what}{pointer}: {message}" for pointer, message in found]


def _key(kind: MessageType, headers: Mapping[str, Any]) -> str | None:
    """Return the key of a message for Kafka: the header `key`, where the binding declares a key."""
    declared = "key" in (kind.bindings.get("kafka") or {})
    return text_of(headers["key"]) if declared and headers.get("key") is not None else None


def inbound(message: Inbound, types: Sequence[MessageType]) -> dict[str, Any]:
    """Return a message as expressions see it: `payload`, `headers` and, where it has one, `correlationId`."""
    usual = types[0].content_type if types else ""
    made: dict[str, Any] = {
        "payload": _read(message.body, message.content_type or usual),
        "headers": {name: _header(value) for name, value in message.headers.items()},
    }
    correlation = message.correlation_id or _correlation(made, types)
    if correlation:
        made["correlationId"] = correlation
    return made


def _correlation(message: Mapping[str, Any], types: Sequence[MessageType]) -> str:
    for kind in types:
        for start, part in ((_HEADER, "headers"), (_PAYLOAD, "payload")):
            if kind.correlation.startswith(start):
                found = _follow(message[part], kind.correlation.removeprefix(start))
                if found is not None:
                    return text_of(found)
    return ""


def _follow(value: Any, pointer: str) -> Any:
    for part in pointer_parts(pointer):
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(str(part))
    return value


def _read(body: bytes, content_type: str) -> Any:
    """Return a payload: what its type says, or what it turns out to be; base64 of what is no text."""
    if not body:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return base64.b64encode(body).decode()
    if content_type and not _is_json(content_type):
        return text
    try:
        return read_json(text)
    except ValueError:
        return text


def _header(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")
