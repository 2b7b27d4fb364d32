"""The stored form of workflows: tasks as name, kind and configuration, compiled to the language."""

from collections.abc import Callable, Mapping
from typing import Any

from stigmer_dsl.errors import InvalidDocumentError
from stigmer_dsl.model import Workflow
from stigmer_dsl.parse import parse
from stigmer_dsl.problems import Problem
from stigmer_dsl.stored.compiler import compile_document, environment_names
from stigmer_dsl.stored.config import Notes
from stigmer_dsl.stored.kinds import kind_name
from stigmer_dsl.stored.writer import write_document
from stigmer_dsl.validation import examine

__all__ = ["compile_spec", "compile_tasks", "compile_traced", "kind_name", "to_stored"]


def compile_tasks(spec: Mapping[str, Any]) -> Workflow:
    """The workflow that the `document` and `tasks` of a stored spec define.

    `spec` is the JSON form of a WorkflowSpec: keys in snake case or camel case, kinds as numbers, enum names or short
    names. `use.secrets` of the result has every name that `env_spec` declares or a placeholder uses.

    Raises:
        InvalidDocumentError: It defines none; every problem, with pointers into `spec`.
    """
    return compile_traced(spec)[0]


def compile_traced(spec: Mapping[str, Any]) -> tuple[Workflow, Callable[[str], str]]:
    """What `compile_tasks` gives, and a function that tells where in `spec` the part at a pointer comes from.

    Raises:
        InvalidDocumentError: As `compile_tasks` does.
    """
    notes = Notes()
    document = compile_document(spec, notes)
    workflow, findings = examine(document, stored=True)
    problems = [
        Problem(code=finding.code, message=finding.message, pointer=pointer, hint=finding.hint)
        for finding, pointer in (
            *((finding, finding.pointer) for finding in notes.findings),
            *((finding, notes.origin(finding.pointer)) for finding in findings),
        )
    ]
    if problems or workflow is None:
        raise InvalidDocumentError(problems)
    return workflow, notes.origin


def compile_spec(spec: Mapping[str, Any], *, name: str = "definition") -> Workflow:
    """The workflow of a stored spec, whether it holds a `definition` or `tasks`.

    Raises:
        SourceError: The definition's text cannot be read.
        InvalidDocumentError: It is no valid workflow.
    """
    definition = spec.get("definition")
    if isinstance(definition, str) and definition.strip():
        return parse(definition, name=name, secrets=environment_names(spec))
    return compile_tasks(spec)


def to_stored(workflow: Workflow) -> dict[str, Any]:
    """The stored spec, `document` and `tasks`, of a workflow: the way back from `compile_tasks`.

    The stored form says less than the language: no schemas, conditions, retries … What it can say compiles back to the
    same workflow; of anything else the document itself can be stored, as `definition`.

    Raises:
        InvalidDocumentError: The form cannot say it; every part that it has no place for, with its pointer.
    """
    problems: list[Problem] = []
    spec = write_document(workflow, problems)
    if problems:
        raise InvalidDocumentError(problems)
    return spec
