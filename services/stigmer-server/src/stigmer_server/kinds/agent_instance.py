"""AgentInstance: an agent together with the environments it runs in."""

from __future__ import annotations

from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Kind, Parent, References
from stigmer_server.messages import Message
from stigmer_server.unit import Unit


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    if stored is not None:
        default_instance.keep(unit, KIND, message, stored)


KIND = Kind(
    name="agent_instance",
    shared=True,
    parents=(Parent(kind="agent", path="spec.agent_id"),),
    references=(References(kind="environment", path="spec.environment_refs"),),
    settle=_settle,
)
