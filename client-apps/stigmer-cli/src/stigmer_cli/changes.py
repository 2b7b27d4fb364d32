"""What a write did to a resource, as the server's audit tells it."""

from __future__ import annotations

from enum import Enum

from stigmer_cli.resources import Message


class Change(Enum):
    """What became of a resource, or would become of it."""

    CREATED = "Created"
    UPDATED = "Updated"
    UNCHANGED = "Unchanged"
    DELETED = "Deleted"


def change_of(written: Message) -> Change:
    """Return what a write did, from the resource that answered it."""
    return _CHANGES.get(written.status.audit.spec_audit.event, Change.UPDATED)


_CHANGES = {
    "created": Change.CREATED,
    "updated": Change.UPDATED,
    "pushed": Change.UPDATED,
    "rolled_back": Change.UPDATED,
    "unchanged": Change.UNCHANGED,
}
