"""JSON Schemas of documents: whether they are any, and what data violates.

A schema never makes this library reach out, and never runs away: regular expressions that could are matched by the
guard, and references are counted.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, cast

import jsonschema
import jsonschema.validators
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import NoSuchResource, Unresolvable

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.expressions import guard
from stigmer_dsl.problems import pointer_to

MAX_REFERENCES = 100_000
"""How many references one check may follow."""

_MATCH = ". as [$pattern, $text] | $text | test($pattern) | tojson"
_QUANTIFIER = re.compile(r"(?<!\\)[*+]|\{\d+,\d*\}")
_OPTIONAL = re.compile(r"(?<![\\(*+}])\?")
_REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{\d)")
_MAX_OPTIONAL = 4
_PLAIN_LENGTH = 5_000
_left: ContextVar[int] = ContextVar("references left", default=MAX_REFERENCES)
_checks_left: ContextVar[list[int] | None] = ContextVar("checks left", default=None)
most_checks: ContextVar[int] = ContextVar("checks at most", default=1_000_000)
"""How many rules one check may apply, which takes some seconds; 0 for any number."""


def unsupported_format(format_: str) -> str | None:
    """What is wrong with the format of a schema; None if it is JSON Schema."""
    known = format_.split(":")[0].lower() == "json"
    return None if known else f"the schema format {format_!r} is not supported: use json"


def invalid_schema(document: Any) -> tuple[str, str] | None:
    """What is wrong with a JSON Schema: the pointer into it, and a message; None if it is one."""
    if not isinstance(document, (dict, bool)):
        return "", "a schema is an object, or true or false"
    error = next(iter(_meta_validator(_kind_of(document)).iter_errors(cast("Any", document))), None)
    if error is not None:
        return pointer_to(error.absolute_path), _short(error.message)
    return next(_wrong_patterns(cast("Any", document), ""), None)


class Violation(NamedTuple):
    """One rule of a schema that data breaks."""

    path: tuple[str | int, ...]
    """Keys and indexes that lead to what breaks it."""
    rule: str
    """Its keyword, such as `required`."""
    message: str
    place: str
    """The path as people write it: `$.items[0]`."""


def violations(document: Any, value: Any, what: str) -> list[tuple[str, str]]:
    """Where data violates a schema, as pointers into the data, and how.

    Raises:
        WorkflowError: As `broken_rules`.
    """
    found = [(pointer_to(each.path), each.message) for each in broken_rules(document, value, what)]
    return sorted(found, key=lambda violation: violation[0])


def broken_rules(document: Any, value: Any, what: str) -> list[Violation]:
    """What of a schema data break, within bounds however the schema is written; `what` names the data.

    Raises:
        WorkflowError: The schema cannot be followed (type configuration), or a text takes too long to be matched (type
            validation).
    """
    token = _left.set(MAX_REFERENCES)
    most = most_checks.get()
    counting = _checks_left.set([most] if most else None)
    try:
        errors = list(_validator(document).iter_errors(value))
    except Unresolvable as error:
        detail = f"the schema of {what} refers to {error.ref!r}, which is not in it"
        raise WorkflowError.standard("configuration", detail) from None
    except RecursionError:
        raise WorkflowError.standard("configuration", f"the schema of {what} refers to itself without end") from None
    finally:
        _left.reset(token)
        _checks_left.reset(counting)
    return [
        Violation(tuple(error.absolute_path), str(error.validator), _short(error.message), error.json_path)
        for error in errors
    ]


def _wrong_patterns(schema: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """Regular expressions that are none, and names of properties by patterns that could run away."""
    if isinstance(schema, list):
        for index, item in enumerate(cast("list[Any]", schema)):
            yield from _wrong_patterns(item, f"{pointer}/{index}")
    if not isinstance(schema, dict):
        return
    for key, item in cast("dict[str, Any]", schema).items():
        at = pointer + pointer_to([key])
        if key == "pattern" and isinstance(item, str):
            yield from _wrong_pattern(item, at)
        elif key == "patternProperties" and isinstance(item, dict):
            for pattern in cast("dict[str, Any]", item):
                yield from _wrong_pattern(pattern, at, plain=True)
        yield from _wrong_patterns(item, at)


def _wrong_pattern(pattern: str, at: str, *, plain: bool = False) -> Iterator[tuple[str, str]]:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        yield at, f"{pattern!r} is no regular expression: {error}"
        return
    if plain and not _is_plain(pattern):
        yield at, f"{pattern!r} repeats a group or more than one part, which is not supported here"


def _is_plain(pattern: str) -> bool:
    """Whether a pattern repeats at most one part, which has no alternatives, so that no text makes it run away."""
    repeated, optional = len(_QUANTIFIER.findall(pattern)), len(_OPTIONAL.findall(pattern))
    return repeated <= 1 and optional <= _MAX_OPTIONAL and _REPEATED_GROUP.search(pattern) is None


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, str) and not matches_pattern(pattern, value):
        yield jsonschema.ValidationError(f"{_short(value)!r} does not match {pattern!r}")


def matches_pattern(pattern: str, text: str) -> bool:
    """Whether a regular expression is found in a text; bounded, however it is written.

    Raises:
        WorkflowError: It takes too long (type validation).
    """
    if _is_plain(pattern) and len(text) <= _PLAIN_LENGTH:
        return re.search(pattern, text) is not None
    try:
        kind, answer = guard.evaluate(_MATCH, json.dumps([pattern, text]))
    except guard.GuardError as error:
        kind, answer = b"e", str(error)
    if kind != b"v":
        raise WorkflowError.standard("validation", f"matching a text against {pattern!r} failed: {answer}")
    return answer == "true"


def _kind_of(document: Any) -> type[Validator]:
    return validator_for(document, default=jsonschema.Draft202012Validator)


@lru_cache(maxsize=8)
def _meta_validator(kind: type[Validator]) -> Validator:
    return kind(kind.META_SCHEMA)


@lru_cache(maxsize=8)
def _guarded(kind: type[Validator]) -> Any:
    rules = cast("Mapping[str, Any]", kind.VALIDATORS)

    def counted(rule: Any) -> Any:
        def follow(validator: Any, reference: Any, value: Any, schema: Any) -> Any:
            left = _left.get() - 1
            _left.set(left)
            if left < 0:
                detail = f"checking the data follows more than {MAX_REFERENCES} references in its schema"
                raise WorkflowError.standard("configuration", detail)
            return rule(validator, reference, value, schema)

        return follow

    references = {key: counted(rules[key]) for key in ("$ref", "$dynamicRef", "$recursiveRef") if key in rules}
    extend = cast("Any", jsonschema.validators).extend  # untyped
    all_rules = {**rules, **references, "pattern": _pattern, "uniqueItems": _unique_items}
    return extend(kind, {key: _bounded(rule) for key, rule in all_rules.items()})


def _bounded(rule: Any) -> Any:
    def apply(validator: Any, argument: Any, value: Any, schema: Any) -> Any:
        left = _checks_left.get()
        if left is not None:
            left[0] -= 1
            if left[0] < 0:
                detail = f"checking the data by its schema takes more than {most_checks.get()} steps"
                raise WorkflowError.standard("configuration", detail)
        return rule(validator, argument, value, schema)

    return apply


def _unique_items(validator: Any, wanted: Any, value: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As the library's own rule, which compares every item with every other."""
    if wanted and validator.is_type(value, "array") and len({*map(_comparable, value)}) < len(value):
        yield jsonschema.ValidationError(f"{_short(repr(value))} has non-unique elements")


def _comparable(value: Any) -> Any:
    """Return what is equal for values that are equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return frozenset((key, _comparable(item)) for key, item in pairs)
    if isinstance(value, list):
        return tuple(map(_comparable, cast("list[Any]", value)))
    return (bool, value) if isinstance(value, bool) else value


def _refuse(uri: str) -> Any:
    raise NoSuchResource(ref=uri)


def _validator(document: Any) -> Validator:
    kind = _kind_of(document)
    # An own registry that fetches nothing: a schema must not make the runtime reach out.
    registry = cast("Any", Registry)(retrieve=_refuse)
    return _guarded(kind)(document, registry=registry, format_checker=kind.FORMAT_CHECKER)


def _short(message: str) -> str:
    return message if len(message) <= 300 else message[:299] + "…"
