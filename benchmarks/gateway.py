"""What a call costs over HTTP, beside the same call over gRPC and beside an answer of uvicorn's that does nothing.

The server and the bare application run in processes of their own on uvloop and answer the same client, round by round
in turn. The client speaks HTTP by hand and gRPC in bytes, so that little of what is measured is its own; of what
remains, grpc.aio's part is the larger one. (A file called http.py would stand before Python's own module of the name.)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc.aio
import httpx2
from _report import Row, print_rows
from loguru import logger
from stigmer_grpc import run
from stigmer_protos.descriptors import message_type
from stigmer_server.testing import free_port, manifest

CONCURRENCY = 50
QUERIES = "ai.stigmer.agentic.agent.v1.AgentQueryController"


async def serve_bare(port: int) -> None:
    import uvicorn

    body = sys.stdin.buffer.readline().strip()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(application, port=port, http="httptools", lifespan="off", log_config=None, access_log=False)
    await uvicorn.Server(config).serve()


class Client(asyncio.Protocol):
    """Makes one request after the other on one connection, until there were enough."""

    def __init__(self, request: bytes, count: int, done: asyncio.Future[None]) -> None:
        self._request, self._left, self._done = request, count, done
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self._done.set_result(None)


async def requests_per_second(port: int, path: str, count: int) -> float:
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    started = perf_counter()
    waiting: list[asyncio.Future[None]] = []
    for _ in range(CONCURRENCY):
        done: asyncio.Future[None] = loop.create_future()
        waiting.append(done)
        await loop.create_connection(lambda done=done: Client(request, count // CONCURRENCY, done), "127.0.0.1", port)
    await asyncio.gather(*waiting)
    return count / (perf_counter() - started)


async def calls_per_second(call: Any, request: bytes, count: int) -> float:
    async def loop() -> None:
        for _ in range(count // CONCURRENCY):
            await call(request)

    started = perf_counter()
    await asyncio.gather(*(loop() for _ in range(CONCURRENCY)))
    return count / (perf_counter() - started)


@asynccontextmanager
async def child(*command: str, told: bytes = b"", **variables: str) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(told)
        process.stdin.close()
        yield
    finally:
        process.terminate()
        await process.wait()


async def reachable(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def measure(rounds: int, count: int) -> list[Row]:
    grpc_port, http_port, bare_port = free_port(), free_port(), free_port()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = child(
            "-m", "stigmer_server",
            DB_PATH=f"{folder}/stigmer.db", STORAGE_PATH=f"{folder}/storage", LOG_LEVEL="error",
            GRPC_PORT=str(grpc_port), STIGMER_HTTP_PORT=str(http_port),
            TEMPORAL_HOST_PORT=f"127.0.0.1:{free_port()}",
        )  # fmt: skip
        await stack.enter_async_context(server)
        await reachable(http_port)
        agent = manifest("agent", "Notes", {"instructions": "Write short, plain release notes. " * 20})
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{http_port}", timeout=60) as client:
            made = await client.post("/v1/agents", json=agent)
            made.raise_for_status()
        agent_id = made.json()["metadata"]["id"]
        bare = child(str(Path(__file__)), "--bare", str(bare_port), told=made.content + b"\n")
        await stack.enter_async_context(bare)
        await reachable(bare_port)
        channel: Any = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}"))
        call = channel.unary_unary(f"/{QUERIES}/get")
        request: bytes = message_type("ai.stigmer.agentic.agent.v1.AgentId")(value=agent_id).SerializeToString()
        rates: dict[str, list[float]] = {"http": [], "grpc": [], "bare": []}
        for number in range(rounds + 1):
            measured = {
                "http": await requests_per_second(http_port, f"/v1/agents/{agent_id}", count),
                "grpc": await calls_per_second(call, request, count),
                "bare": await requests_per_second(bare_port, "/", count),
            }
            if number:  # the first round only warms up
                for name, rate in measured.items():
                    rates[name].append(rate)
    http, wire, plain = (statistics.median(rates[name]) for name in ("http", "grpc", "bare"))
    name = f"get of an agent, {len(made.content)} bytes of JSON"
    return [
        Row(name=name, ours=http, peer_name="the same over gRPC", peer=wire, unit="calls/s", limit=0.5, at_least=True),
        Row(name=name, ours=http, peer_name="bare uvicorn", peer=plain, unit="calls/s", limit=0.05, at_least=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of half a minute")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        run(serve_bare(options.bare))
        return
    logger.remove()
    rounds, count = (5, 1_000) if options.quick else (21, 2_000)
    print_rows("gateway", run(measure(rounds, count)))


if __name__ == "__main__":
    main()
