"""Reading the configuration of a stored task: keys in either spelling, wrong and unknown ones reported."""

from collections.abc import Mapping
from typing import Any, cast

from stigmer_dsl.model.element import wire_name
from stigmer_dsl.problems import did_you_mean, pointer_to
from stigmer_dsl.validation.findings import Finding

MAX_DEPTH = 250
"""How deep the JSON of a spec is read; tasks end long before."""

_EXACT = 2**53
_KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    bool: "true or false",
}


class Notes:
    """What compiling finds out on its way: problems, and where each part of the result comes from."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._origins: dict[str, str] = {"": ""}

    def find(self, code: str, pointer: str, message: str, hint: str = "") -> None:
        """Report a problem at a pointer into the stored form."""
        self.findings.append(Finding(code=code, pointer=pointer, message=message, hint=hint))

    def came_from(self, target: str, origin: str) -> None:
        """Say that the part at `target` of the document is the part at `origin` of the stored form."""
        self._origins[target] = origin

    def origin(self, pointer: str) -> str:
        """The pointer into the stored form that a pointer into the document stands for."""
        known = pointer
        while known not in self._origins:
            known = known.rpartition("/")[0]
        return self._origins[known] + pointer[len(known) :]


class Config:
    """An object of the stored form. Every key that is read is known; `close` reports the others."""

    def __init__(self, value: Mapping[str, Any], pointer: str, notes: Notes) -> None:
        self._value = value
        self._pointer = pointer
        self._notes = notes
        self._known: list[str] = []

    def key(self, name: str) -> str:
        """The spelling of a field that the object uses: snake case, else camel case."""
        self._known.append(name)
        return name if name in self._value else wire_name(name)

    def at(self, name: str) -> str:
        """The pointer of a field; of the object itself for an empty name."""
        if not name:
            return self._pointer
        return self._pointer + pointer_to([name if name in self._value else wire_name(name)])

    def read(self, name: str, kind: type, *, required: bool = False) -> Any:
        """A field of a kind, or None where it is missing, null or (reported) of another kind."""
        value = self._value.get(self.key(name))
        if value is None or (value == "" and not required):
            if required:
                self._notes.find("dsl.missing-field", self._pointer, f"needs `{name}`")
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._notes.find("dsl.type", self.at(name), f"must be {_KINDS[kind]}")
            return None
        return value

    def any(self, name: str) -> Any:
        """A field of whatever kind; None where it is missing."""
        return self._value.get(self.key(name))

    def close(self) -> None:
        """Report the keys that nobody read."""
        known = {wire_name(name) for name in self._known} | set(self._known)
        for key in self._value:
            if key not in known:
                message = f"`{key}` is unknown here"
                self._notes.find(
                    "dsl.unknown-field", self._pointer + pointer_to([key]), message, did_you_mean(key, self._known)
                )


def whole_numbers(value: Any, depth: int = 0) -> Any:
    """The value with every whole double, which is all that a Struct holds, made the whole number it stands for.

    What is nested deeper than `MAX_DEPTH` levels becomes null.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, (Mapping, list, tuple)) and depth > MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {key: whole_numbers(item, depth + 1) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [whole_numbers(item, depth + 1) for item in cast("list[Any]", value)]
    return value
