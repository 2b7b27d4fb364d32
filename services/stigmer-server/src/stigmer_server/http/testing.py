"""A server that offers HTTP, for tests, and the two ways to it. Needs httpx, which the server itself does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stigmer_server.testing import Api, manifest, serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """One server, reached over HTTP and in process."""

    api: Api
    client: httpx.AsyncClient

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
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as client:
            yield Front(api=api, client=client)
