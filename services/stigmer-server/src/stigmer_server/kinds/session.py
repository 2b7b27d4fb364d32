"""Session: a conversation with one agent instance, in which executions follow each other."""

from __future__ import annotations

from collections.abc import Mapping

from stigmer_sqlite.port import Query, Reader

from stigmer_server.kinds.port import Filter, Kind, Parent
from stigmer_server.messages import Message

AUTO_CREATED = "stigmer.ai/auto-created"
"""Label of a session that was made for an execution, and not asked for by anybody."""


def _is_incidental(message: Message) -> bool:
    return message.metadata.labels.get(AUTO_CREATED) == "true"


def _filtered(name: str, value: Filter, reader: Reader) -> Mapping[str, Filter]:
    """Find the sessions of an agent through its instances; older clients send the id of an instance instead."""
    if name != "agent_id":
        return {name: value}
    instances = reader.list(Query(kind="agent_instance", where={"agent_id": value}, limit=1000)).records
    return {"agent_instance_id": [str(value), *(instance.id for instance in instances)]}


KIND = Kind(
    name="session",
    parents=(Parent(kind="agent_instance", path="spec.agent_instance_id"),),
    filtered=_filtered,
    incidental=_is_incidental,
)
