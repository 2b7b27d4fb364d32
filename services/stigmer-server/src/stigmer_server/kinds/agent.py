"""Agent: instructions, tools and skills; runs through its instances, the first of which is made with it."""

from __future__ import annotations

from stigmer_server import agents
from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Kind, References
from stigmer_server.messages import Message
from stigmer_server.unit import Unit


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    del stored
    default_instance.ensure(unit, KIND, message)


KIND = Kind(
    name="agent",
    shared=True,
    default_child="agent_instance",
    secrets=("spec.env_spec.data",),
    references=(
        References(kind="skill", path="spec.skill_refs"),
        References(kind="skill", path="spec.sub_agents.skill_refs"),
    ),
    inspect=agents.inspect,
    inspects_long=lambda agent: agent.spec.HasField("output_schema"),
    settle=_settle,
)
