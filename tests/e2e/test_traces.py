"""One trace from the command over the server and Temporal to the runner, as a collector gets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from stigmer_cli.testing import Cli, CountingSite
from stigmer_grpc.collector import Collected, Collector, collecting

pytestmark = pytest.mark.slow
SECRET = "swordfish"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def workflow(folder: Path, site: CountingSite) -> str:
    path = folder / "traced.yaml"
    path.write_text(
        "document: {dsl: 1.0.0, namespace: tests, name: traced, version: 1.0.0}\ndo:\n"
        f"  - ask: {{call: http, with: {{method: get, endpoint: {site.url}/x, headers: {{x-said: {SECRET}}}}}}}\n",
        encoding="utf-8",
    )
    return str(path)


def lineage(span: Collected, spans: Sequence[Collected]) -> list[str]:
    """Return the services on the way from the root of a trace to a span, each once where it is met again and again."""
    by_id = {each.id: each for each in spans}
    services: list[str] = []
    current: Collected | None = span
    while current is not None:
        if not services or services[-1] != current.service:
            services.append(current.service)
        current = by_id[current.parent] if current.parent else None
    return services[::-1]


def test_a_run_is_one_trace_from_the_command_to_the_runner_and_back(
    cli: Cli, tmp_path: Path, collector: Collector, site: CountingSite
) -> None:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    up = cli.run("up", "--detach", env=traced)
    assert up.code == 0, up.err
    done = cli.run("run", workflow(tmp_path, site), "-o", "json", env=traced)
    assert done.code == 0, done.err
    assert cli.run("down").code == 0
    cli.until_gone()

    (root,) = (span for span in collector.spans if span.name == "stigmer run")
    spans = [span for span in collector.spans if span.trace == root.trace]
    assert {span.service for span in spans} == {"stigmer", "stigmer-server", "workflow-runner"}
    (start,) = (span for span in spans if span.name.startswith("StartWorkflow:"))
    assert lineage(start, spans) == ["stigmer", "stigmer-server"]
    activities = [span for span in spans if span.name.startswith("RunActivity:")]
    assert activities
    for activity in activities:
        assert lineage(activity, spans) == ["stigmer", "stigmer-server", "workflow-runner"]
    back = [
        span for span in spans if span.service == "stigmer-server" and lineage(span, spans).count(span.service) == 2
    ]
    assert any(span.attributes.get("rpc.method") == "updateStatus" for span in back)
    assert not any(SECRET.encode() in span.raw for span in collector.spans)


def test_without_the_variables_nothing_is_sent_and_nothing_of_it_imported(
    cli: Cli, tmp_path: Path, collector: Collector, site: CountingSite
) -> None:
    quiet = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    watched = {"PYTHONPROFILEIMPORTTIME": "1"}
    for variables in ({}, quiet):
        done = cli.run("run", workflow(tmp_path, site), "-o", "json", env={**variables, **watched})
        assert done.code == 0, done.err
        runner = (cli.home / "logs" / "workflow-runner.log").read_text()
        assert "workflow_runner.worker" in runner
        assert "opentelemetry" not in runner
        assert "stigmer_server.app" in done.err
        assert "opentelemetry" not in done.err
    assert not collector.spans
