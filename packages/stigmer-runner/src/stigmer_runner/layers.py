"""An execution's environment and what it is made of, read by the contract's own calls.

For servers that have no `ExecutionRuntimeController`, which does the same and hands out what it has sealed. The lowest
layer is what the agent's or workflow's `env_spec` gives a value to, above it each environment of the instance in its
order, on top the execution's own `runtime_env`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stigmer_grpc.errors import FailedPreconditionError, NotFoundError

if TYPE_CHECKING:
    from stigmer_runner.server import StigmerServer

Message = Any

_AGENTIC = "ai.stigmer.agentic"
_WORKFLOW_EXECUTION = "wex-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What an execution is made of.

    Attributes:
        execution: The execution.
        owner: Its workflow or its agent.
        values: The environment: by name a value, and whether it is secret.
    """

    execution: Message
    owner: Message
    values: Mapping[str, tuple[str, bool]]

    def __repr__(self) -> str:
        return f"Layers({self.execution.metadata.id}, {len(self.values)} values)"


async def read_layers(server: "StigmerServer", execution_id: str) -> Layers:
    """Read an execution, what it runs, and its environment.

    Raises:
        FailedPreconditionError: The instance names an environment that does not exist.
        RpcError: As `StigmerServer.call`.
    """
    if execution_id.startswith(_WORKFLOW_EXECUTION):
        execution = await _get(server, "WorkflowExecution", execution_id)
        instance = await _get(server, "WorkflowInstance", execution.spec.workflow_instance_id)
        owner = await _get(server, "Workflow", instance.spec.workflow_id)
        references = instance.spec.env_refs
    else:
        execution = await _get(server, "AgentExecution", execution_id)
        session = await _get(server, "Session", execution.spec.session_id)
        instance = await _get(server, "AgentInstance", session.spec.agent_instance_id)
        owner = await _get(server, "Agent", instance.spec.agent_id)
        references = instance.spec.environment_refs
    declared = owner.spec.env_spec.data
    layers = [
        {name: declared[name] for name in declared if declared[name].value},
        *[(await _environment(server, reference, instance)).spec.data for reference in references],
        execution.spec.runtime_env,
    ]
    secret = {name for layer in (declared, *layers) for name in layer if layer[name].is_secret}
    values = {name: layer[name].value for layer in layers for name in layer}
    return Layers(
        execution=execution,
        owner=owner,
        values={name: (value, name in secret) for name, value in values.items()},
    )


async def _get(server: "StigmerServer", kind: str, resource_id: str) -> Message:
    service = f"{_AGENTIC}.{kind.lower()}.v1.{kind}QueryController"
    return await server.call(service, "get", {"value": resource_id})


async def _environment(server: "StigmerServer", reference: Message, instance: Message) -> Message:
    """Find an environment that an instance names; one without an organization is the instance's or the platform's."""
    service = f"{_AGENTIC}.environment.v1.EnvironmentQueryController"
    wanted = type(reference)()
    wanted.CopyFrom(reference)
    for org in (reference.org,) if reference.org else (instance.metadata.org, ""):
        wanted.org = org
        try:
            return await server.call(service, "getByReference", wanted)
        except NotFoundError:
            continue
    raise FailedPreconditionError(
        f"environment {reference.slug} does not exist, but {instance.kind} {instance.metadata.slug} names it"
    )
