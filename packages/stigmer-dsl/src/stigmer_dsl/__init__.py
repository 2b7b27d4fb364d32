"""The Open Workflow DSL 1.0 for Python: typed model, parser with positions, validation, expressions and data flow."""

from stigmer_dsl import build, dataflow, descriptors, durations, errors, expressions, model, secrets
from stigmer_dsl.doubts import doubts_about
from stigmer_dsl.errors import (
    DocumentError,
    DslError,
    DurationError,
    ExpressionError,
    InvalidDocumentError,
    MissingSecretError,
    SchemaError,
    SecretAccessError,
    SourceError,
    WorkflowError,
)
from stigmer_dsl.format import format_text, to_yaml
from stigmer_dsl.model import Workflow, load_trusted
from stigmer_dsl.parse import parse, parse_function, validate
from stigmer_dsl.problems import Position, Problem
from stigmer_dsl.secrets import Secrets
from stigmer_dsl.source import Source, SourceDocument
from stigmer_dsl.stored import compile_spec, compile_tasks, to_stored

__all__ = [
    "DocumentError",
    "DslError",
    "DurationError",
    "ExpressionError",
    "InvalidDocumentError",
    "MissingSecretError",
    "Position",
    "Problem",
    "SchemaError",
    "SecretAccessError",
    "Secrets",
    "Source",
    "SourceDocument",
    "SourceError",
    "Workflow",
    "WorkflowError",
    "build",
    "compile_spec",
    "compile_tasks",
    "dataflow",
    "descriptors",
    "doubts_about",
    "durations",
    "errors",
    "expressions",
    "format_text",
    "load_trusted",
    "model",
    "parse",
    "parse_function",
    "secrets",
    "to_stored",
    "to_yaml",
    "validate",
]
