"""Everything the server counts, as Prometheus reads it.

Nothing here is on the way of a call: the parts keep plain numbers, and what is told of them is put together when
somebody asks. Prometheus' library is imported then, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from stigmer_grpc import BOUNDS, CallMetrics
from stigmer_sqlite import Query, SqliteStore, StoreError

from stigmer_server.kinds import Kinds
from stigmer_server.monitoring.engine import EngineMetrics
from stigmer_server.monitoring.status import Snapshot, State, Status
from stigmer_server.streams import Streams

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_COUNTED_EVERY = 10.0
"""Seconds for which the number of executions is kept; counting reads an index from end to end."""


class Metrics:
    """The metrics of one server.

    Args:
        calls: What was counted of calls.
        engine: What was counted of Temporal.
        store: The database.
        streams: Who follows executions.
        kinds: Whose executions to count.
        status: How the components are.
    """

    def __init__(
        self,
        *,
        calls: CallMetrics,
        engine: EngineMetrics,
        store: SqliteStore,
        streams: Streams,
        kinds: Kinds,
        status: Status,
    ) -> None:
        self._calls = calls
        self._engine = engine
        self._store = store
        self._streams = streams
        self._kinds = kinds
        self._status = status
        self._executions: Mapping[tuple[str, str], int] = {}
        self._counted_at = -_COUNTED_EVERY
        self._registry: Any = None

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type.

        Args:
            accept: What whoever asks accepts, as HTTP says it; decides between Prometheus' own form and OpenMetrics.
        """
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = _process_registry()
        try:
            await self._count_executions()
        except StoreError:
            self._executions = {}
        collected = _Collected(self._registry, [*self._families(await self._status.snapshot())])
        encode, content_type = choose_encoder(accept)
        return encode(collected), content_type

    async def _count_executions(self) -> None:
        if time.monotonic() - self._counted_at < _COUNTED_EVERY:
            return
        counted: dict[tuple[str, str], int] = {}
        for kind in self._kinds.values():
            for phase in kind.phase_names:
                query = Query(kind=kind.name, where={"phase": phase}, limit=1, count=True)
                counted[kind.name, phase] = (await self._store.list(query)).total or 0
        self._executions, self._counted_at = counted, time.monotonic()

    def _families(self, snapshot: Snapshot) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("stigmer_server", "The server.", value={"version": version("stigmer-server")})
        yield from self._call_families()
        yield from self._store_families()
        yield _gauge("stigmer_subscribers", "Callers that follow an execution.", self._streams.followers)
        yield _gauge("stigmer_followed_executions", "Executions that somebody follows.", self._streams.followed)
        executions = GaugeMetricFamily("stigmer_executions", "Executions.", labels=("kind", "phase"))
        for labels, count in self._executions.items():
            executions.add_metric(labels, count)
        yield executions
        yield from self._engine_families()
        ready = GaugeMetricFamily(
            "stigmer_component_ready",
            "Whether a component is ready; those that are off are left out.",
            labels=("name",),
        )
        for component in snapshot.components:
            if component.state is not State.OFF:
                ready.add_metric((component.name,), float(component.state is State.READY))
        yield ready

    def _call_families(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labels = ("service", "method")
        seconds = HistogramMetricFamily(
            "stigmer_rpc_duration_seconds", "Calls by their duration and end.", labels=(*labels, "code")
        )
        flying = GaugeMetricFamily("stigmer_rpc_in_flight", "Calls that are being answered.", labels=labels)
        sent = CounterMetricFamily("stigmer_rpc_stream_messages", "Responses of streams.", labels=labels)
        for path, method in self._calls.methods.items():
            place = tuple(path.removeprefix("/").split("/"))
            flying.add_metric(place, method.in_flight)
            if method.streams:
                sent.add_metric(place, method.sent)
            for code, ended in method.codes.items():
                seconds.add_metric((*place, code.name), _cumulated(ended.counts), ended.seconds)
        yield from (seconds, flying, sent)

    def _engine_families(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        asked = CounterMetricFamily(
            "stigmer_engine_requests", "What Temporal was asked for, and how it ended.", labels=("request", "outcome")
        )
        for labels, count in self._engine.asked.items():
            asked.add_metric(labels, count)
        yield asked

    def _store_families(self) -> Iterator[Metric]:
        told = self._store.statistics()
        yield _counter("stigmer_store_commits", "Commits.", told.commits)
        yield _counter("stigmer_store_commit_failures", "Commits that failed.", told.failed_commits)
        yield _counter("stigmer_store_commit_seconds", "Seconds spent waiting for commits.", told.commit_seconds)
        yield _counter("stigmer_store_transactions", "Transactions committed; several share one.", told.transactions)
        yield _counter("stigmer_store_changes", "Records written or removed.", told.changes)
        yield _gauge("stigmer_store_waiting_transactions", "Transactions that wait for their turn.", told.waiting)
        yield _gauge("stigmer_store_sequence", "Sequence of the newest change.", told.sequence)
        yield _gauge("stigmer_store_watches", "Readers of the change feed, the server's own among them.", told.watches)
        yield _gauge("stigmer_store_bytes", "Size of the database file.", told.bytes)
        yield _gauge("stigmer_store_log_bytes", "Size of the log beside it.", told.log_bytes)


class _Collected:
    """What an encoder asks for metrics: those of the process, and ours."""

    def __init__(self, process: Any, own: list[Metric]) -> None:
        self._process = process
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """Yield all of them."""
        yield from self._own
        yield from self._process.collect()


def _process_registry() -> Any:
    from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
    from prometheus_client.core import CollectorRegistry

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _counter(name: str, meaning: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, meaning, value=value)


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    """Return the ranges as Prometheus has them: each includes those below it."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
