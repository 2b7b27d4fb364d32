"""Whole numbers beyond what a double counts exactly: passed through unchanged, never rounded.

jq keeps the digits of a number that it only moves, and calculates in doubles. So a large number in a result must be one
that was there before; and a result that depends on the value of a large number, which shows when that number is changed
a little, was calculated with a rounded one.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

LARGEST = 2**53 - 1
"""The largest whole number up to which doubles count one by one."""

_LONG = re.compile(r"\d{16}")
_DIGITS = re.compile(r"\d{16,}")


class InexactError(ValueError):
    """A result has a number that jq may have rounded."""


def has_long_number(text: str) -> bool:
    """Whether a JSON text may hold a number that a double does not count exactly."""
    return _LONG.search(text) is not None


def decode_exactly(text: str, document: str, expression: str) -> Any:
    """The value of a result's JSON text.

    Raises:
        InexactError: It has a large whole number that is neither in the data nor in the expression.
    """

    def exact(digits: str) -> int | float:
        number = int(digits)
        if abs(number) <= LARGEST:
            return number
        known = rf"(?<!\d){digits.lstrip('-')}(?!\d)"
        if re.search(known, document) or re.search(known, expression):
            return number
        if repr(float(number)) in document:
            return float(number)  # jq writes a double without its exponent
        raise InexactError(f"the result has the number {digits}, which jq cannot calculate exactly (beyond 2^53)")

    return json.loads(text, parse_int=cast("Callable[[str], int]", exact))


def large_numbers(value: Any) -> dict[int, int]:
    """For every large whole number in a value, another one: in the same order, at distances that differ.

    The distance is far more than what rounding to a double does to it.
    """
    found: set[int] = set()
    _collect(value, found)
    return {number: number + max(4096, abs(number) >> 40) * (rank + 1) for rank, number in enumerate(sorted(found))}


def _collect(value: Any, found: set[int]) -> None:
    if isinstance(value, int):
        if not -LARGEST <= value <= LARGEST:
            found.add(value)
    elif isinstance(value, dict):
        for item in cast("dict[str, Any]", value).values():
            _collect(item, found)
    elif isinstance(value, (list, tuple)):
        for item in cast("list[Any]", value):
            _collect(item, found)


def replace_numbers(value: Any, numbers: Mapping[int, int]) -> Any:
    """The value with every number of a table replaced, in texts as well."""
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return numbers.get(value, value)
    if isinstance(value, str):
        return _DIGITS.sub(lambda digits: str(numbers.get(int(digits[0]), digits[0])), value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {replace_numbers(key, numbers): replace_numbers(item, numbers) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [replace_numbers(item, numbers) for item in cast("list[Any]", value)]
    return value
