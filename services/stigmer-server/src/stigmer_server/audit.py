"""Who changed a resource, and when: the audit that every status carries at field 99."""

from __future__ import annotations

from stigmer_server.messages import Message


def record_creation(message: Message, actor: str, now: Message) -> None:
    """Begin the audit of a new resource; both halves say created."""
    info = message.status.audit.spec_audit
    info.Clear()
    info.created_by.id = actor
    info.created_at.CopyFrom(now)
    _touch(info, actor, now, "created")
    message.status.audit.status_audit.CopyFrom(info)


def record_change(message: Message, actor: str, now: Message) -> None:
    """Note a change of the spec or metadata; who created it, and when, stays."""
    _touch(message.status.audit.spec_audit, actor, now, "updated")
    _touch(message.status.audit.status_audit, actor, now, "updated")


def record_status_change(message: Message, actor: str, now: Message) -> None:
    """Note a change of the status alone."""
    _touch(message.status.audit.status_audit, actor, now, "updated")


def say_unchanged(answer: Message) -> None:
    """Say in an answer that neither spec nor metadata was written; what is stored still says what last was."""
    answer.status.audit.spec_audit.event = "unchanged"


def _touch(info: Message, actor: str, now: Message, event: str) -> None:
    info.updated_by.id = actor
    info.updated_at.CopyFrom(now)
    info.event = event
