"""grpc.health.v1: is the server, is one of its services, ready for calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2

from stigmer_grpc.binding import Message, Service, bind
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import NotFoundError

NAME = "grpc.health.v1.Health"
_pb: Any = health_pb2
_SERVING: int = _pb.HealthCheckResponse.SERVING
_NOT_SERVING: int = _pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN: int = _pb.HealthCheckResponse.SERVICE_UNKNOWN
_Answer: Any = _pb.HealthCheckResponse


class Health:
    """The state of a server's services, and the service that tells it."""

    def __init__(self, services: Iterable[str]) -> None:
        self._states: dict[str, int] = dict.fromkeys(("", *services), _SERVING)
        self._watchers: set[asyncio.Event] = set()
        self._closed = False

    def set(self, service: str, serving: bool) -> None:
        """Change the state of `service` and tell its watchers; without effect after `close`."""
        if not self._closed:
            self._states[service] = _SERVING if serving else _NOT_SERVING
            self._wake()

    def close(self) -> None:
        """Nothing is serving from here on."""
        self._states = dict.fromkeys(self._states, _NOT_SERVING)
        self._closed = True
        self._wake()

    def service(self) -> Service:
        """The health service."""
        return bind(descriptor_pool.Default(), NAME, {"Check": self._check, "List": self._list, "Watch": self._watch})

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    async def _check(self, request: Message, context: CallContext) -> Message:
        state = self._states.get(request.service)
        if state is None:
            raise NotFoundError(f"this server has no service {request.service!r}")
        return _Answer(status=state)

    async def _list(self, request: Message, context: CallContext) -> Message:
        statuses = {name: _Answer(status=state) for name, state in self._states.items()}
        return _pb.HealthListResponse(statuses=statuses)

    async def _watch(self, request: Message, context: CallContext) -> AsyncIterator[Message]:
        """The state now and after each change; ends when the server stops, having said so."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        told = None
        try:
            while True:
                changed.clear()
                state = self._states.get(request.service, _UNKNOWN)
                if state != told:
                    yield _Answer(status=state)
                    told = state  # and look again: it may have changed while this was sent
                elif self._closed:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers.discard(changed)
