"""Puts the HTTP side together from the settings and the server's services, and opens it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from stigmer_grpc import Channel, Service

from stigmer_server.errors import StartupError
from stigmer_server.http.gateway import Gateway, Limits
from stigmer_server.http.hosts import Hosts
from stigmer_server.http.listener import Listener, ListenerLimits, Tls
from stigmer_server.settings import Settings


def gateway(
    settings: Settings,
    channel: Channel,
    services: Sequence[Service],
    kinds: Collection[str],
    *,
    stopping: asyncio.Event,
) -> Gateway:
    """Return the application that answers for the services, calling them through `channel`."""
    hosts = Hosts([*settings.http_hosts, settings.http_host], settings.http_origins)
    limits = Limits(body_bytes=settings.http_max_body_bytes, body_seconds=settings.http_body_timeout_seconds)
    return Gateway(channel, services, kinds, hosts=hosts, limits=limits, stopping=stopping)


async def listen(settings: Settings, application: Gateway, host: str, port: int) -> Listener:
    """Serve the application at an address. Raises: StartupError: the address is taken or cannot be used."""
    limits = ListenerLimits(
        connections=settings.http_max_connections,
        head_seconds=settings.http_head_timeout_seconds,
        write_seconds=settings.http_write_timeout_seconds,
        keep_alive_seconds=settings.http_keep_alive_seconds,
    )
    listener = Listener(application, limits, tls=_tls(settings))
    try:
        await listener.start(host, port)
    except OSError as error:
        msg = f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}"
        raise StartupError(msg) from error
    return listener


def _tls(settings: Settings) -> Tls | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Tls(certificate=settings.tls_certificate, key=settings.tls_key, client_authority=settings.tls_client_ca)
