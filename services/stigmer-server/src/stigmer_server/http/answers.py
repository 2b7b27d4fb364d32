"""What goes back: JSON text of messages, compressed where that pays, and problems."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from stigmer_grpc import RpcError

from stigmer_server.http.bodies import JSON
from stigmer_server.http.problems import MEDIA_TYPE, HttpError, as_http_error, details_of, problem, to_bytes

_WORTH_COMPRESSING = 1024
_WORTH_A_THREAD = 128 * 1024
_LEVEL = 4
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=([0-9.]+)\s*)?(?:,|$)").search
_FOR_PEOPLE = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def text_of(plain: Any, *, pretty: bool = False, ordered: bool = True) -> bytes:
    """Return JSON text of what it is made of; where its keys have no order, people get them in the alphabet's."""
    if not pretty:
        return orjson.dumps(plain)
    return orjson.dumps(plain, option=_FOR_PEOPLE if ordered else _FOR_PEOPLE | orjson.OPT_SORT_KEYS)


async def content(
    body: bytes,
    asked: Headers,
    *,
    status: int = 200,
    media_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an answer with a body, compressed when the caller takes that and it pays."""
    sent = {**_ALWAYS, **(headers or {}), "vary": "accept-encoding"}
    if len(body) >= _WORTH_COMPRESSING and takes_gzip(asked.get("accept-encoding", "")):
        sent["content-encoding"] = "gzip"
        body = await _compressed(body)
    return Response(body, status, sent, media_type)


def unchanged(headers: Mapping[str, str]) -> Response:
    """Return the answer to who has what it asks for already."""
    return Response(status_code=304, headers={**_ALWAYS, **headers, "vary": "accept-encoding"})


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header admits gzip."""
    found = _GZIP(accepted.lower())
    try:
        return found is not None and float(found[1] or 1) > 0
    except ValueError:
        return False


async def _compressed(body: bytes) -> bytes:
    if len(body) < _WORTH_A_THREAD:
        return gzip.compress(body, _LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)


def told(error: HttpError | RpcError, *, instance: str, request_id: str) -> tuple[HttpError, dict[str, Any]]:
    """Return an error as problem details, with the status and headers that go with them."""
    if isinstance(error, RpcError):
        refused, details = as_http_error(error), details_of(error)
    else:
        refused, details = error, []
    return refused, problem(refused, instance=instance, request_id=request_id, details=details)


def refusal(error: HttpError | RpcError, *, instance: str, request_id: str) -> Response:
    """Return the answer that tells an error."""
    refused, details = told(error, instance=instance, request_id=request_id)
    return Response(to_bytes(details), refused.status, {**_ALWAYS, **refused.headers}, MEDIA_TYPE)
