"""Runs put together by the contract's own calls, for servers that do not do it."""

from typing import Any

from stigmer_grpc.errors import FailedPreconditionError
from stigmer_protos import descriptors
from stigmer_runner import StigmerServer
from stigmer_runner.layers import read_layers

from workflow_runner.activities.executions import call_depth

Message = Any

_RUN = "ai.stigmer.runtime.v1.WorkflowRun"
_ENDED = frozenset({3, 4, 5, 6})
"""Numbers of the phases that an execution ends with."""


async def plain_run(server: StigmerServer, execution_id: str) -> Message:
    """Return what `getWorkflowRun` would: the workflow, the input, and the names of the environment's values.

    Raises:
        FailedPreconditionError: The execution has ended, or an environment that is named does not exist.
        RpcError: As `StigmerServer.call`.
    """
    layers = await read_layers(server, execution_id)
    execution = layers.execution
    if execution.status.phase in _ENDED:
        raise FailedPreconditionError(f"{execution_id} has ended; there is nothing left to run")
    run: Message = descriptors.message_type(_RUN)()
    run.execution_id, run.org = execution_id, execution.metadata.org
    run.workflow.CopyFrom(layers.owner)
    run.workflow_instance_id = execution.spec.workflow_instance_id
    run.call_depth = call_depth(execution)
    _fill_input(run, execution.spec)
    for name, (_, is_secret) in sorted(layers.values.items()):
        (run.secret_names if is_secret else run.variable_names).append(name)
    return run


def _fill_input(run: Message, spec: Message) -> None:
    """What started the run, as an object of `message` and `metadata`."""
    run.input.CopyFrom(spec.input)
    if run.input.WhichOneof("kind") not in (None, "struct_value"):
        return
    run.input.struct_value.SetInParent()
    fields = run.input.struct_value.fields
    if spec.trigger_message and "message" not in fields:
        fields["message"].string_value = spec.trigger_message
    if spec.trigger_metadata and "metadata" not in fields:
        fields["metadata"].struct_value.update(dict(spec.trigger_metadata))
