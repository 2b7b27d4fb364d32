"""Where HTTP is offered: as the settings say, and not at the cost of what was there before."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from stigmer_server import app as app_module
from stigmer_server.errors import StartupError
from stigmer_server.http import listener
from stigmer_server.http.testing import Front
from stigmer_server.testing import free_port, serve


def taken() -> closing[socket.socket]:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    return closing(holder)


async def test_a_port_that_was_asked_for_must_be_free(tmp_path: Path) -> None:
    with taken() as other:
        port = other.getsockname()[1]
        async with serve(tmp_path, http_port=port) as api:
            with pytest.raises(StartupError, match=str(port)):
                await api.app.serve_http()
            assert api.app.http_address == ""


async def test_the_usual_port_is_left_to_whoever_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken() as other:
        monkeypatch.setattr(app_module, "HTTP_PORT", other.getsockname()[1])
        async with serve(tmp_path) as api:
            assert await api.app.serve_http() == ""
    monkeypatch.setattr(app_module, "HTTP_PORT", free_port())
    async with serve(tmp_path) as api:
        address = await api.app.serve_http()
        async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/healthz")).status_code == 200


async def test_http_can_be_off(tmp_path: Path) -> None:
    async with serve(tmp_path, http_port="off") as api:
        assert await api.app.serve_http() == ""


async def test_other_loopback_addresses_are_served(tmp_path: Path) -> None:
    async with serve(tmp_path, http_host="127.0.0.2") as api:
        address = await api.app.serve_http(port=0)
        assert address.startswith("127.0.0.2:")
        async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/v1/agents")).status_code == 200


async def test_noise_harms_nobody(front: Front) -> None:
    noise = random.Random(11)
    begun = b"POST /v1/agents HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"

    async def shout(content: bytes) -> None:
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
                with closing(writer):
                    writer.write(content)
                    writer.write_eof()
                    assert (await reader.read())[:12] not in (b"HTTP/1.1 500", b"HTTP/1.1 200", b"HTTP/1.1 201")
        except (ConnectionError, TimeoutError):
            return

    for _ in range(40):
        sent = noise.randbytes(noise.randrange(1, 400))
        torn = begun + b"content-length: %d\r\n\r\n" % noise.randrange(1, 300) + sent
        await asyncio.gather(shout(sent), shout(b"GET /" + sent), shout(begun + sent), shout(torn))
    assert (await front.client.get("/v1/agents")).json() == {}


async def test_connections_send_what_there_is_at_once() -> None:
    """Otherwise an answer in pieces waits for its reader's word of the first one, on some event loops."""
    listening = await listener._bind("127.0.0.1", 0)
    with listening, socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
