"""What an execution runs with: values of the spec, of the instance's environments and of the run, laid over each other.

The lowest layer is what the agent's or workflow's `env_spec` gives a value to, above it each environment of the
instance in its order, on top the execution's own `runtime_env`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from stigmer_server.errors import InvalidError, RefusedError, Violation
from stigmer_server.messages import Message
from stigmer_server.secrets import Sealer, is_sealed
from stigmer_server.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Layered:
    """The value that is on top, still sealed if it is a secret."""

    value: str
    is_secret: bool
    """Whether any layer calls it secret."""
    owner: str
    """Id of the resource that gave it, for which it is sealed."""
    sealed: bool = False
    """Whether the resource that gave it has it sealed; a public value may look as if it were."""

    def opened(self, name: str, sealer: Sealer) -> str:
        """Return the value in clear. Raises: UnsealError."""
        return sealer.unseal(self.value, id=self.owner, name=name) if self.sealed else self.value


Values = Mapping[str, Layered]
"""What an execution runs with, by name."""


def of_execution(unit: Unit, kind: str, execution: Message) -> Values:
    """Return every value that the execution runs with, by name.

    Raises:
        MissingError: What it runs is gone.
        RefusedError: The instance names an environment that does not exist.
    """
    if kind == "workflow_execution":
        instance = unit.require("workflow_instance", execution.spec.workflow_instance_id)
        owner = unit.require("workflow", instance.spec.workflow_id)
        return _layered(unit, owner, instance, instance.spec.env_refs, execution)
    session = unit.require("session", execution.spec.session_id)
    instance = unit.require("agent_instance", session.spec.agent_instance_id)
    owner = unit.require("agent", instance.spec.agent_id)
    return _layered(unit, owner, instance, instance.spec.environment_refs, execution)


def require_all(unit: Unit, execution: Message, workflow: Message, instance: Message) -> None:
    """Check that every variable the workflow declares has a value.

    Raises:
        InvalidError: Some have none; it names all of them.
        RefusedError: The instance names an environment that does not exist.
    """
    given = _layered(unit, workflow, instance, instance.spec.env_refs, execution)
    declared = declared_by(workflow)
    violations = [
        Violation(
            field=f"spec.runtime_env[{name}]",
            rule="workflow_execution.env.required",
            message=f"the workflow needs {name}, and neither its environments nor this run give it a value",
        )
        for name in sorted(declared)
        if name not in given
    ]
    if violations:
        names = ", ".join(name for name in sorted(declared) if name not in given)
        raise InvalidError(f"the workflow needs values for: {names}", violations)


def declared_by(owner: Message) -> Mapping[str, Message]:
    """Return the variables that an agent or a workflow declares, by name."""
    return owner.spec.env_spec.data if owner.spec.HasField("env_spec") else {}


def mark_secrets(values: Mapping[str, Message], declared: Mapping[str, Message]) -> None:
    """Make every given value secret that its declaration calls secret."""
    for name in values:
        if name in declared and declared[name].is_secret:
            values[name].is_secret = True


def _layered(
    unit: Unit, owner: Message, instance: Message, references: Iterator[Message], execution: Message
) -> Values:
    declared = declared_by(owner)
    result = {name: layer for name, layer in _values(owner, declared) if layer.value}
    secret = {name for name in declared if declared[name].is_secret}
    layers = [_environment(unit, reference, instance) for reference in references]
    for layer in [*((found, found.spec.data) for found in layers), (execution, execution.spec.runtime_env)]:
        for name, value in _values(*layer):
            result[name] = value
            if value.is_secret:
                secret.add(name)
    return {name: replace(layer, is_secret=name in secret) for name, layer in result.items()}


def _values(resource: Message, data: Mapping[str, Message]) -> Iterator[tuple[str, Layered]]:
    for name in data:
        entry = data[name]
        sealed = entry.is_secret and is_sealed(entry.value)
        yield name, Layered(value=entry.value, is_secret=entry.is_secret, owner=resource.metadata.id, sealed=sealed)


def _environment(unit: Unit, reference: Message, instance: Message) -> Message:
    """Find an environment that an instance names; one without an organization is the instance's or the platform's."""
    organizations = (reference.org,) if reference.org else (instance.metadata.org, "")
    for org in organizations:
        if (found := unit.find("environment", org=org, slug=reference.slug)) is not None:
            return found
    where = f"{organizations[0]}/{reference.slug}" if organizations[0] else reference.slug
    named_by = f"{instance.kind} {instance.metadata.slug} ({instance.metadata.id})"
    msg = f"environment {where} does not exist, but {named_by} names it"
    raise RefusedError(msg)
