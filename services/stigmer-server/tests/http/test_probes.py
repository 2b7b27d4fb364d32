"""What those ask who look after the server."""

from __future__ import annotations

from stigmer_server.http.testing import Front


async def test_a_server_that_answers_is_alive(front: Front) -> None:
    response = await front.client.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


async def test_a_server_tells_whether_it_is_ready_and_why_not(front: Front) -> None:
    response = await front.client.get("/readyz")
    told = response.json()
    assert told["ready"] is (response.status_code == 200)
    states = {part["name"]: part["state"] for part in told["components"]}
    assert states["store"] == "COMPONENT_STATE_READY"
    assert told == {**(await front.client.get("/v1/server/status")).json(), "ready": told["ready"]}


async def test_a_server_tells_what_it_counts(front: Front) -> None:
    await front.agent()
    response = await front.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert "AgentCommandController" in response.text


async def test_the_probes_take_no_other_methods(front: Front) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        response = await front.client.post(path, json={})
        assert response.status_code == 405
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"
