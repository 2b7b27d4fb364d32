"""The forms of texts: cron expressions, URI templates, points in time … Each check says what is wrong, or None."""

import re
from datetime import datetime

from stigmer_dsl.expressions import ARGUMENTS

_URI = re.compile(r"(?:[^:/?#\s]+:)?(?://[^/?#\s]*)?[^?#\s]*(?:\?[^#\s]*)?(?:#\S*)?")
_TEMPLATE_VARIABLE = re.compile(r"\{([^{}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_CRON_MACROS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: n for n, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: n for n, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_CRON_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_RESERVED_VARIABLES = ARGUMENTS | {"secrets", "ENV", "__loc__", "__input", "__prog_args"}


def wrong_cron(text: str) -> str | None:
    """What is wrong with a cron expression of five fields or a macro such as `@daily`."""
    if text.strip().lower() in _CRON_MACROS:
        return None
    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        return f"a cron expression has five fields, this one has {len(fields)}"
    for value, (name, low, high, names) in zip(fields, _CRON_FIELDS, strict=True):
        for part in value.split(","):
            if not _is_cron_part(part, low, high, names):
                return f"{part!r} is no {name} (from {low} to {high})"
    return None


def _is_cron_part(part: str, low: int, high: int, names: dict[str, int]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdecimal() and 0 < int(step) <= high + 1):
        return False
    if span in ("*", "?"):
        return span == "*" or not slash
    ends = [names.get(end.lower(), int(end) if end.isascii() and end.isdecimal() else -1) for end in span.split("-")]
    return len(ends) <= 2 and all(low <= end <= high for end in ends) and ends == sorted(ends)


def wrong_uri(text: str) -> str | None:
    """What is wrong with a URI reference or a URI template with plain `{name}` variables."""
    if not text.strip():
        return "the URI is empty"
    rest = _TEMPLATE_VARIABLE.sub("x", text)
    if "{" in rest or "}" in rest:
        return "a bracket of the URI template is not closed"
    for name in _TEMPLATE_VARIABLE.findall(text):
        if not name or name[0] in "+#./;?&=,!@|" or name.endswith("*") or "," in name or re.search(r":\d+$", name):
            return f"{{{name}}} is not the plain form of a URI template's variable, {{name}}"
    return None if _URI.fullmatch(rest) else "a URI holds no spaces"


def wrong_time(text: str) -> str | None:
    """What is wrong with a point in time in the form of RFC 3339."""
    found = _TIME.fullmatch(text)
    try:
        # A leap second exists, but not for Python.
        datetime.fromisoformat(text.upper().replace(":60", ":59") if found else "")
    except ValueError:
        return f"{text!r} is no point in time such as 2026-01-31T12:00:00Z"
    return None


def wrong_pointer(text: str) -> str | None:
    """What is wrong with a JSON pointer."""
    return None if _POINTER.fullmatch(text) else f"{text!r} is no JSON pointer such as /do/0/name"


def wrong_variable(name: str) -> str | None:
    """What is wrong with the name of a variable that a document introduces."""
    if not _VARIABLE.fullmatch(name):
        return f"{name!r} is no name of a variable: letters, digits and underscores"
    return f"${name} has a meaning already" if name in _RESERVED_VARIABLES else None


def wrong_file(text: str) -> str | None:
    """What is wrong with the path of a file in an agent's workspace."""
    names = text.split("/")
    if not {"", ".", ".."}.isdisjoint(names) or names[0].casefold() == ".stigmer":
        return f"{text!r} leads to no file of a workspace: give names separated by slashes"
    return None
