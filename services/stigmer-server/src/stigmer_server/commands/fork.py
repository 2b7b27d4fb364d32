"""Fork a session: go on with a conversation from a message on, beside the session that it was said in."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import Query

from stigmer_server import drafts, files
from stigmer_server.commands.create import answered, store
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit, assign_id, wire_of

_EXECUTION = "agent_execution"
_SAID = (1, 2)
"""MessageType: of a person, and of the agent. The others are the runner's own, and the model never sees them."""
_KEY = "message_id"
_PAGE = 4
"""Executions that are read at a time: each is whole, and some are long."""


async def fork(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Store a new session that goes on from a place in the conversation of another.

    Nothing of the conversation is copied here: the runner that takes the fork's first turn does that, which has it as
    the model saw it. The place is in executions that have ended, so it stays what it is. The files are those of the
    session that is forked, as they are now.

    Raises:
        MissingError: There is no such session or execution.
        InvalidError: The execution or the message belongs to something else.
        RefusedError: The execution has not ended, or nothing was said in the session.
        TakenError: The name is in use.
    """
    if (answer := await answered(resources, kind, request)) is not None:
        return answer
    source = kind.parse(wire_of(await resources.record(kind, request.id)))
    place = await _place(resources, source, request)
    draft = await drafts.draft(kind, _wanted(kind, source, request), resources.call)
    draft.status.forked_from.CopyFrom(place)
    drafts.resolve_slug(kind, draft)

    def make(unit: Unit) -> Saved:
        unit.require_exists(kind.name, request.id)
        made = drafts.insert(kind, draft, unit)
        files.share(unit.transaction, request.id, made.id)
        return made

    return await store(resources, kind, request, make)


def _wanted(kind: Kind, source: Message, request: Message) -> Message:
    made: Message = kind.type(api_version=source.api_version, kind=source.kind)
    assign_id(kind, made)
    made.metadata.name = request.name or f"session-{made.metadata.id.partition('-')[2]}"
    made.metadata.org = source.metadata.org
    made.metadata.owner_scope = source.metadata.owner_scope
    made.spec.agent_instance_id = source.spec.agent_instance_id
    made.spec.subject = request.subject or source.spec.subject
    for key, value in source.spec.metadata.items():
        made.spec.metadata[key] = value
    return made


async def _place(resources: Resources, source: Message, request: Message) -> Message:
    """The last thing in the fork, as a SessionFork."""
    id = source.metadata.id
    if request.at_execution_id:
        execution = await _named(resources, request.at_execution_id, id)
    elif request.at_message_id:
        execution = await _containing(resources, id, request.at_message_id)
    else:
        newest = await anext(_executions(resources, id), None)
        if newest is None:
            return _inherited(source)
        execution = newest
    if not resources.kinds[_EXECUTION].is_finished(execution):
        msg = (
            f"{execution.metadata.id} has not ended, and what it says is not settled: wait for it, or fork at an "
            f"execution of {id} that has ended (at_execution_id)"
        )
        raise RefusedError(msg)
    if request.at_message_id and not _says(execution, request.at_message_id):
        problem = (
            f"{execution.metadata.id} has no message of a person or of its agent with the id {request.at_message_id}"
        )
        raise InvalidError.of("at_message_id", "session.fork.message", problem)
    place = type(source.status.forked_from)()
    place.session_id, place.thread_id = id, source.spec.thread_id
    place.execution_id, place.message_id = execution.metadata.id, request.at_message_id
    return place


def _inherited(source: Message) -> Message:
    """Where a fork was forked from, in which nothing was said yet."""
    if not source.status.HasField("forked_from"):
        raise RefusedError(f"nothing was said in {source.metadata.id}: there is nothing to go on from")
    return source.status.forked_from


async def _named(resources: Resources, id: str, session: str) -> Message:
    kind = resources.kinds[_EXECUTION]
    execution = kind.parse(wire_of(await resources.record(kind, id)))
    if execution.spec.session_id != session:
        problem = f"{id} is an execution of {execution.spec.session_id}, not of {session}"
        raise InvalidError.of("at_execution_id", "session.fork.execution", problem)
    return execution


async def _containing(resources: Resources, session: str, message: str) -> Message:
    async for execution in _executions(resources, session):
        if _says(execution, message):
            return execution
    problem = f"no person and no agent has said a message with the id {message} in {session}"
    raise InvalidError.of("at_message_id", "session.fork.message", problem)


async def _executions(resources: Resources, session: str) -> AsyncIterator[Message]:
    """Yield the executions of a session, newest first."""
    kind = resources.kinds[_EXECUTION]
    query = Query(kind=kind.name, where={"session_id": session}, limit=_PAGE)
    async for record in stored_records(resources.store, query):
        yield kind.parse(wire_of(record))


def _says(execution: Message, message: str) -> bool:
    return any(
        each.type in _SAID and _KEY in each.metadata.fields and each.metadata.fields[_KEY].string_value == message
        for each in execution.status.messages
    )
