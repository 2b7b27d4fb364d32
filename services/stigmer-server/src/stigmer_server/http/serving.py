"""Puts the HTTP side together from the settings and the server's services, and opens it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import orjson
from starlette.middleware.cors import CORSMiddleware
from stigmer_grpc import Channel, Service

from stigmer_server.errors import StartupError
from stigmer_server.http import docs_page
from stigmer_server.http.bodies import JSON
from stigmer_server.http.description import Described
from stigmer_server.http.gateway import Gateway, Limits
from stigmer_server.http.hosts import Hosts
from stigmer_server.http.listener import Listener, ListenerLimits, Tls
from stigmer_server.http.openapi import document
from stigmer_server.http.probes import Exposition, Metrics, Ready, alive
from stigmer_server.settings import Settings

_TOLD_TO_PAGES = ["etag", "location", "retry-after", "x-next-page-token", "x-request-id"]


def gateway(
    settings: Settings,
    channel: Channel,
    services: Sequence[Service],
    kinds: Collection[str],
    *,
    own_channel: Channel,
    exposition: Exposition | None = None,
    stopping: asyncio.Event,
) -> Any:
    """Return the application that answers for the services.

    Args:
        settings: Of the server.
        channel: Carries the calls of those who ask.
        services: What the server serves.
        kinds: Names of the kinds whose resources it keeps.
        own_channel: Carries the server's own calls.
        exposition: Tells the server's metrics.
        stopping: Set when the server begins to stop.
    """
    application = Gateway(
        channel,
        services,
        kinds,
        hosts=Hosts([*settings.http_hosts, settings.http_host], settings.http_origins),
        limits=Limits(body_bytes=settings.http_max_body_bytes, body_seconds=settings.http_body_timeout_seconds),
        stopping=stopping,
        pages={"/healthz": alive, "/readyz": Ready(own_channel), "/metrics": Metrics(exposition, channel)},
    )
    application.add_page("/openapi.json", Described(lambda: _document(application), JSON, {}))
    application.add_page("/docs", Described(lambda: _docs(application), "text/html", docs_page.HEADERS))
    if not settings.http_origins:
        return application
    # Without credentials: a page that may call has a token of its own to send.
    return CORSMiddleware(
        application,
        allow_origins=settings.http_origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=_TOLD_TO_PAGES,
    )


def _document(application: Gateway) -> bytes:
    return orjson.dumps(document(application.routes))


def _docs(application: Gateway) -> bytes:
    return docs_page.page(document(application.routes)).encode()


async def listen(settings: Settings, application: Any, host: str, port: int) -> Listener:
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
