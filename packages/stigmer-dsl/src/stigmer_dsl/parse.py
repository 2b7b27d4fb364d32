"""From text to workflow, or to every problem of the text."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, cast

from stigmer_dsl.errors import InvalidDocumentError
from stigmer_dsl.model import Workflow
from stigmer_dsl.problems import Position, Problem
from stigmer_dsl.source import Source, SourceDocument
from stigmer_dsl.validation import Finding, examine

_FUNCTION = "/use/functions/function"
_COLUMN = re.compile(r" at column (\d+)")


def parse(document: str | SourceDocument, *, name: str = "workflow.yaml", secrets: Collection[str] = ()) -> Workflow:
    """The workflow that a document defines.

    Args:
        document: YAML or JSON text of one document, or a document that `Source` read.
        name: What problems call the text; a `SourceDocument` has its own.
        secrets: Names that expressions may use besides those of `use.secrets`.

    Raises:
        SourceError: The text cannot be read.
        InvalidDocumentError: The document is no valid workflow; every problem, in the order of the text.
    """
    if isinstance(document, str):
        documents = Source.load(document, name=name).documents
        if len(documents) != 1:
            raise InvalidDocumentError([_several(documents, name)])
        document = documents[0]
    workflow, findings = examine(document.value, secrets=frozenset(secrets))
    if findings or workflow is None:
        problems = [_placed(finding, document) for finding in findings]
        raise InvalidDocumentError(sorted(problems, key=lambda problem: problem.position or Position(0, 0)))
    return workflow


def parse_function(document: str, *, name: str = "function.yaml", catalogs: Collection[str] = ()) -> dict[str, Any]:
    """The task that a function of a catalog is, as `to_dict` gives it: it can stand in `use.functions`.

    A function has no secrets but those that it is given, and calls no functions but those of catalogs.

    Args:
        document: YAML or JSON text of one task.
        name: What problems call the text.
        catalogs: Names of the catalogs that it may call functions of, besides the default one.

    Raises:
        SourceError: The text cannot be read.
        InvalidDocumentError: It is no valid task; every problem, with its place in the text.
    """
    documents = Source.load(document, name=name).documents
    if len(documents) != 1:
        raise InvalidDocumentError([_several(documents, name)])
    value = {
        "document": {"dsl": "1.0.0", "namespace": "function", "name": "function", "version": "1.0.0"},
        "use": {
            "functions": {"function": documents[0].value},
            "catalogs": {catalog: {"endpoint": "https://example.com"} for catalog in catalogs},
        },
        "do": [{"call": {"call": "function"}}],
    }
    workflow, findings = examine(value)
    if findings or workflow is None:
        inside = [replace(finding, pointer=finding.pointer.removeprefix(_FUNCTION)) for finding in findings]
        raise InvalidDocumentError([_placed(finding, documents[0]) for finding in inside])
    return cast("dict[str, Any]", workflow.to_dict()["use"]["functions"]["function"])


def validate(value: Any, *, secrets: Collection[str] = ()) -> Workflow:
    """The workflow of a document that is no text (any more), checked as `parse` does; problems have no positions.

    Raises:
        InvalidDocumentError: It is no valid workflow.
    """
    workflow, findings = examine(value, secrets=frozenset(secrets))
    if findings or workflow is None:
        raise InvalidDocumentError(
            [
                Problem(code=finding.code, message=finding.message, pointer=finding.pointer, hint=finding.hint)
                for finding in findings
            ]
        )
    return workflow


def _several(documents: Sequence[SourceDocument], name: str) -> Problem:
    return Problem(
        code="dsl.documents",
        message=f"the text holds {len(documents)} documents",
        position=documents[1].position(""),
        source=name,
        hint="parse one at a time",
    )


def _placed(finding: Finding, document: SourceDocument) -> Problem:
    place = document.position(finding.pointer, key=finding.at_key)
    column = _COLUMN.search(finding.message)
    if finding.expression and column is not None:
        place = _inside(place, finding.expression, int(column[1]), document.text)
    return Problem(
        code=finding.code,
        message=finding.message,
        pointer=finding.pointer,
        position=place,
        source=document.name,
        hint=finding.hint,
    )


def _inside(place: Position, expression: str, column: int, text: str) -> Position:
    """The place of a column of an expression, where the expression stands in its text as it is; else `place`."""
    line = text.splitlines()[place.line - 1]
    start = line.find(expression, place.column - 1)
    return place if start < 0 else Position(place.line, start + column)
