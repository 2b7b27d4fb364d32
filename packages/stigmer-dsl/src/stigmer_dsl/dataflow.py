"""How data flows through tasks and workflows: input, output and export, with their schemas.

Pure functions, in the order of the specification: raw input is checked, then transformed; raw output is transformed,
then checked; what is exported replaces the context, then is checked.
"""

from collections.abc import Callable, Mapping
from typing import Any

from stigmer_dsl.errors import SchemaError, WorkflowError
from stigmer_dsl.expressions import Mode, evaluate, evaluate_bare
from stigmer_dsl.model import Export, Input, Output, Schema
from stigmer_dsl.schemas import invalid_schema, unsupported_format, violations
from stigmer_dsl.secrets import Secrets

LoadSchema = Callable[[Schema], Any]
"""Gives the content of a schema that stands somewhere else."""

_MAX_VIOLATIONS = 20


def transform(
    transformation: str | Mapping[str, Any] | None,
    value: Any,
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
    mode: Mode = "strict",
) -> Any:
    """A value after `input.from`, `output.as` or `export.as`; the value itself without one.

    Raises:
        ExpressionError: An expression failed.
        SecretAccessError: It names a secret that `secrets` does not declare.
    """
    if transformation is None:
        return value
    if isinstance(transformation, str):
        return evaluate_bare(transformation, value, variables, secrets=secrets)
    return evaluate(transformation, value, variables, secrets=secrets, mode=mode)


def transform_input(
    spec: Input | None,
    raw: Any,
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
    mode: Mode = "strict",
    load: LoadSchema | None = None,
) -> Any:
    """The transformed input of a task or workflow: `raw` is checked by `input.schema`, then goes through `input.from`.

    Raises:
        SchemaError: `raw` is not what the schema says.
        ExpressionError: The expression failed.
        SecretAccessError: It names a secret that `secrets` does not declare.
        WorkflowError: The schema is no schema, or stands elsewhere and `load` is not given (type configuration).
    """
    if spec is None:
        return raw
    check("the input", raw, spec.schema_, load=load)
    return transform(spec.from_, raw, variables, secrets=secrets, mode=mode)


def transform_output(
    spec: Output | None,
    raw: Any,
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
    mode: Mode = "strict",
    load: LoadSchema | None = None,
) -> Any:
    """The transformed output of a task or workflow: `raw` goes through `output.as`, then `output.schema` checks it.

    Raises:
        As `transform_input`.
    """
    if spec is None:
        return raw
    value = transform(spec.as_, raw, variables, secrets=secrets, mode=mode)
    check("the output", value, spec.schema_, load=load)
    return value


def apply_export(
    spec: Export | None,
    output: Any,
    context: Any,
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
    mode: Mode = "strict",
    load: LoadSchema | None = None,
) -> Any:
    """The context after a task: `export.as` of its transformed output, checked by `export.schema`, or as it was.

    `$context` and `$output` are set here, whatever `variables` says.

    Raises:
        As `transform_input`.
    """
    if spec is None:
        return context
    known = {**(variables or {}), "context": context, "output": output}
    value = context if spec.as_ is None else transform(spec.as_, output, known, secrets=secrets, mode=mode)
    check("the context", value, spec.schema_, load=load)
    return value


def check(what: str, value: Any, schema: Schema | None, *, load: LoadSchema | None = None) -> None:
    """Check data by a schema; `what` names the data in the error.

    Raises:
        SchemaError: The data is not what the schema says; every violation, up to 20, with its place.
        WorkflowError: The schema is no schema, or stands elsewhere and `load` is not given (type configuration).
    """
    if schema is None:
        return
    wrong = unsupported_format(schema.format)
    if wrong is not None:
        raise WorkflowError.standard("configuration", wrong)
    document: Any = schema.document
    if schema.resource is not None:
        if load is None:
            raise WorkflowError.standard("configuration", f"the schema of {what} stands elsewhere and cannot be loaded")
        document = load(schema)
    problem = invalid_schema(document)
    if problem is not None:
        raise WorkflowError.standard("configuration", f"the schema of {what} is no JSON Schema: {problem[1]}")
    errors = violations(document, value, what)
    if errors:
        found = errors[:_MAX_VIOLATIONS]
        if len(errors) > _MAX_VIOLATIONS:
            found.append(("", f"and {len(errors) - _MAX_VIOLATIONS} more"))
        raise SchemaError(what, found)
