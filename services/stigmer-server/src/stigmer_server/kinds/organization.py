"""Organization: what resources belong to. It belongs to itself, so that whoever sees its resources sees it."""

from __future__ import annotations

from stigmer_server.access.roles import Role
from stigmer_server.errors import DeniedError, InvalidError
from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message
from stigmer_server.unit import Unit

_LONGEST_SLUG = 63
"""Characters, as the contract says of a slug that is given; one that is made of the name is no longer either."""


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    if stored is None and unit.call.caller.role is not Role.OPERATOR:
        msg = f"{unit.call.caller.id} belongs to one organization; others are the operator's to make"
        raise DeniedError(msg)
    if stored is None and len(message.metadata.slug) > _LONGEST_SLUG:
        problem = f"a slug has at most {_LONGEST_SLUG} characters: give a shorter metadata.slug"
        raise InvalidError.of("metadata.slug", "metadata.slug.length", problem)


KIND = Kind(name="organization", is_tenant=True, settle=_settle)
