"""Workflow definitions: checked when they are stored, and their input schema when they are run.

Everything about the language itself is stigmer-dsl's; this module ties it to the Workflow resource.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from stigmer_dsl import DocumentError, WorkflowError, compile_tasks, doubts_about, parse
from stigmer_dsl.schemas import broken_rules

from stigmer_server.environments import declared_by
from stigmer_server.errors import InvalidError, RefusedError, Violation
from stigmer_server.messages import Message, to_plain, value_to_plain
from stigmer_server.schedule_plans import plan_of
from stigmer_server.schedules import Plan
from stigmer_server.unit import timestamp

_VALID = 2
"""serverless.ValidationState.VALID."""
_DEFINITION = "spec.definition"


def inspect(message: Message) -> None:
    """Check the workflow, fill `spec.document` from its definition, and record the result in its status.

    Raises:
        InvalidError: The definition, or a task, breaks the rules of the language: every problem with its place.
    """
    spec = message.spec
    if spec.definition:
        workflow = _parsed(spec.definition, _names(message))
        document = workflow.to_dict()["document"]
        spec.document.Clear()
        for name in ("dsl", "namespace", "name", "version"):
            setattr(spec.document, name, str(document.get(name, "")))
        spec.document.description = str(document.get("summary", document.get("description", "")) or "")
        text = spec.definition
        plan(message)
    else:
        workflow = _compiled(spec)
        text = _as_yaml(workflow.to_dict())
    validation = message.status.serverless_workflow_validation
    validation.state = _VALID
    validation.warnings[:] = [str(doubt) for doubt in doubts_about(workflow)]
    validation.yaml = text
    validation.validated_at.CopyFrom(timestamp())


def plan(message: Message) -> Plan | None:
    """Return when a workflow starts by itself; None: never. Raises: InvalidError for what cannot be done."""
    return _plan(message.spec.definition, _names(message)) if message.spec.definition else None


def check_input(workflow: Message, value: Message) -> None:
    """Check the input of a run (a google.protobuf.Value) against the schema that the definition gives, if any.

    Raises:
        InvalidError: The input breaks the schema: every violation with its path.
        RefusedError: The schema refers to something outside of it, which is not fetched, or takes too long to check.
    """
    schema = _input_schema(workflow.spec.definition, _names(workflow))
    if schema is None:
        return
    data = _plain("spec.input", value, value_to_plain)
    try:
        found = broken_rules(schema, data, "the input")
    except WorkflowError as error:
        msg = f"the input schema of workflow {workflow.metadata.slug} cannot be used: {error.detail}"
        raise RefusedError(msg) from error
    if found:
        violations = [
            Violation(field="spec.input" + _path(each.path), rule=f"input.{each.rule}", message=each.message)
            for each in sorted(found, key=lambda each: list(map(str, each.path)))
        ]
        raise InvalidError(_summary("the input does not fit the workflow's schema", violations), violations)


def _names(workflow: Message) -> frozenset[str]:
    """Return the names that the workflow's own environment declares; its expressions may use them as secrets."""
    return frozenset(declared_by(workflow))


def _parsed(text: str, names: frozenset[str]) -> Any:
    try:
        return parse(text, name=_DEFINITION, secrets=names)
    except DocumentError as error:
        violations = [_violation(_DEFINITION, problem) for problem in error.problems]
        raise InvalidError(_summary("the definition is not valid", violations), violations) from error


def _compiled(spec: Message) -> Any:
    try:
        return compile_tasks(_plain("spec", spec, to_plain))
    except DocumentError as error:
        violations = [_violation("spec" + _pointed(problem.pointer), problem) for problem in error.problems]
        raise InvalidError(_summary("the tasks are not valid", violations), violations) from error


def _plain(field: str, message: Message, convert: Callable[[Message], Any]) -> Any:
    try:
        return convert(message)
    except ValueError as error:
        raise InvalidError.of(field, "json.representable", str(error)) from error


def _violation(field: str, problem: Any) -> Violation:
    return Violation(field=field, rule=problem.code, message=str(problem))


@lru_cache(maxsize=256)
def _plan(definition: str, names: frozenset[str]) -> Plan | None:
    return plan_of(_parsed(definition, names).schedule)


@lru_cache(maxsize=256)
def _input_schema(definition: str, names: frozenset[str]) -> Any:
    """Return a definition's inline input schema, which was found to be one; None when it has none."""
    return _parsed(definition, names).to_dict().get("input", {}).get("schema", {}).get("document")


def _as_yaml(document: Mapping[str, Any]) -> str:
    text = io.StringIO()
    printer: Any = YAML()
    printer.default_flow_style = False
    printer.width = 120
    printer.dump(document, text)
    return text.getvalue()


def _pointed(pointer: str) -> str:
    """Return a JSON pointer as a field path."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    path = _path(int(part) if part.isdecimal() else part for part in parts)
    # Messages say taskConfig in JSON; fields of a request are named as the contract spells them.
    return path.replace(".taskConfig", ".task_config", 1)


def _path(parts: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _summary(opening: str, violations: Sequence[Violation]) -> str:
    shown = "; ".join(violation.message for violation in violations[:3])
    more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""
    return f"{opening}: {shown}{more}"
