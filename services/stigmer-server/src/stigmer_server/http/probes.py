"""Whether the server is alive, whether it is ready, and what it counts: for those who look after it.

Who asks whether it is alive or ready needs no token: that tells nothing of any resource. What it counts tells how much
there is, and is for those who are let in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from stigmer_grpc import Channel, RpcError, StatusCode

from stigmer_server.http import answers
from stigmer_server.http.problems import HttpError
from stigmer_server.messages import to_plain

SERVICE = "ai.stigmer.operations.v1.ServerController"

_READY_SECONDS = 5.0
_NO_STORE = {"cache-control": "no-store"}

Exposition = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Returns the metrics as text, and its media type, given what is accepted."""


async def alive(headers: Headers, metadata: Mapping[str, str]) -> Response:
    """Say that the process answers."""
    del headers, metadata
    return Response(b"ok\n", headers=_NO_STORE, media_type="text/plain")


class Ready:
    """Says whether everything that the server needs is there, and of each part how it is.

    Args:
        channel: A trusted one: the question is the server's own.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def __call__(self, headers: Headers, metadata: Mapping[str, str]) -> Response:
        """Answer 200 when it is ready, else 503. Raises: RpcError: it cannot tell."""
        del metadata
        try:
            status = await self._channel.service(SERVICE).unary("getStatus", {}, timeout=_READY_SECONDS)
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            # A server that cannot tell more is ready when it answers at all.
            return await _told({"ready": True}, headers, ready=True)
        return await _told(to_plain(status), headers, ready=status.ready)


async def _told(content: dict[str, Any], asked: Headers, *, ready: bool) -> Response:
    text = orjson.dumps({"ready": ready, **content}, option=orjson.OPT_APPEND_NEWLINE)
    return await answers.content(text, asked, status=200 if ready else 503)


class Metrics:
    """What the server counts, as Prometheus reads it.

    Args:
        exposition: Tells it.
        channel: Lets in those whom the server lets in.
    """

    def __init__(self, exposition: Exposition | None, channel: Channel) -> None:
        self._exposition = exposition
        self._channel = channel

    async def __call__(self, headers: Headers, metadata: Mapping[str, str]) -> Response:
        """Answer with all metrics. Raises: HttpError: there are none. RpcError: the caller is not let in."""
        if self._exposition is None:
            raise HttpError(501, StatusCode.UNIMPLEMENTED, "this server counts nothing")
        # A call that everybody may make who is somebody.
        await self._channel.service(SERVICE).unary("getStatus", {}, timeout=_READY_SECONDS, metadata=metadata)
        text, media_type = await self._exposition(headers.get("accept", ""))
        return await answers.content(text, headers, media_type=media_type)
