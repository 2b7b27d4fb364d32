"""Where the parts of a workflow stand in the manifest that holds it.

A workflow has JSON pointers of its own; in a manifest it stands as a text, or as tasks that were compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from stigmer_dsl import Source, SourceDocument, compile_spec, parse
from stigmer_dsl.model import Workflow
from stigmer_dsl.problems import Position
from stigmer_dsl.stored import compile_traced

DEFINITION = "/spec/definition"


class Places(Protocol):
    """Leads from a workflow to its manifest."""

    def pointer(self, pointer: str) -> str:
        """Return the manifest's pointer for one of the workflow."""
        ...

    def position(self, pointer: str, *, key: bool = False) -> Position:
        """Return where the value at a pointer of the workflow stands in the file; with `key`, where its key does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPlaces:
    """The document is the workflow."""

    document: SourceDocument

    def pointer(self, pointer: str) -> str:
        """Return it as it is."""
        return pointer

    def position(self, pointer: str, *, key: bool = False) -> Position:
        """Return what the document says."""
        return self.document.position(pointer, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlaces:
    """The workflow was compiled from `spec.tasks`."""

    document: SourceDocument
    origin: Callable[[str], str]

    def pointer(self, pointer: str) -> str:
        """Return where the part was compiled from."""
        return f"/spec{self.origin(pointer)}"

    def position(self, pointer: str, *, key: bool = False) -> Position:
        """Return the place of what the part was compiled from."""
        return self.document.position(self.pointer(pointer), key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionPlaces:
    """The workflow is the text `spec.definition`."""

    document: SourceDocument
    inner: SourceDocument
    """What the text was read as."""

    def pointer(self, pointer: str) -> str:
        """Return the pointer behind that of the text."""
        return f"{DEFINITION}{pointer}"

    def position(self, pointer: str, *, key: bool = False) -> Position:
        """Return the place in the text, moved to where the text stands."""
        return moved(self.inner.position(pointer, key=key), self.document, self.inner.text)


def definition_places(document: SourceDocument, text: str) -> DefinitionPlaces:
    """Return the places of a definition that can be read."""
    return DefinitionPlaces(document=document, inner=Source.load(text, name=document.name).documents[0])


def workflow_of(document: SourceDocument) -> tuple[Workflow, Places]:
    """Return the workflow of a manifest or of a plain document, and where its parts stand.

    Raises:
        DocumentError: It holds no valid workflow.
    """
    if "kind" not in document.value:
        return parse(document), PlainPlaces(document=document)
    spec: dict[str, Any] = document.value.get("spec") or {}
    text = spec.get("definition")
    if isinstance(text, str) and text.strip():
        return compile_spec(spec, name=document.name), definition_places(document, text)
    workflow, origin = compile_traced(spec)
    return workflow, TaskPlaces(document=document, origin=origin)


def moved(position: Position | None, document: SourceDocument, text: str) -> Position:
    """Return where a place in a definition is in the file; the definition itself where they do not correspond."""
    shift = _shift_of_block(document, text)
    if shift is None or position is None:
        return document.position(DEFINITION)
    return Position(position.line + shift.line, position.column + shift.column)


def _shift_of_block(document: SourceDocument, text: str) -> Position | None:
    """Return how far the lines of a block scalar stand from those of its text; None when they do not correspond."""
    lines = document.text.split("\n")
    first = document.position(DEFINITION).line
    wanted = next((line for line in text.split("\n") if line.strip()), "")
    if first >= len(lines) or not wanted:
        return None
    offset = text.split("\n").index(wanted)
    if first + offset >= len(lines):
        return None
    written = lines[first + offset]
    column = written.find(wanted)
    return Position(first, column) if column >= 0 else None
