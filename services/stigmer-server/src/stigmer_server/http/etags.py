"""Entity tags: a resource is sent again only if it is another, and changed only if it is the one that was read.

A tag is `"VERSION-HASH"`: the version of spec and metadata, by which changes are told to be based on what is there, and
a hash of the whole resource, with its status, by which answers are told apart.
"""

from __future__ import annotations

import hashlib
import re

from stigmer_grpc import StatusCode

from stigmer_server.http.exchange import Exchange
from stigmer_server.http.problems import HttpError
from stigmer_server.messages import Message

_HASH_BYTES = 10
_READS = frozenset({"get", "getByReference"})
_UPDATE = "update"
_TAGS = re.compile(r'\s*(?:W/)?"([\x21\x23-\x7e]*)"\s*(?:,|$)')
_ANY = "*"


def tag_of(exchange: Exchange, answer: Message) -> str:
    """Return the tag of the resource that an answer is; "" where it is none that was read or updated."""
    if exchange.route.is_rpc or exchange.route.method.name not in (*_READS, _UPDATE):
        return ""
    if exchange.is_dry or "metadata" not in answer.DESCRIPTOR.fields_by_name:
        return ""
    wire = answer.SerializeToString(deterministic=True)
    return f'"{answer.metadata.version.id}-{hashlib.blake2b(wire, digest_size=_HASH_BYTES).hexdigest()}"'


def is_known(exchange: Exchange, tag: str) -> bool:
    """Tell whether the caller has what it asks for already."""
    asked = exchange.headers.get("if-none-match", "")
    if not tag or exchange.route.method.name not in _READS or not asked:
        return False
    return asked.strip() == _ANY or tag.strip('"') in _TAGS.findall(asked)


def wanted_versions(exchange: Exchange) -> frozenset[str]:
    """Return the versions to one of which the request is to apply; none: to whatever is there.

    Raises:
        HttpError: The request is no update, so that it would not be seen to.
    """
    asked = exchange.headers.get("if-match", "").strip()
    if not asked or exchange.route.is_rpc:
        return frozenset()
    if exchange.route.method.name != _UPDATE:
        message = "if-match is for updates: PUT or PATCH of a resource by its id"
        raise HttpError(400, StatusCode.INVALID_ARGUMENT, message)
    if asked == _ANY:
        return frozenset()
    # What is no tag of ours is that of no version there ever was.
    return frozenset(tag.partition("-")[0] for tag in _TAGS.findall(asked)) or frozenset({""})


def require(versions: frozenset[str], request: Message) -> None:
    """Have an update apply to one of the versions and to no other, which the server sees to as it writes.

    Raises:
        HttpError: What the request itself is based on is none of them.
    """
    version = request.metadata.version
    if version.id and version.id not in versions:
        raise outdated(f"this is based on version {version.id}, and if-match names another")
    if not version.id:
        # Several would be a list of what the caller has; only the newest of them can be there still.
        version.id = max(versions, key=lambda each: (len(each), each)) or "0"


def outdated(message: str) -> HttpError:
    """Return the error of an update of what is no longer there."""
    return HttpError(412, StatusCode.ABORTED, message)
