"""Whether there are traces, by what the standard variables of OpenTelemetry say; without them it is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing

TraceExporter: TypeAlias = Literal["auto", "otlp", "none"]
"""Where traces go: by OTLP over HTTP, nowhere, or the first if there is an address for it."""


def open_tracing(
    service: str, *, exporter: TraceExporter = "auto", endpoint: str = "", traces_endpoint: str = ""
) -> Tracing | None:
    """Return the traces of this process, to be closed at its end; None when nobody wants any, which costs nothing.

    Args:
        service: Name of the process in traces.
        exporter: OTEL_TRACES_EXPORTER.
        endpoint: OTEL_EXPORTER_OTLP_ENDPOINT: URL of a collector, without the path for traces.
        traces_endpoint: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: URL that takes traces, as it is.

    Raises:
        ImportError: They are wanted, and the extra `otel` is not installed.
    """
    if exporter == "none" or (exporter == "auto" and not (endpoint or traces_endpoint)):
        return None
    from stigmer_grpc.tracing import Tracing

    address = traces_endpoint or (f"{endpoint.rstrip('/')}/v1/traces" if endpoint else "")
    return Tracing(service, endpoint=address)
