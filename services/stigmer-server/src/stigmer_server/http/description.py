"""The description of the API at its two addresses: `/openapi.json` for programs and `/docs` for people."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response

from stigmer_server.http.answers import takes_gzip


class Described:
    """Serves a document that is made when first asked for, and kept compressed.

    Args:
        make: Makes the document, in a thread; called once.
        media_type: Of the document.
        headers: Sent with it.
    """

    def __init__(self, make: Callable[[], bytes], media_type: str, headers: Mapping[str, str]) -> None:
        self._make = make
        self._media_type = media_type
        self._headers = {**headers, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
        self._packed = b""
        self._etag = ""

    async def __call__(self, asked: Headers, metadata: Mapping[str, str]) -> Response:
        """Answer with the document, or that the one which the caller has is still good."""
        del metadata
        if not self._packed:
            self._packed, self._etag = await asyncio.to_thread(self._prepare)
        sent = {**self._headers, "etag": self._etag, "vary": "accept-encoding"}
        if self._etag in asked.get("if-none-match", ""):
            return Response(status_code=304, headers=sent)
        if takes_gzip(asked.get("accept-encoding", "")):
            return Response(self._packed, 200, {**sent, "content-encoding": "gzip"}, self._media_type)
        return Response(await asyncio.to_thread(gzip.decompress, self._packed), 200, sent, self._media_type)

    def _prepare(self) -> tuple[bytes, str]:
        text = self._make()
        return gzip.compress(text, mtime=0), f'"{hashlib.sha256(text).hexdigest()[:32]}"'
