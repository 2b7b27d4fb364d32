"""How large values are, and what is shown of those that are too large to be shown whole."""

import json
from collections import OrderedDict
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError

_REMEMBERED = 8
_MEMORABLE_BYTES = 64 * 1024
_FEW = 8
_SMALL_BYTES = 200
_SHOWN_TEXT = 200
_SHOWN_ITEMS = 5
_SHOWN_KEYS = 20
_SHOWN_DEPTH = 4
_CLAIM_BYTES = 1024
"""What a reference to a value outside of the history takes, at most."""


def size_of(value: Any) -> int:
    """Return what a JSON value takes in history, roughly."""
    return len(json.dumps(value))


def checked_size(value: Any, takes: str, most: int) -> int:
    """Return what a value takes, which is at most so much; `takes` names it, with its verb.

    Raises:
        WorkflowError: It takes more.
    """
    size = size_of(value)
    if size > most:
        raise WorkflowError.standard("configuration", f"{takes} {size} bytes, more than the {most} that can be kept")
    return size


def inline_size(size: int, most_inline: int) -> int:
    """Return what a value of `size` takes in a history which holds those below `most_inline` itself; 0: holds all."""
    return size if not most_inline or size < most_inline else _CLAIM_BYTES


class Sizes:
    """The sizes of the values of one run. Writing a large value out takes a second: it is done once for each.

    Values do not change. The newest large ones are known by identity, and kept alive for it.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Any, int]] = OrderedDict()

    def of(self, value: Any) -> int:
        """Return the bytes of a value as JSON, roughly; what is plainly small is not looked at closely."""
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            if len(fields) <= _FEW and not any(isinstance(item, (dict, list)) for item in fields.values()):
                return _SMALL_BYTES + sum(len(item) for item in fields.values() if isinstance(item, str))
        elif value is None or isinstance(value, (bool, int, float)):
            return 0
        known = self._known.get(id(cast("object", value)))
        return known[1] if known is not None else self._measure(value)

    def _measure(self, value: Any) -> int:
        size = size_of(value)
        if size >= _MEMORABLE_BYTES:
            self._known[id(value)] = (value, size)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return size


def preview(value: Any, size: int) -> dict[str, Any]:
    """Return what stands for a value that is too large to be shown: its size, and the beginning of every part."""
    return {"$truncated": {"bytes": size, "preview": _shortened(value, _SHOWN_DEPTH)}}


def _shortened(value: Any, depth: int) -> Any:
    match value:
        case str() if len(value) > _SHOWN_TEXT:
            return f"{value[:_SHOWN_TEXT]}… ({len(value)} characters)"
        case list():
            items = cast("list[Any]", value)
            shown = [_shortened(item, depth - 1) for item in items[:_SHOWN_ITEMS]] if depth else []
            return shown if len(items) == len(shown) else [*shown, f"… ({len(items)} items)"]
        case dict():
            fields = cast("dict[str, Any]", value)
            names = list(fields)[:_SHOWN_KEYS] if depth else []
            shown = {name[:_SHOWN_TEXT]: _shortened(fields[name], depth - 1) for name in names}
            return shown if len(fields) == len(shown) else {**shown, "…": f"({len(fields)} properties)"}
        case _:
            return value
