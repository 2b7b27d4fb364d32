"""Who changed a resource, and when: the audit that every status carries at field 99."""

from __future__ import annotations

from stigmer_server.messages import Message

ACTOR = "system"
"""Everybody, as long as the server does not tell callers apart."""


def record_creation(message: Message, now: Message) -> None:
    """Begin the audit of a new resource; both halves say created."""
    for info in (message.status.audit.spec_audit, message.status.audit.status_audit):
        info.Clear()
        info.created_by.id = ACTOR
        info.created_at.CopyFrom(now)
        _touch(info, now, "created")


def record_change(message: Message, now: Message) -> None:
    """Note a change of the spec or metadata; who created it, and when, stays."""
    _touch(message.status.audit.spec_audit, now, "updated")
    _touch(message.status.audit.status_audit, now, "updated")


def record_status_change(message: Message, now: Message) -> None:
    """Note a change of the status alone."""
    _touch(message.status.audit.status_audit, now, "updated")


def _touch(info: Message, now: Message, event: str) -> None:
    info.updated_by.id = ACTOR
    info.updated_at.CopyFrom(now)
    info.event = event
