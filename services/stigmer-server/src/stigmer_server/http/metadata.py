"""Between the headers of HTTP and the metadata of calls: what is handed on, both ways."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from random import getrandbits

from starlette.datastructures import Headers
from stigmer_grpc import FORWARDED_PEER, FieldViolation, StatusCode
from stigmer_grpc.errors import REQUEST_ID

from stigmer_server.http.problems import HttpError

TIMEOUT = "grpc-timeout"
"""Request header: how long the caller waits, as gRPC writes it: digits and one of H M S m u n."""
DRY_RUN = "x-stigmer-dry-run"
FORCE = "x-stigmer-force"
IDEMPOTENCY_KEY = "x-stigmer-idempotency-key"

_HANDED_ON = frozenset({"authorization", "traceparent", "tracestate", "baggage"})
_PREFIX = "x-stigmer-"
_ONCE = frozenset({"authorization", "host", "content-type", "content-length", "last-event-id", TIMEOUT})
_ACCEPTABLE_ID = re.compile(r"[!-~]{1,128}").fullmatch
_TEXT = re.compile(r"[ -~]*").fullmatch
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])").fullmatch
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def check_headers(headers: Headers) -> None:
    """Refuse what could be understood in two ways. Raises: HttpError."""
    names = [name for name, _ in headers.raw]
    for name in _ONCE:
        if names.count(name.encode()) > 1:
            raise _bad(name, "header.twice", "may be given only once")


def request_id(headers: Headers) -> str:
    """Return the id that the caller gave the request, if it can be one, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _ACCEPTABLE_ID(given) else f"{getrandbits(64):016x}"


def call_metadata(headers: Headers, id: str, client: tuple[str, int] | None) -> dict[str, str]:
    """Return the metadata of the call that a request makes.

    Args:
        headers: The request's.
        id: The request's id.
        client: Address and port that the request came from; said in the metadata, whatever the headers say.

    Raises:
        HttpError: A header that is handed on has characters that metadata cannot carry.
    """
    metadata = {REQUEST_ID: id}
    if client is not None:
        host, port = client
        metadata[FORWARDED_PEER] = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    for name, value in headers.items():
        if name in _HANDED_ON or (name.startswith(_PREFIX) and name != FORWARDED_PEER):
            if name.endswith("-bin"):
                raise _bad(name, "header.binary", "binary metadata cannot be given as a header")
            if not _TEXT(value):
                raise _bad(name, "header.ascii", "must be printable ASCII")
            metadata[name] = f"{metadata[name]}, {value}" if name in metadata else value
    return metadata


def timeout(headers: Headers) -> float:
    """Return how many seconds the caller waits; infinity when it does not say. Raises: HttpError."""
    text = headers.get(TIMEOUT)
    if text is None:
        return math.inf
    found = _TIMEOUT(text)
    if found is None:
        raise _bad(TIMEOUT, "header.timeout", "expected up to eight digits and one of H M S m u n, such as 5S")
    return int(found[1]) * _UNITS[found[2]]


def answer_headers(trailers: Mapping[str, str | bytes]) -> dict[str, str]:
    """Return the trailing metadata of a call as headers: what is text and of ours."""
    return {
        name: value
        for name, value in trailers.items()
        if isinstance(value, str) and not name.startswith(("grpc-", ":"))
    }


def _bad(name: str, rule: str, message: str) -> HttpError:
    violation = FieldViolation(name, rule, message)
    return HttpError(400, StatusCode.INVALID_ARGUMENT, f"header {name}: {message}", violations=(violation,))
