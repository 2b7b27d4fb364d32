"""A process that speaks gRPC can start others."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BUSY_PARENT = """
import asyncio, os, stigmer_grpc, grpc, grpc.aio, uvloop

async def call(method):
    while True:
        try:
            await method(b"")
        except grpc.aio.AioRpcError:
            pass

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    callers = [asyncio.create_task(call(channel.unary_unary("/a/b"))) for _ in range(10)]
    codes = []
    for _ in range(100):
        child = await asyncio.create_subprocess_exec("true")
        codes.append(await child.wait())
    print(sorted(set(codes)), flush=True)
    os._exit(0)

uvloop.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="gRPC hooks into forks on Linux alone")
def test_no_child_is_lost_while_its_parent_is_busy_with_calls() -> None:
    pytest.importorskip("uvloop")
    done = subprocess.run([sys.executable, "-c", _BUSY_PARENT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[0]\n", done.stderr
