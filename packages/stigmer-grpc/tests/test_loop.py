"""The event loop that programs get."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from stigmer_grpc import run

uvloop = pytest.importorskip("uvloop")


async def _kind() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_run_takes_uvloop() -> None:
    assert run(_kind()) == "uvloop"


def test_install_makes_it_the_kind_of_every_new_loop() -> None:
    code = (
        "import asyncio, stigmer_grpc\n"
        "assert stigmer_grpc.install_uvloop()\n"
        "async def kind(): return type(asyncio.get_running_loop()).__module__\n"
        "assert asyncio.run(kind()) == 'uvloop'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_calls_work_on_uvloop() -> None:
    code = (
        "import stigmer_grpc\n"
        "from google.protobuf import descriptor_pool\n"
        "from stigmer_grpc.testing import serve\n"
        "import grpc_health.v1.health_pb2\n"
        "async def main():\n"
        "    async with serve([], pool=descriptor_pool.Default()) as channel:\n"
        "        answer = await channel.service('grpc.health.v1.Health').unary('Check', {})\n"
        "        assert answer.status == 1\n"
        "stigmer_grpc.run(main())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
