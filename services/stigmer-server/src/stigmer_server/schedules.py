"""When workflows start by themselves: what their definitions say, and what has come of it.

A workflow whose definition has a schedule has one record, written in the transaction that stores the workflow. What
time starts is kept by Temporal, which the record is told to (`schedule_timers`); what events start is found by
following them (`schedule_events`). Both end here: an execution is made in one transaction with the note that it was,
and by an id that is made from the moment, so once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict
from pydantic import TypeAdapter
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import KindSchema, Query, Reader, Record, ResourceStore

from stigmer_server import naming
from stigmer_server.errors import MissingError, ServerError
from stigmer_server.messages import Message
from stigmer_server.transitions import Phase

if TYPE_CHECKING:
    from stigmer_server.unit import Unit

DEPTH = "stigmer.ai/call-depth"
"""Label of an execution that others started, by running its workflow or by an event: how many did, one the next."""
SCHEMA = KindSchema(kind="workflow_schedule", named=False)
"""The store's kind of schedules; no resources, for they are parts of their workflows."""
_EVENT = "cloud_event"
"""The store's kind of events."""
_ORGANIZATION = 2
"""ApiResourceOwnerScope.organization."""
_MOST_ERROR = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a definition says."""

    cron: str = ""
    every: float = 0
    """Seconds; 0: not so."""
    after: float = 0
    """Seconds after the end of an execution; 0: not so."""
    on: dict[str, Any] | None = None
    """The events: `strategy`, the prepared `filters`, and the condition `until`."""
    read: str = "data"
    triggers: tuple[str, ...] = ()
    """The same for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A moment that has been decided on."""

    key: str
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The schedule of one workflow."""

    workflow: str
    org: str
    name: str
    plan: Plan
    paused: bool = False
    reason: str = ""
    gone: bool = False
    """Whether the workflow has none any more; Temporal may have to be told yet."""
    due: Due | None = None
    """When an execution that has ended is followed by the next."""
    place: int = 0
    """The place in the order of events up to which they were heard."""
    groups: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Events that were heard and are not enough yet."""
    stirred: int = 0
    """Counts how often there was word of events."""
    started: int = 0
    last_execution: str = ""
    last_at: float = 0
    error: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it starts anything now."""
        return not (self.paused or self.gone)


def id_of(workflow: str) -> str:
    """Return the id of a workflow's record."""
    return f"schedule/{workflow}"


def find(reader: Reader, workflow: str) -> Schedule | None:
    """Return the schedule of a workflow, if it has, or had, one."""
    try:
        return decoded(reader.get(SCHEMA.kind, id_of(workflow)).data)
    except NotFoundError:
        return None


def require(reader: Reader, workflow: str) -> Schedule:
    """Return the schedule that a workflow has. Raises: MissingError."""
    found = find(reader, workflow)
    if found is None or found.gone:
        raise MissingError.of("Schedule of workflow", workflow)
    return found


def save(unit: Unit, schedule: Schedule) -> Schedule:
    """Store a schedule, and return it."""
    data = _codec.dump_json(schedule).decode()
    unit.transaction.save(Record(kind=SCHEMA.kind, id=id_of(schedule.workflow), org_id=schedule.org, data=data))
    return schedule


def settle(unit: Unit, workflow: Message, plan: Plan | None) -> None:
    """See to it that a workflow has the schedule of its definition; it is stored in the same transaction."""
    id, metadata = workflow.metadata.id, workflow.metadata
    known = find(unit.reader, id)
    if plan is None:
        if known is not None and not known.gone:
            remove(unit, id)
        return
    if known is not None and (known.plan, known.name, known.gone) == (plan, metadata.slug, False):
        return
    place = newest(unit.reader, metadata.org)
    made = Schedule(workflow=id, org=metadata.org, name=metadata.slug, plan=plan, place=place)
    if known is not None:
        same = known.plan.on == plan.on and not known.gone
        made = replace(
            known,
            name=metadata.slug,
            plan=plan,
            gone=False,
            due=known.due if plan.after else None,
            place=known.place if same else place,
            groups=known.groups if same else [],
        )
    save(unit, made)


def remove(unit: Unit, workflow: str) -> None:
    """End the schedule of a workflow."""
    known = find(unit.reader, workflow)
    if known is not None and not known.gone:
        save(unit, replace(known, gone=True, due=None, groups=[]))
        from stigmer_server import event_listeners

        event_listeners.drop(unit.transaction, id_of(workflow))


def ended(unit: Unit, execution: Message, phase: Phase, recoveries: int) -> None:
    """Decide when an execution that has ended well or badly is followed by the next; who stops one stops them all."""
    if phase not in (Phase.COMPLETED, Phase.FAILED):
        return
    schedule = find(unit.reader, execution.spec.workflow_id)
    if schedule is not None and schedule.is_active and schedule.plan.after:
        key = f"after/{execution.metadata.id}/{recoveries}"
        save(unit, replace(schedule, due=Due(key=key, at=time.time() + schedule.plan.after)))


def start(
    unit: Unit, schedule: Schedule, *, key: str, trigger: str, at: str, data: Any = None, depth: int = 0
) -> Schedule:
    """Make the execution of a moment, once, and note that; or why it cannot be made.

    Args:
        unit: The transaction.
        schedule: The schedule, which is stored.
        key: Names the moment.
        trigger: `cron`, `every`, `after`, `on` or `manual`.
        at: The moment, RFC 3339.
        data: The input.
        depth: How many runs started one another down to this one.
    """
    kind = unit.kinds["workflow_execution"]
    id = execution_id(schedule.workflow, key)
    if unit.is_taken(kind.name, id):
        return replace(schedule, last_execution=id, error="")
    from stigmer_server import drafts

    message = kind.type(api_version=kind.described.api_version, kind=kind.title)
    message.metadata.name = f"{schedule.name} {at}"[:100].strip()
    message.metadata.id = message.metadata.slug = id
    message.metadata.org = schedule.org
    message.metadata.owner_scope = _ORGANIZATION
    message.spec.workflow_id = schedule.workflow
    message.spec.trigger_metadata.update({"trigger": "schedule", "schedule": trigger, "scheduled_at": at})
    if depth:
        message.metadata.labels[DEPTH] = str(depth)
    if data is not None:
        ParseDict(data, message.spec.input)
    try:
        drafts.check_rules(message)
        drafts.insert(kind, message, unit.within(schedule.org))
    except ServerError as error:
        return note_error(unit, schedule, str(error))
    return save(
        unit,
        replace(schedule, started=schedule.started + 1, last_execution=id, last_at=time.time(), error=""),
    )


def note_error(unit: Unit, schedule: Schedule, error: str) -> Schedule:
    """Note why nothing was started."""
    return save(unit, replace(schedule, error=error[:_MOST_ERROR]))


def execution_id(workflow: str, key: str) -> str:
    """Return the id of the execution that a moment starts."""
    digest = hashlib.blake2b(f"{workflow}\0{key}".encode(), digest_size=16).digest()
    return f"wex-{naming.ulid_of(int.from_bytes(digest))}"


def newest(reader: Reader, org: str) -> int:
    """Return the place of the newest event of an organization."""
    records = reader.list(Query(kind=_EVENT, org_id=org, limit=1)).records
    return records[0].position if records else 0


def stir(unit: Unit, workflow: str) -> None:
    """Say that there are events that a schedule may want."""
    schedule = find(unit.reader, workflow)
    if schedule is not None and not schedule.gone:
        save(unit, replace(schedule, stirred=schedule.stirred + 1))


async def all_of(store: ResourceStore) -> AsyncIterator[Schedule]:
    """Yield every schedule, also those that are gone."""
    query = Query(kind=SCHEMA.kind, newest_first=False, limit=200)
    async for record in stored_records(store, query):
        yield decoded(record.data)


def decoded(data: str | bytes) -> Schedule:
    """Return the schedule that is stored so."""
    return _codec.validate_json(data)


_codec = TypeAdapter(Schedule)
