"""grpc.health.v1, asked over every transport."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from stigmer_grpc import Channel, NotFoundError, Server, Stub, UnimplementedError
from stigmer_grpc.health import Health
from stigmer_grpc.testing import channel_to

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def health(channel: Channel) -> Stub:
    return channel.service("grpc.health.v1.Health")


@pytest.fixture
def server(pool: Any, lab: Any) -> Server:
    """A server whose clients, too, find health in their pool."""
    assert health_pb2.DESCRIPTOR
    lab_server: Server = lab.server()
    lab_server.pool = descriptor_pool.Default()
    return lab_server


@pytest.fixture
def connected(server: Server, transport: Any) -> AbstractAsyncContextManager[Channel]:
    return channel_to(server, transport)


async def test_the_server_and_its_services_are_serving(server: Server, connected: Any) -> None:
    async with connected as channel:
        stub = health(channel)
        for service in ("", "lab.v1.Lab"):
            assert (await stub.unary("Check", {"service": service})).status == SERVING
        with pytest.raises(NotFoundError, match=r"no service 'lab\.v1\.Nothing'"):
            await stub.unary("Check", {"service": "lab.v1.Nothing"})
        listed = await stub.unary("List", {})
        assert {name: entry.status for name, entry in listed.statuses.items()} == {"": SERVING, "lab.v1.Lab": SERVING}


async def test_a_watcher_sees_each_change_and_the_stop(server: Server, connected: Any) -> None:
    async with connected as channel, asyncio.timeout(10):
        watch = health(channel).stream("Watch", {"service": "lab.v1.Lab"})
        assert (await anext(watch)).status == SERVING
        server.set_serving("lab.v1.Lab", False)
        assert (await anext(watch)).status == NOT_SERVING
        assert (await health(channel).unary("Check", {"service": ""})).status == SERVING
        server.set_serving("lab.v1.Lab")
        assert (await anext(watch)).status == SERVING
        stop = asyncio.ensure_future(server.stop(5))
        assert [answer.status async for answer in watch] == [NOT_SERVING]
        await stop
        server.set_serving("lab.v1.Lab")


async def test_a_watcher_of_an_unknown_service_waits_for_it(server: Server, connected: Any) -> None:
    async with connected as channel, asyncio.timeout(10):
        watch = health(channel).stream("Watch", {"service": "late"})
        assert (await anext(watch)).status == SERVICE_UNKNOWN
        server.set_serving("late")
        assert (await anext(watch)).status == SERVING


async def test_a_server_can_say_it_is_not_ready_yet(server: Server, connected: Any) -> None:
    server.set_serving("", False)
    async with connected as channel:
        assert (await health(channel).unary("Check", {})).status == NOT_SERVING


async def test_health_can_be_left_out(pool: Any, transport: Any) -> None:
    server = Server([], pool=descriptor_pool.Default(), health=False, reflection=False)
    async with channel_to(server, transport) as channel:
        with pytest.raises(UnimplementedError):
            await health(channel).unary("Check", {})


async def test_a_watcher_hears_of_a_stop_that_comes_while_it_is_being_told_something() -> None:
    states = Health(["lab.v1.Lab"])
    watch: Any = states._watch(health_pb2.HealthCheckRequest(service="lab.v1.Lab"), cast("Any", None))
    assert (await anext(watch)).status == SERVING
    states.close()
    assert [answer.status async for answer in watch] == [NOT_SERVING]
