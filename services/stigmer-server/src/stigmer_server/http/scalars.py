"""The JSON forms of single values: what a field of each type takes, and what is told when it does not."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)").fullmatch
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?").fullmatch
_SURROGATE = re.compile("[\ud800-\udfff]").search
_NAMED_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_MOST_DIGITS = len(str(-(2**64)))
_FLOAT_MAX = 3.4028234663852886e38


class WrongValueError(Exception):
    """A value that a field does not take."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@cache
def scalar(field: FieldDescriptor) -> Callable[[Any], Any]:
    """Return what makes a field's value of its JSON form; it raises when it cannot."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_ENUM:
            return _enum_of(field)
        case FieldDescriptor.CPPTYPE_BOOL:
            return _bool
        case FieldDescriptor.CPPTYPE_STRING:
            return _bytes if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return _double
        case FieldDescriptor.CPPTYPE_FLOAT:
            return _float
        case _:
            lowest, highest = _RANGES[field.cpp_type]
            return lambda value: _integer(value, lowest, highest)


def text(value: Any) -> str:
    """Return a string that can be encoded. Raises: WrongValueError."""
    if not isinstance(value, str):
        raise WrongValueError("type", f"expected a string, got {kind_of(value)}")
    if has_surrogate(value):
        raise WrongValueError("unicode", "holds half of a surrogate pair")
    return value


def _bytes(value: Any) -> bytes:
    encoded = text(value).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WrongValueError("base64", "expected bytes in base64") from None


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError("type", f"expected true or false, got {kind_of(value)}")
    return value


def _integer(value: Any, lowest: int, highest: int) -> int:
    match value:
        case str() if _INTEGER(value) and len(value) <= _MOST_DIGITS:
            number = int(value)
        case float() if value.is_integer():
            number = int(value)
        case int() if not isinstance(value, bool):
            number = value
        case _:
            raise WrongValueError("type", f"expected a whole number, got {kind_of(value)}")
    if not lowest <= number <= highest:
        raise WrongValueError("range", f"must lie between {lowest} and {highest}")
    return number


def _double(value: Any) -> float:
    if isinstance(value, str) and (value in _NAMED_FLOATS or _NUMBER(value)):
        return _NAMED_FLOATS[value] if value in _NAMED_FLOATS else _finite(float(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongValueError("type", f"expected a number, got {kind_of(value)}")
    return _finite(value)


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WrongValueError("range", "is larger than any number of the field's type")
    return number


def _float(value: Any) -> float:
    number = _double(value)
    if math.isfinite(number) and abs(number) > _FLOAT_MAX:
        raise WrongValueError("range", "is larger than any number of the field's type")
    return number


def _enum_of(field: FieldDescriptor) -> Callable[[Any], int]:
    enum = cast("Any", field.enum_type)
    numbers: Mapping[str, int] = {value.name: value.number for value in enum.values}
    lowest, highest = _RANGES[FieldDescriptor.CPPTYPE_ENUM]

    def convert(value: Any) -> int:
        if isinstance(value, str) and value in numbers:
            return numbers[value]
        if isinstance(value, str) and not _INTEGER(value):
            raise WrongValueError("enum", f"{json.dumps(value[:100])} is none of {_listed(numbers)}")
        return _integer(value, lowest, highest)

    return convert


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    return ", ".join(all_names[:30]) + (", …" if len(all_names) > 30 else "")


def has_surrogate(value: str) -> bool:
    """Whether the string holds half of a surrogate pair, which JSON can say and UTF-8 cannot."""
    return _SURROGATE(value) is not None


def kind_of(value: Any) -> str:
    """Name the type of a JSON value, for people."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
