"""Session: a conversation with one agent instance, in which executions follow each other."""

from __future__ import annotations

from collections.abc import Mapping

from stigmer_sqlite.paging import records
from stigmer_sqlite.port import Query, Reader

from stigmer_server import files
from stigmer_server.errors import InvalidError
from stigmer_server.kinds.port import Filter, Kind, Parent
from stigmer_server.messages import Message
from stigmer_server.unit import Unit

AUTO_CREATED = "stigmer.ai/auto-created"
"""Label of a session that was made for an execution, and not asked for by anybody."""
MOST_INSTANCES = 10_000
"""Instances of an agent whose sessions can be listed together."""
_PAGE = 1000


def _is_incidental(message: Message) -> bool:
    return message.metadata.labels.get(AUTO_CREATED) == "true"


def _filtered(name: str, value: Filter, reader: Reader) -> Mapping[str, Filter]:
    """Find the sessions of an agent through its instances; older clients send the id of an instance instead."""
    if name != "agent_id":
        return {name: value}
    instances = [str(value)]
    query = Query(kind="agent_instance", where={"agent_id": value}, limit=_PAGE)
    for instance in records(reader, query):
        instances.append(instance.id)
        if len(instances) > MOST_INSTANCES:
            problem = f"has more than {MOST_INSTANCES} instances; ask for the sessions of one of them"
            raise InvalidError.of(name, "agent_id.too_many", problem)
    return {"agent_instance_id": instances}


def _removed(message: Message, unit: Unit) -> None:
    """Let the files go with the session; its forks have their own."""
    files.drop(unit.transaction, message.metadata.id)


KIND = Kind(
    name="session",
    parents=(Parent(kind="agent_instance", path="spec.agent_instance_id"),),
    filtered=_filtered,
    incidental=_is_incidental,
    removed=_removed,
)
