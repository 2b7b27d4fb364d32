"""The kinds a store was opened with: their declarations checked, their JSON paths understood.

Knows nothing of SQL or of storage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stigmer_sqlite.errors import InvalidSchemaError, UnknownKindError
from stigmer_sqlite.port import KindSchema

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\Z")
_STEP = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_]*)|\."([^"'\\\0]+)"|\[(\d{1,9})\]""")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path to one place of a JSON document, such as `$.spec.items[0]."a key"`."""

    text: str
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Understand a path. Raises: InvalidSchemaError."""
        steps: list[str | int] = []
        at = 1
        while text.startswith("$") and at < len(text):
            step = _STEP.match(text, at)
            if step is None:
                break
            steps.append(int(step[3]) if step[3] else step[1] or step[2])
            at = step.end()
        if not steps or at != len(text):
            raise InvalidSchemaError(f"JSON path {text!r} is not of the form $.key.key[0]")
        return cls(text, tuple(steps))

    def read(self, document: object) -> str | int | float | None:
        """Return the scalar there, true and false as 1 and 0; None where there is none."""
        at = document
        for step in self.steps:
            if isinstance(step, str) and isinstance(at, dict):
                at = at.get(step)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # any JSON
            elif isinstance(step, int) and isinstance(at, list) and step < len(at):  # pyright: ignore[reportUnknownArgumentType] # any JSON
                at = at[step]  # pyright: ignore[reportUnknownVariableType] # any JSON
            else:
                return None
        if isinstance(at, bool):
            return int(at)
        return at if isinstance(at, str | int | float) else None


@dataclass(frozen=True, slots=True)
class Kind:
    """A declared kind."""

    name: str
    named: bool
    indexes: dict[str, JsonPath]


class Kinds:
    """The declared kinds, by name."""

    def __init__(self, schemas: Sequence[KindSchema]) -> None:
        """Check the declarations. Raises: InvalidSchemaError."""
        self._kinds: dict[str, Kind] = {}
        for schema in schemas:
            if schema.kind in self._kinds:
                raise InvalidSchemaError(f"kind {schema.kind!r} is declared twice")
            for name in (schema.kind, *schema.indexes):
                if not _NAME.match(name):
                    raise InvalidSchemaError(f"{name!r} in the schema of kind {schema.kind!r} is not a plain name")
            paths = {name: JsonPath.parse(path) for name, path in schema.indexes.items()}
            self._kinds[schema.kind] = Kind(schema.kind, schema.named, paths)

    def __getitem__(self, name: str) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            raise UnknownKindError(name)
        return kind

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())
