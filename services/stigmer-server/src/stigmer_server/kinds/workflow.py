"""Workflow: a definition in the workflow language, checked before it is stored."""

from __future__ import annotations

from stigmer_server import definitions
from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message
from stigmer_server.unit import Unit


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    del stored
    default_instance.ensure(unit, KIND, message)


KIND = Kind(
    name="workflow",
    default_child="workflow_instance",
    secrets=("spec.env_spec.data",),
    inspect=definitions.inspect,
    settle=_settle,
)
