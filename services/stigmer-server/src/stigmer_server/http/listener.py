"""The HTTP listener: a socket, the server behind it, and its end.

uvicorn does the serving, without its own signals and logs: those are the application's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from loguru import logger
from stigmer_grpc import CertificateFiles

from stigmer_server.http.connections import CONNECTIONS, HEAD_SECONDS, WRITE_SECONDS, protocol_class

KEEP_ALIVE_SECONDS = 75
"""That a connection without a request stays open."""
_AFTERMATH = 1.0
"""Seconds that cancelled requests get to clean up."""
_BACKLOG = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """What connections may take."""

    connections: int = CONNECTIONS
    head_seconds: float = HEAD_SECONDS
    write_seconds: float = WRITE_SECONDS
    keep_alive_seconds: int = KEEP_ALIVE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What to serve TLS with: PEM files."""

    certificate: Path
    key: Path
    client_authority: Path | None = None
    """Lets in only clients with a certificate of it."""


class Listener:
    """Serves an ASGI application at one address, with TLS or in clear."""

    def __init__(self, application: Any, limits: ListenerLimits, *, tls: Tls | None = None) -> None:
        protocol = protocol_class(
            connections=limits.connections, head_seconds=limits.head_seconds, write_seconds=limits.write_seconds
        )
        self._config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            **_tls_options(tls),
        )
        files = None if tls is None else CertificateFiles(tls.certificate, tls.key, tls.client_authority)
        self._server = _Server(self._config, files)
        self._serving: asyncio.Task[None] | None = None
        self.address = ""
        """Where it listens, `host:port` with the real port; empty before `start`."""

    async def start(self, host: str, port: int) -> str:
        """Listen, answer from here on, and return the address with its real port. Raises: OSError: it cannot be had."""
        listening = await _bind(host, port)
        self.address = f"{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        _silence()
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="HTTP listener")
        begun = asyncio.create_task(self._server.begun.wait())
        await asyncio.wait({self._serving, begun}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            begun.cancel()
            await self._serving
        logger.info("serving HTTP at {}", self.address)
        return self.address

    async def stop(self, grace: float) -> None:
        """Take no more connections, let requests end, cancel the rest, and close.

        Requests get `grace` seconds and a little more: their calls are given up after `grace`, and they tell that.
        """
        if self._serving is None:
            return
        self._config.timeout_graceful_shutdown = grace + _AFTERMATH  # type: ignore[assignment] - it is handed to asyncio as it is
        self._server.should_exit = True
        await self._serving
        state = self._server.server_state
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=_AFTERMATH)
        for connection in tuple(state.connections):
            connection.transport.abort()
        self._serving = None
        logger.info("stopped serving HTTP at {}", self.address)


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    options: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    if tls.client_authority is not None:
        options |= {"ssl_ca_certs": str(tls.client_authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, files: CertificateFiles | None) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self._files = files

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.ssl is not None:
            self.config.ssl.sni_callback = self._greet
            self._certified = self.config.ssl
        await super().startup(sockets)
        self.begun.set()

    def _greet(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Have who connects served with the certificate that is in the files now."""
        del name, context
        if self._files is not None and self._files.renewed():
            renewed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            renewed.load_cert_chain(self._files.certificate, self._files.key)
            self._certified = renewed
        connection.context = self._certified


async def _bind(host: str, port: int) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    listening = socket.create_server(address, family=family, backlog=_BACKLOG)
    # Connections inherit it. An event loop sets it itself only for sockets that say that they are TCP, as these do not.
    # Without it an answer in two pieces takes 40 milliseconds: the second one waits for word of the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _ToLoguru(logging.Handler):
    """Hands on what uvicorn says: about requests that are no HTTP, which say more of their senders than of us."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.debug("HTTP: {}", record.getMessage())


def _silence() -> None:
    for name in ("uvicorn.error", "uvicorn.access"):
        log = logging.getLogger(name)
        log.propagate = False
        if not any(isinstance(handler, _ToLoguru) for handler in log.handlers):
            log.addHandler(_ToLoguru())
