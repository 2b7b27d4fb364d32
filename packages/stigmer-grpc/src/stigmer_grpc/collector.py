"""A collector of traces for tests: takes spans by OTLP over HTTP on the loopback interface, and keeps them.

Needs the extra `otel`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_PATH = "/v1/traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A span as it was sent. Ids are in hexadecimal; no parent: empty."""

    service: str
    name: str
    kind: int
    """As OTLP numbers them: 1 internal, 2 server, 3 client."""
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    raw: bytes
    """The whole span, to look for what must not be in it."""


class Collector:
    """What has been sent so far."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        self.spans: list[Collected] = []
        self.refused: list[str] = []
        """Paths of requests that no exporter should make."""
        self._came = threading.Condition()

    def wait(self, enough: Callable[[Sequence[Collected]], bool], timeout: float = 30.0) -> list[Collected]:
        """Return the spans once they are enough; blocks until then.

        Raises:
            TimeoutError: They are not within the time; it names those that came.
        """
        deadline = time.monotonic() + timeout
        with self._came:
            while not enough(self.spans):
                if not self._came.wait(deadline - time.monotonic()):
                    came = ", ".join(f"{span.service} {span.name}" for span in self.spans)
                    raise TimeoutError(f"not enough spans: {came or 'none'}")
            return list(self.spans)

    def take(self, path: str, body: bytes) -> bool:
        """Keep what a request sends; False when it is none of ours."""
        with self._came:
            if path != _PATH:
                self.refused.append(path)
                return False
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            self._came.notify_all()
        return True


@contextmanager
def collecting() -> Generator[Collector]:
    """Run a collector for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            self.send_response(200 if collector.take(self.path, body) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, name="collector", daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Collected]:
    for of_process in request.resource_spans:
        service = _plain(of_process.resource.attributes).get("service.name", "")
        for scope in of_process.scope_spans:
            for span in scope.spans:
                yield Collected(
                    service=service,
                    name=span.name,
                    kind=span.kind,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    attributes=_plain(span.attributes),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    raw=span.SerializeToString(),
                )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
