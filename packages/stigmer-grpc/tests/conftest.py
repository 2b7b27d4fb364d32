"""A small service of every method shape, and real servers for it over each transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc
from loguru import logger
from stigmer_grpc import CallContext, Channel, Server, Service, Stub, bind, default_interceptors, with_request_id
from stigmer_grpc.testing import Transport, channel_to

PROTOS = Path(__file__).parent / "protos"
SERVICE = "lab.v1.Lab"


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> DescriptorPool:
    """The pool of lab.proto, not the default one."""
    out = tmp_path_factory.mktemp("protos") / "lab.binpb"
    compiler: Any = protoc
    included = Path(str(grpc_tools.__file__)).parent / "_proto"
    code = compiler.main(
        ["protoc", f"-I{PROTOS}", f"-I{included}", "--include_imports", f"--descriptor_set_out={out}", "lab.proto"]
    )
    assert code == 0
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool


@pytest.fixture(scope="session")
def note(pool: DescriptorPool) -> Callable[..., Any]:
    """The class of lab.v1.Note."""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("lab.v1.Note"))


@pytest.fixture(params=["tcp", "unix", "in-process"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return request.param


class Lab:
    """Makes servers of the lab service with the handlers a test gives, and what it leaves out as in `HANDLERS`."""

    def __init__(self, pool: DescriptorPool, transport: Transport) -> None:
        self.pool = pool
        self.transport: Transport = transport

    def service(self, **handlers: Any) -> Service:
        return bind(self.pool, SERVICE, {**HANDLERS, **handlers})

    def server(
        self,
        *,
        interceptors: Any = None,
        max_message_bytes: int = 1 << 20,
        upload_idle_seconds: float | None = None,
        **handlers: Any,
    ) -> Server:
        return Server(
            [self.service(**handlers)],
            pool=self.pool,
            interceptors=default_interceptors() if interceptors is None else interceptors,
            max_message_bytes=max_message_bytes,
            upload_idle_seconds=upload_idle_seconds,
        )

    def connected(self, server: Server, **options: Any) -> AbstractAsyncContextManager[Channel]:
        return channel_to(server, self.transport, **options)

    @asynccontextmanager
    async def serve(self, *, metadata: Any = (), **options: Any) -> AsyncGenerator[Stub]:
        async with self.connected(self.server(**options), metadata=metadata, timeout=20) as channel:
            yield channel.service(SERVICE)


@pytest.fixture
def lab(pool: DescriptorPool, transport: Transport) -> Lab:
    return Lab(pool, transport)


@pytest.fixture
def tcp_lab(pool: DescriptorPool) -> Lab:
    return Lab(pool, "tcp")


async def echo(request: Any, context: CallContext) -> Any:
    return request


async def count(request: Any, context: CallContext) -> AsyncIterator[Any]:
    for number in range(request.number):
        yield type(request)(text=request.text, number=number)


async def collect(requests: AsyncIterator[Any], context: CallContext) -> Any:
    received = [request async for request in requests]
    return type(received[0])(text=" ".join(request.text for request in received), number=len(received))


async def relay(requests: AsyncIterator[Any], context: CallContext) -> AsyncIterator[Any]:
    async for request in requests:
        yield request


HANDLERS = {"echo": echo, "count": count, "collect": collect, "relay": relay}


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    """No test leaves a task behind, so none waits for what another one started."""
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(10):
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(left)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """The log records of the test, as loguru's record dicts."""
    records: list[Any] = []
    logger.configure(patcher=with_request_id)
    sink = logger.add(lambda message: records.append(message.record), level="DEBUG", format="{message}")
    yield records
    logger.remove(sink)
    logger.configure(patcher=_leave)


def _leave(record: Any) -> None:
    del record
