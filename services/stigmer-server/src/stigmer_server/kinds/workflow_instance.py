"""WorkflowInstance: a workflow together with the environments it runs in."""

from __future__ import annotations

from stigmer_server.errors import InvalidError
from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Kind, Parent, References
from stigmer_server.messages import Message
from stigmer_server.unit import Unit

_ORGANIZATION = 2
"""ApiResourceOwnerScope.organization."""


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    """Keep an organization's instance within the organization of its workflow, and a default one with its workflow."""
    if stored is not None:
        default_instance.keep(unit, KIND, message, stored)
    metadata, owner = message.metadata, unit.require("workflow", message.spec.workflow_id).metadata
    both = metadata.owner_scope == _ORGANIZATION == owner.owner_scope
    if both and metadata.org != owner.org:
        problem = f"the workflow belongs to organization {owner.org!r}, so its instances do too"
        raise InvalidError.of("metadata.org", "workflow_instance.same_org", problem)


KIND = Kind(
    name="workflow_instance",
    shared=True,
    parents=(Parent(kind="workflow", path="spec.workflow_id"),),
    references=(References(kind="environment", path="spec.env_refs"),),
    settle=_settle,
)
