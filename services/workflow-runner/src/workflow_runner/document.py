"""Looking for parts of a definition, wherever they stand. Pure."""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, TypeVar, cast

from stigmer_dsl.model import Element, Workflow
from stigmer_dsl.model.element import wire_name
from stigmer_dsl.problems import pointer_to

E = TypeVar("E", bound=Element)

_PLAIN = (str, int, float, bool, type(None))
"""What has no parts. Most of a definition is."""


def find(workflow: Workflow, kind: type[E]) -> tuple[tuple[str, E], ...]:
    """Return every element of a kind with its JSON pointer, in the order of the model."""
    return _found(_This(workflow), kind)


class _This:
    """A definition as that very object: comparing two by their content takes longer than looking through one."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _This) and self.workflow is other.workflow

    def __hash__(self) -> int:
        return id(self.workflow)


@lru_cache(maxsize=512)
def _found(this: _This, kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(_in(this.workflow, kind, ""))


def _in(value: Any, kind: type[E], pointer: str) -> Iterator[tuple[str, E]]:
    if isinstance(value, kind):
        yield pointer, value
    if isinstance(value, Element):
        for name, wire in _fields(type(value)):
            part = getattr(value, name)
            if not isinstance(part, _PLAIN):
                yield from _in(part, kind, f"{pointer}/{wire}")
    elif isinstance(value, Mapping):
        for name, item in cast("Mapping[str, Any]", value).items():
            yield from _in(item, kind, pointer + pointer_to([name]))
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[Any, ...]", value)):
            entry = _entry(item)
            if entry is None:
                yield from _in(item, kind, f"{pointer}/{index}")
            else:
                name, content = entry
                yield from _in(content, kind, pointer + pointer_to([index, name]))


def _entry(item: Any) -> tuple[str, Any] | None:
    """Return name and content of an entry of an ordered list, such as a task; None of anything else."""
    fields = [name for name, _ in _fields(type(item)) if name != "name"] if isinstance(item, Element) else []
    name = getattr(item, "name", None)
    return (name, getattr(item, fields[0])) if isinstance(name, str) and len(fields) == 1 else None


@cache
def _fields(kind: type[Element]) -> tuple[tuple[str, str], ...]:
    """Return the fields of a kind, each by its name and by that in documents."""
    return tuple((name, wire_name(name)) for name in kind.model_fields)
