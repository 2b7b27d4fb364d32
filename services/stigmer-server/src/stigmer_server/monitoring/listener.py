"""Metrics at a port of their own, for a server that offers no HTTP otherwise, or not to whoever collects them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from stigmer_server.http.listener import Listener, ListenerLimits
from stigmer_server.http.probes import Exposition

HOST = "127.0.0.1"
"""Where it listens: metrics are for whoever works on this machine, and nobody is asked for a token."""


def metrics_listener(exposition: Exposition) -> Listener:
    """Return what serves `GET /metrics` once it is started."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await _response(Request(scope), exposition))(scope, receive, send)

    application: Any = answer
    return Listener(application, ListenerLimits(connections=20))


async def _response(request: Request, exposition: Exposition) -> Response:
    if request.url.path != "/metrics":
        return PlainTextResponse("there is only /metrics here\n", 404)
    if request.method not in ("GET", "HEAD"):
        return PlainTextResponse("metrics are read with GET\n", 405, {"allow": "GET, HEAD"})
    # A page that somebody is made to open must not read them by a name that leads to this machine.
    if request.url.hostname not in (HOST, "localhost"):
        return PlainTextResponse("metrics are for this machine\n", 403)
    content, media_type = await exposition(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
