"""PATCH: some fields of a resource changed by a JSON merge patch (RFC 7396), as one read and one update.

The update is based on the version that was read, so a change in between is not overwritten: it is ABORTED, and the
patch may be sent again. Secrets are read masked, and the mask sent back keeps them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from stigmer_grpc import FieldViolation, InvalidArgumentError

from stigmer_server.http import etags
from stigmer_server.http.bodies import check_json
from stigmer_server.http.exchange import Exchange
from stigmer_server.http.proto_json import parse_json, spellings
from stigmer_server.messages import Message, to_plain

MEDIA_TYPE = "application/merge-patch+json"


async def patch(
    exchange: Exchange, trailers: dict[str, str | bytes], *, versions: frozenset[str] = frozenset()
) -> Message:
    """Read the resource of a request, change it by the patch in the body, and return what the update answers.

    `versions`: those to one of which the patch is to apply; none: to whatever is there.

    Raises:
        RpcError: One of the two calls failed.
        InvalidArgumentError: The body is no patch of such a resource.
        HttpError: The body is not to be had.
        GoneError: The caller is gone.
    """
    route = exchange.route.through
    assert route is not None  # noqa: S101 - so it is in the table
    check_json(exchange.body)
    changes = parse_json(await exchange.body.read())
    if not isinstance(changes, dict):
        message = "a patch of a resource is an object"
        raise InvalidArgumentError(message, [FieldViolation("", "json.type", message)])
    finder = replace(exchange, route=route)
    present = to_plain(await finder.unary(finder.build(None), {}))
    descriptor = exchange.route.method.descriptor.input_type
    changed = merge(present, _renamed(changes, descriptor))
    request = exchange.build(changed)
    if versions:
        etags.require(versions, request)
    return await exchange.unary(request, trailers)


def merge(target: Any, changes: Any) -> Any:
    """Return the target with changes made to it, as RFC 7396 has them: null takes a member away."""
    if not isinstance(changes, dict):
        return changes
    kept: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, Any]", changes).items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = merge(kept.get(name), value)
    return kept


def _renamed(changes: Any, descriptor: Any) -> Any:
    """Return changes with the names of fields spelled as answers spell them, so that they meet what is there."""
    if not isinstance(changes, dict) or descriptor is None or descriptor.full_name.startswith("google.protobuf."):
        return cast("Any", changes)
    entries = cast("dict[str, Any]", changes)
    if descriptor.GetOptions().map_entry:
        inner = descriptor.fields_by_name["value"].message_type
        return {name: _renamed(value, inner) for name, value in entries.items()}
    fields = spellings(descriptor)
    return {
        (fields[name].json_name if name in fields else name): _renamed(
            value, fields[name].message_type if name in fields else None
        )
        for name, value in entries.items()
    }
