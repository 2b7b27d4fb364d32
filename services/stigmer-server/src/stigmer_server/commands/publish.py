"""Publish events of an organization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from stigmer_protos import descriptors
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import Record

from stigmer_server import cloud_events, drafts
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.tokens import EVENTS, Tokens
from stigmer_server.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of published events."""

    accepted: int
    """How many are new."""
    duplicates: int
    """How many were known already, by source and id."""
    resume_token: str
    """Where a subscriber goes on after them."""
    ids: tuple[str, ...]
    """The id of each, in order; of those that had none, the one that was made."""


async def publish(resources: Resources, org: str, events: Sequence[Message], *, checked: bool = False) -> Published:
    """Store events, all of them or none; once this has returned they are durable and on their way to subscribers.

    An event whose source and id an event of the organization has already is not taken again, whatever else is in it,
    as long as that one is kept. Events that are published together follow each other in their order.

    Args:
        org: Slug of the organization whose events they are.
        events: `ai.stigmer.events.v1.CloudEvent` messages; they are not changed.
        checked: Whether the contract's rules were held against them already.

    Raises:
        InvalidError: An event breaks a rule of the contract or of CloudEvents; names every one, such as
            `events[2].source`. Nothing was stored.
        DeniedError: The caller may not publish to the organization.
    """
    resources.call.caller.confine(org)
    if not checked:
        drafts.check_rules(_request(org, events))
    completed = [cloud_events.completed(event, f"events[{at}]") for at, event in enumerate(events)]
    records = [cloud_events.record_of(org, event) for event in completed]

    def work(unit: Unit) -> tuple[int, int]:
        begin_log(unit, org)
        accepted, last = 0, 0
        for record in records:
            known = unit.transaction.find(cloud_events.EVENT, org_id=org, slug=record.slug)
            accepted += known is None
            last = max(last, (known or unit.transaction.save(record, expected=0)).position)
        return accepted, last

    accepted, last = await resources.transact(work)
    tokens = Tokens(await resources.store.identity())
    return Published(
        accepted=accepted,
        duplicates=len(records) - accepted,
        resume_token="" if resources.call.dry_run else tokens.encode(EVENTS, last),
        ids=tuple(event.id for event in completed),
    )


def _request(org: str, events: Sequence[Message]) -> Message:
    request: Message = descriptors.message_type("ai.stigmer.events.v1.PublishEventsRequest")(org=org)
    request.events.extend(events)
    return request


def begin_log(unit: Unit, org: str) -> None:
    """Make sure that it is known that the organization has events."""
    id = cloud_events.log_id(org)
    try:
        unit.transaction.get(cloud_events.LOG, id)
    except NotFoundError:
        data = orjson.dumps({"dropped": 0}).decode()
        unit.transaction.save(Record(kind=cloud_events.LOG, id=id, org_id=org, data=data), expected=0)
