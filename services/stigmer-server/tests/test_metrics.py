"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from stigmer_grpc import NotFoundError

from stigmer_server.errors import StartupError
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Values:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


async def scraped(api: Api) -> Values:
    content, content_type = await api.app.metrics.exposition()
    assert content_type.startswith("text/plain; version=")
    return parsed(content.decode())


def value(values: Values, metric: str, /, **labels: str) -> float:
    return values[metric, frozenset(labels.items())]


async def test_calls_are_told_by_service_method_and_code(api: Api, make: Make) -> None:
    made = await make(api, "agent", "counted")
    with pytest.raises(NotFoundError):
        await api("agent", "get", {"value": "agt-none"})
    await api("agent", "get", {"value": made.metadata.id})
    values = await scraped(api)
    place = {"service": "ai.stigmer.agentic.agent.v1.AgentQueryController", "method": "get"}
    assert value(values, "stigmer_rpc_duration_seconds_count", **place, code="OK") == 1
    assert value(values, "stigmer_rpc_duration_seconds_count", **place, code="NOT_FOUND") == 1
    assert value(values, "stigmer_rpc_duration_seconds_bucket", **place, code="OK", le="+Inf") == 1
    assert value(values, "stigmer_rpc_duration_seconds_sum", **place, code="OK") > 0
    assert value(values, "stigmer_rpc_in_flight", **place) == 0


async def test_the_store_the_executions_and_the_followers_are_told(api: Api, make: Make) -> None:
    run = await make(api, "agent_execution")
    stream = api.stream("agent_execution", "subscribe", {"value": run.metadata.id})
    await anext(stream)
    values = await scraped(api)
    assert value(values, "stigmer_store_commits_total") > 0
    assert value(values, "stigmer_store_sequence") >= 4
    assert value(values, "stigmer_store_bytes") > 0
    assert value(values, "stigmer_subscribers") == 1
    assert value(values, "stigmer_executions", kind="agent_execution", phase="EXECUTION_PENDING") == 1
    assert value(values, "stigmer_executions", kind="workflow_execution", phase="EXECUTION_PENDING") == 0
    assert value(values, "stigmer_component_ready", name="store") == 1
    assert ("stigmer_component_ready", frozenset({("name", "temporal")})) not in values
    assert value(values, "process_resident_memory_bytes") > 1_000_000
    stream.cancel()


async def test_what_temporal_is_asked_is_counted(tmp_path: Path) -> None:
    from stigmer_server.engine.port import AwayError, Runs
    from stigmer_server.monitoring.engine import EngineMetrics

    metrics = EngineMetrics()

    async def away() -> Runs:
        raise AwayError("nobody there")

    with pytest.raises(AwayError):
        await metrics.counting(away)()

    async def no() -> bool:
        return False

    assert await metrics.ended("start", no(), otherwise="known") is False
    assert await metrics.ended("state", no()) is False
    assert metrics.asked == {("connect", "away"): 1, ("start", "known"): 1, ("state", "done"): 1}


async def test_open_metrics_are_told_to_those_who_accept_them(local: Api) -> None:
    content, content_type = await local.app.metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert content.endswith(b"# EOF\n")


async def test_no_metric_names_a_resource_or_a_secret(local: Api) -> None:
    data = {"data": {"NAME-canary": {"value": "value-canary", "isSecret": True}}}
    await local("environment", "create", manifest("environment", "slug-canary", data, org="org-canary"))
    content, _ = await local.app.metrics.exposition()
    assert b"canary" not in content


async def test_metrics_have_a_port_of_their_own(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        assert await api.app.serve_metrics() == ""
        address = await api.app.serve_metrics(0)
        async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
            found = await client.get("/metrics")
            assert (found.status_code, found.headers["content-type"].split(";")[0]) == (200, "text/plain")
            assert "stigmer_store_commits_total" in found.text
            assert (await client.get("/other")).status_code == 404
            assert (await client.post("/metrics")).status_code == 405
            assert (await client.get("/metrics", headers={"host": "attacker.example"})).status_code == 403
        async with serve(tmp_path / "other") as other:
            with pytest.raises(StartupError, match="for metrics"):
                await other.app.serve_metrics(int(address.rpartition(":")[2]))


async def test_http_offers_metrics_and_readiness(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        address = await api.app.serve_http(port=0)
        async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
            assert "stigmer_rpc_duration_seconds" in (await client.get("/metrics")).text
            ready = (await client.get("/readyz")).json()
    assert ready["ready"] is True
    assert {each["name"]: each["state"] for each in ready["components"]}["store"] == "COMPONENT_STATE_READY"
