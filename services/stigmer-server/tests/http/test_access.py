"""Who is let in over HTTP: the same callers as over gRPC, with the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from starlette.datastructures import Headers

from stigmer_server.errors import SettingsError
from stigmer_server.http.metadata import call_metadata
from stigmer_server.http.testing import serve_http
from stigmer_server.testing import manifest, serve

AGENT = manifest("agent", "Sample", {"instructions": "Answer in one sentence."})


async def test_a_request_needs_the_token_that_a_call_needs(tmp_path: Path) -> None:
    async with serve_http(tmp_path, auth="token") as front:
        token = (tmp_path / "token").read_text().strip()
        for headers in ({}, {"authorization": "Bearer " + "x" * 43}, {"authorization": "Basic YTpi"}):
            refused = await front.client.post("/v1/agents", json=AGENT, headers=headers)
            assert refused.status_code == 401
        made = await front.client.post("/v1/agents", json=AGENT, headers={"authorization": f"Bearer {token}"})
        assert made.status_code in (200, 201)
        audit = made.json()["status"]["audit"]
        assert audit.get("specAudit", audit.get("spec_audit"))["createdBy"]["id"] == "operator"


async def test_health_and_the_description_are_everybodys_and_metrics_are_not(tmp_path: Path) -> None:
    async with serve_http(tmp_path, auth="token") as front:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert (await front.client.get(path)).status_code in (200, 503)
        token = (tmp_path / "token").read_text().strip()
        for headers, status in (({}, 401), ({"authorization": "Bearer wrong"}, 401), (_bearer(token), 200)):
            answer = await front.client.get("/metrics", headers=headers)
            assert (answer.status_code, "stigmer_executions" in answer.text) == (status, status == 200)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("client", "peer"), [(("10.0.0.9", 5), "ipv4:10.0.0.9:5"), (("2001:db8::9", 5), "ipv6:[2001:db8::9]:5")]
)
def test_where_a_request_comes_from_is_not_for_it_to_say(client: tuple[str, int], peer: str) -> None:
    """Otherwise whoever guesses tokens would be somebody else at each guess."""
    headers = Headers({"X-Stigmer-Peer": "ipv4:10.0.0.1:1", "x-stigmer-force": "true"})
    sent = call_metadata(headers, "id", client)
    assert sent["x-stigmer-peer"] == peer
    assert sent["x-stigmer-force"] == "true"


async def test_http_speaks_tls_when_grpc_does(tmp_path: Path) -> None:
    authority = trustme.CA()
    given = authority.issue_cert("localhost", "127.0.0.1")
    paths = {name: tmp_path / f"{name}.pem" for name in ("authority", "certificate", "key")}
    authority.cert_pem.write_to_path(paths["authority"])
    given.cert_chain_pems[0].write_to_path(paths["certificate"])
    given.private_key_pem.write_to_path(paths["key"])
    settings: dict[str, Any] = {"tls_certificate": paths["certificate"], "tls_key": paths["key"], "auth": "token"}
    async with serve_http(tmp_path, **settings) as front:
        import ssl

        context = ssl.create_default_context(cafile=paths["authority"])
        async with httpx2.AsyncClient(base_url=f"https://127.0.0.1:{front.port}", verify=context) as client:
            assert (await client.get("/v1/agents/agt-1")).status_code == 401
        with pytest.raises(httpx2.TransportError):
            await front.client.get("/v1/agents/agt-1")
        renewed = trustme.CA()
        next_one = renewed.issue_cert("localhost", "127.0.0.1")
        next_one.cert_chain_pems[0].write_to_path(paths["certificate"])
        next_one.private_key_pem.write_to_path(paths["key"])
        renewed.cert_pem.write_to_path(paths["authority"])
        context = ssl.create_default_context(cafile=paths["authority"])
        async with httpx2.AsyncClient(base_url=f"https://127.0.0.1:{front.port}", verify=context) as client:
            assert (await client.get("/v1/agents/agt-1")).status_code == 401


async def test_http_is_not_offered_to_other_machines_in_clear_or_to_everybody(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        for host in ("0.0.0.0", "::"):
            with pytest.raises(SettingsError, match="--auth token"):
                await api.app.serve_http(host, 0)
        assert api.app.http_address == ""
