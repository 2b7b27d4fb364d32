"""AgentInstance: an agent together with the environments it runs in."""

from __future__ import annotations

from stigmer_server.kinds.port import Kind, Parent, References

KIND = Kind(
    name="agent_instance",
    parents=(Parent(kind="agent", path="spec.agent_id"),),
    references=(References(kind="environment", path="spec.environment_refs"),),
)
