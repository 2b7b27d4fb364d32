"""Workflow: a definition in the workflow language, checked before it is stored."""

from __future__ import annotations

from stigmer_server import schedules
from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message
from stigmer_server.unit import Unit


def _inspect(message: Message) -> None:
    # Imported at first use: the language takes a fifth of a second and many megabytes to load.
    from stigmer_server import definitions

    definitions.inspect(message)


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    del stored
    default_instance.ensure(unit, KIND, message)
    if "schedule" in message.spec.definition or schedules.find(unit.reader, message.metadata.id) is not None:
        from stigmer_server import definitions

        schedules.settle(unit, message, definitions.plan(message))


def _removed(message: Message, unit: Unit) -> None:
    schedules.remove(unit, message.metadata.id)


KIND = Kind(
    name="workflow",
    shared=True,
    default_child="workflow_instance",
    secrets=("spec.env_spec.data",),
    inspect=_inspect,
    inspects_long=lambda message: True,
    settle=_settle,
    removed=_removed,
)
