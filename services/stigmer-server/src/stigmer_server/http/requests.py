"""From a request to the message of its call: what the path, the query string and the body say, together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from stigmer_grpc import FieldViolation, StatusCode

from stigmer_server.http.problems import HttpError
from stigmer_server.http.proto_json import Problems, read, spellings, unknown_field
from stigmer_server.http.routes import ANY_ORG, WHOLE, Match, Route
from stigmer_server.messages import Message, at_path, set_path

_MAX_PARAMETERS = 1000
_NAME = re.compile(r"([^.\[\]]+)(?:\.([^\[\]]+)|\[([^\]]*)\])?").fullmatch
_TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}
_OPTIONS = {"pretty": "pretty", "dry_run": "dry_run", "dryRun": "dry_run", "force": "force"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a query string may ask of any request, unless its message has a field of the name."""

    pretty: bool = False
    """Indent the answer."""
    dry_run: bool = False
    """Keep nothing of what the call does."""
    force: bool = False
    """Delete what depends on the resource too, where the request has no field to say so."""


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """Return the parameters of a query string, in order. Raises: HttpError: it is not one."""
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise HttpError(400, StatusCode.INVALID_ARGUMENT, f"the query string cannot be read: {error}") from None


def take_options(route: Route, parameters: list[tuple[str, str]]) -> tuple[Options, list[tuple[str, str]]]:
    """Return the options among the parameters, and the rest of these. Raises: InvalidArgumentError."""
    known = spellings(route.method.descriptor.input_type) if route.body is None else {}
    taken: dict[str, bool] = {}
    rest: list[tuple[str, str]] = []
    problems = Problems()
    for name, value in parameters:
        option = _OPTIONS.get(name) if name not in known else None
        if option is None:
            rest.append((name, value))
        elif value not in _TRUTH:
            problems.add(name, "type", "expected true or false")
        else:
            taken[option] = _TRUTH[value]
    problems.check()
    return Options(**taken), rest


def build(route: Route, match: Match, parameters: list[tuple[str, str]], body: Any) -> Message:
    """Return the message that a request means.

    Args:
        route: Which way was taken.
        match: What the path is on that way.
        parameters: Those of the query string that are fields.
        body: Parsed JSON; None when there is none.

    Raises:
        InvalidArgumentError: Something does not fit; the violations name the fields.
        HttpError: The path is not UTF-8.
    """
    message: Message = route.method.request_type()
    if route.body is None:
        read(from_query(message.DESCRIPTOR, parameters), message)
    else:
        if body is not None:
            read(body if route.body == WHOLE else {route.body: body}, message)
        _refuse(parameters, route)
    say(message, route, match)
    return message


def from_query(descriptor: Descriptor, parameters: list[tuple[str, str]]) -> dict[str, Any]:
    """Return query parameters as the JSON of a message. Raises: InvalidArgumentError."""
    plain: dict[str, Any] = {}
    problems = Problems()
    names = spellings(descriptor)
    for name, value in parameters:
        found = _NAME(name)
        first, inner = (found[1], found[2] or found[3]) if found else (name, None)
        field = names.get(first)
        if field is None:
            problems.add(name, "unknown_field", unknown_field(descriptor, first))
        else:
            _put(plain, field, inner, value, problems)
    problems.check()
    return plain


def _put(plain: dict[str, Any], field: FieldDescriptor, inner: str | None, value: str, problems: Problems) -> None:
    entry = field.message_type
    if entry is None or entry.full_name.startswith("google.protobuf."):
        if inner is not None:
            problems.add(field.name, "type", "has no parts")
        elif field.is_repeated:
            plain.setdefault(field.name, []).append(_plain(field, value))
        elif field.name in plain:
            problems.add(field.name, "twice", "may be given only once")
        else:
            plain[field.name] = _plain(field, value)
    elif not inner:
        problems.add(field.name, "type", f"has parts: say {field.name}[name]=value")
    elif entry.GetOptions().map_entry:
        plain.setdefault(field.name, {})[inner] = _plain(entry.fields_by_name["value"], value)
    elif (part := spellings(entry).get(inner)) is None:
        problems.add(f"{field.name}.{inner}", "unknown_field", unknown_field(entry, inner))
    else:
        _put(plain.setdefault(field.name, {}), part, None, value, problems)


def _plain(field: FieldDescriptor, value: str) -> Any:
    """Return the JSON form of a parameter; all but booleans may be strings there."""
    return _TRUTH.get(value, value) if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else value


def _refuse(parameters: list[tuple[str, str]], route: Route) -> None:
    problems = Problems()
    for name, _ in parameters:
        problems.add(
            name, "unknown_field", f"{route.verb} {route.path} takes no such parameter; fields go into the body"
        )
    problems.check()


def say(message: Message, route: Route, match: Match) -> None:
    """Write into the message what the path says, and hold what it says itself against that."""
    problems = Problems()
    for name, value in _variables(route, match).items():
        path = route.fields[name]
        said = at_path(message, path)
        if said and said != value:
            problems.add(path, "path", f"is {said!r} in the request and {value!r} in its path")
        else:
            set_path(message, path, value)
    for name, value in route.preset.items():
        wanted: Message = type(message)()
        read({name: value}, wanted)
        said = getattr(message, name)
        if said and said != getattr(wanted, name):
            problems.add(name, "path", "says something else than the path of the request")
        elif not said:
            message.MergeFrom(wanted)
    problems.check()


def _variables(route: Route, match: Match) -> Mapping[str, str]:
    values = {name: decode(value) for name, value in zip(route.fields, match.variables, strict=True)}
    return {name: "" if name == "org" and value == ANY_ORG else value for name, value in values.items()}


def decode(segment: str) -> str:
    """Return a segment of a path without its percent-encoding. Raises: HttpError: it is not UTF-8."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        message = f"the path is not UTF-8: {segment!r}"
        violation = FieldViolation("", "path.utf8", message)
        raise HttpError(400, StatusCode.INVALID_ARGUMENT, message, violations=(violation,)) from None
