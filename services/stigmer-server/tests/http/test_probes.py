"""What those ask who look after the server."""

from __future__ import annotations

from stigmer_server.http.testing import Front


async def test_a_server_that_answers_is_alive(front: Front) -> None:
    response = await front.client.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


async def test_a_server_that_answers_is_ready(front: Front) -> None:
    response = await front.client.get("/readyz")
    assert response.json()["ready"] is (response.status_code == 200)


async def test_the_probes_take_no_other_methods(front: Front) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        response = await front.client.post(path, json={})
        assert response.status_code == 405
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"
