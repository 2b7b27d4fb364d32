"""What pages in a browser may do to a server on its user's machine: nothing, unless they are let in."""

from __future__ import annotations

import httpx2
import pytest

from stigmer_server.http.testing import Front


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:1", "127.0.0.1", "127.0.0.2:80", "[::1]", "[::1]:8081", "LOCALHOST", "app.localhost"],
)
async def test_the_names_of_the_loopback_interface_are_answered_to(front: Front, host: str) -> None:
    assert (await front.client.get("/v1/agents", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "a@localhost",
     "localhost/x", "localhost:port", "", "notlocalhost", "[::2]", "0.0.0.0", "localhost#"],
)  # fmt: skip
async def test_other_names_are_not(front: Front, host: str) -> None:
    response = await front.client.get("/v1/agents", headers={"host": host})
    assert response.status_code == 421
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("http_settings", [{"http_allowed_hosts": "stigmer.example, other.example"}])
async def test_names_are_let_in_by_the_settings(front: Front) -> None:
    for host in ("stigmer.example", "OTHER.example:8081", "localhost"):
        assert (await front.client.get("/v1/agents", headers={"host": host})).status_code == 200
    assert (await front.client.get("/v1/agents", headers={"host": "third.example"})).status_code == 421


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "*"])
@pytest.mark.parametrize("path", ["/v1/agents", "/healthz", "/v1/agents/a/events"])
async def test_pages_elsewhere_are_refused(front: Front, origin: str, path: str) -> None:
    response = await front.client.get(path, headers={"origin": origin})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


async def test_pages_of_the_server_itself_are_not(front: Front) -> None:
    origin = str(front.client.base_url).rstrip("/")
    assert (await front.client.get("/v1/agents", headers={"origin": origin})).status_code == 200


async def test_a_form_of_a_page_elsewhere_changes_nothing(front: Front) -> None:
    """What a page can send without being asked: a simple request, with any of the three types that those may have."""
    agent = await front.agent()
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
        response = await front.client.post(
            "/v1/agents", content=b'{"kind": "Agent"}', headers={"content-type": content_type}
        )
        assert response.status_code == 415
    cross = {"origin": "https://evil.example"}
    assert (await front.client.post(f"/v1/agents/{agent['metadata']['id']}:rollback", headers=cross)).status_code == 403
    archive = await front.client.post("/v1/skills", params={"name": "x"}, files={"f": ("x.zip", b"x")}, headers=cross)
    assert archive.status_code == 403


@pytest.mark.parametrize("http_settings", [{"http_allowed_origins": "https://app.example.com"}])
async def test_an_origin_that_is_let_in_may_call(front: Front) -> None:
    origin = {"origin": "https://app.example.com"}
    asked = {**origin, "access-control-request-method": "PUT", "access-control-request-headers": "authorization"}
    preflight = await front.client.options("/v1/agents", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin["origin"]
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in preflight.headers
    call = await front.client.get("/v1/agents", headers=origin)
    assert call.headers["access-control-allow-origin"] == origin["origin"]
    refused = await front.client.get("/v1/agents", headers={"origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    rebound = await front.client.get("/v1/agents", headers={**origin, "host": "evil.example"})
    assert rebound.status_code == 421


async def test_no_answer_sets_a_cookie_or_may_be_kept(front: Front) -> None:
    agent = await front.agent()
    answers: list[httpx2.Response] = [
        await front.client.get(f"/v1/agents/{agent['metadata']['id']}"),
        await front.client.get("/v1/agents/none"),
        await front.client.get("/nothing"),
        await front.client.get("/healthz"),
    ]
    for response in answers:
        assert "set-cookie" not in response.headers
        assert response.headers["cache-control"] == "no-store"
        assert "server" not in response.headers
