"""Durations: in parts, or as ISO 8601 text."""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from stigmer_dsl.errors import DurationError
from stigmer_dsl.model import Duration

_PARTS = ("days", "hours", "minutes", "seconds", "milliseconds")
_NUMBER = r"(\d+(?:[.,]\d+)?)"
_ISO = re.compile(
    rf"P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.ASCII,
)
_SECONDS = (365 * 86400, 30 * 86400, 7 * 86400, 86400, 3600, 60, 1)


def parse(value: object) -> timedelta:
    """The length of a duration: a `Duration`, an object of its parts, an ISO 8601 text, or a `timedelta`.

    A year counts 365 days and a month 30. Parts may be fractions in a text, and are whole in an object.

    Raises:
        DurationError: The value is no duration, is negative, or is longer than `timedelta` holds.
    """
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, str):
            return _parse_text(value.strip())
        if isinstance(value, Duration):
            return timedelta(**{part: cast("int", getattr(value, part)) for part in _PARTS})
        if isinstance(value, Mapping):
            return _parse_parts(cast("Mapping[str, Any]", value))
    except OverflowError as error:
        raise DurationError(f"{value!r} is too long for a duration") from error
    raise DurationError(f"{value!r} is no duration: expected an object or an ISO 8601 text")


def _parse_parts(value: Mapping[str, Any]) -> timedelta:
    unknown = [key for key in value if key not in _PARTS]
    if unknown or not value:
        raise DurationError(
            f"a duration has the parts {', '.join(_PARTS)}; got {', '.join(map(repr, unknown)) or 'none'}"
        )
    for key, part in value.items():
        whole = isinstance(part, int) or (isinstance(part, float) and part.is_integer())
        if isinstance(part, bool) or not whole or part < 0:
            raise DurationError(f"{key} must be a whole number from 0 up, not {part!r}")
    return timedelta(**value)


def _parse_text(text: str) -> timedelta:
    found = _ISO.fullmatch(text)
    if found is None or not any(found.groups()) or text.endswith("T"):
        raise DurationError(f"{text!r} is no ISO 8601 duration such as PT15S or P1DT12H")
    seconds = math.fsum(
        float(number.replace(",", ".")) * unit for number, unit in zip(found.groups(), _SECONDS, strict=True) if number
    )
    return timedelta(seconds=seconds)


def to_text(length: timedelta) -> str:
    """The ISO 8601 text of a duration."""
    seconds = length // timedelta(seconds=1)
    fraction = f".{length.microseconds:06d}".rstrip("0").rstrip(".")
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    date = f"{days}D" if days else ""
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M")) if n)
    if rest or fraction or not (date or time):
        time += f"{rest}{fraction}S"
    return f"P{date}" + (f"T{time}" if time else "")
