"""The traces of a command: off unless the standard variables of OpenTelemetry ask for them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast, get_args

from stigmer_cli.environment import Environment
from stigmer_cli.errors import InvalidInputError

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing

_EXPORTER, _ENDPOINT, _TRACES = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@contextmanager
def traced(environment: Environment, command: str) -> Generator[Tracing | None]:
    """Have the block in a span of the command's name, sent when it ends; yields None where nobody wants traces.

    Raises:
        InvalidInputError: OTEL_TRACES_EXPORTER says something else than auto, otlp or none.
    """
    said = environment.variables.get(_EXPORTER) or "auto"
    endpoint, traces_endpoint = (environment.variables.get(name, "") for name in (_ENDPOINT, _TRACES))
    if said == "none" or (said == "auto" and not (endpoint or traces_endpoint)):
        yield None
        return
    from stigmer_grpc.traces import TraceExporter, open_tracing

    if said not in get_args(TraceExporter):
        msg = f"{_EXPORTER} is {said!r}; expected one of {', '.join(get_args(TraceExporter))}"
        raise InvalidInputError(msg)
    tracing = open_tracing(
        "stigmer",
        exporter=cast("TraceExporter", said),
        endpoint=endpoint,
        traces_endpoint=traces_endpoint,
    )
    if tracing is None:
        yield None
        return
    try:
        with tracing.span(command):
            yield tracing
    finally:
        tracing.close()
