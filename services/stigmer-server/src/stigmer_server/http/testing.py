"""A server that offers HTTP, for tests, and the two ways to it. Needs httpx2, which the server itself does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from stigmer_grpc import Handler, Server, bind, default_interceptors
from stigmer_protos import descriptors

from stigmer_server.http.gateway import Gateway, Limits
from stigmer_server.http.hosts import Hosts
from stigmer_server.http.listener import Listener, ListenerLimits
from stigmer_server.testing import Api, manifest, serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """One server, reached over HTTP and in process."""

    api: Api
    client: httpx2.AsyncClient

    @property
    def port(self) -> int:
        """Where it listens for HTTP on the loopback interface."""
        return int(self.api.app.http_address.rpartition(":")[2])

    async def agent(self, name: str = "Sample", **metadata: Any) -> dict[str, Any]:
        """Create an agent over HTTP and return it as JSON."""
        content = manifest("agent", name, {"instructions": "Answer in one sentence."}, **metadata)
        response = await self.client.post("/v1/agents", json=content)
        response.raise_for_status()
        return response.json()


@asynccontextmanager
async def serve_http(folder: Path, **settings: Any) -> AsyncGenerator[Front]:
    """Open a server on the files of a folder for the length of a block, with HTTP at a free port."""
    async with serve(folder, **settings) as api:
        address = await api.app.serve_http("127.0.0.1", 0)
        async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=30) as client:
            yield Front(api=api, client=client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A few handlers behind the real gateway and the real listener."""

    server: Server
    listener: Listener
    client: httpx2.AsyncClient

    @property
    def port(self) -> int:
        """Where it listens on the loopback interface."""
        return int(self.listener.address.rpartition(":")[2])


@asynccontextmanager
async def serve_handlers(
    handlers: Mapping[str, Mapping[str, Handler]],
    *,
    limits: ListenerLimits | None = None,
    request_limits: Limits | None = None,
    grace: float = 1.0,
) -> AsyncGenerator[Stand]:
    """Serve a test's own handlers, by full name of the service and name of the method, for the length of a block."""
    services = [bind(descriptors.pool(), name, methods) for name, methods in handlers.items()]
    server = Server(services, pool=descriptors.pool(), interceptors=default_interceptors())
    application = Gateway(
        server.channel(timeout=None),
        services,
        [],
        hosts=Hosts([], []),
        limits=request_limits or Limits(),
        stopping=server.stopping,
    )
    listener = Listener(application, limits or ListenerLimits())
    address = await listener.start("127.0.0.1", 0)
    try:
        async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=30) as client:
            yield Stand(server=server, listener=listener, client=client)
    finally:
        await asyncio.gather(server.stop(grace), listener.stop(grace))
