"""Get all that a runner needs to run a workflow execution, except for the values of its environment."""

from __future__ import annotations

from stigmer_protos import descriptors

from stigmer_server import checkpoints, environments, executions
from stigmer_server.errors import RefusedError
from stigmer_server.kinds.workflow_execution import run_input
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.secrets import redact
from stigmer_server.unit import Unit


async def get_workflow_run(resources: Resources, execution_id: str) -> Message:
    """Return the workflow as it is now, the run's input, and the names of its variables and secrets.

    Of an execution that was recovered, or has the state of another, also where the run begins.

    Raises:
        MissingError: The execution, its instance or its workflow does not exist.
        RefusedError: The execution has ended, or the instance names an environment that does not exist.
    """

    def work(unit: Unit) -> Message:
        kind = unit.kinds["workflow_execution"]
        execution = unit.require(kind.name, execution_id)
        if kind.is_finished(execution):
            msg = f"{kind.title} {execution_id} has ended; there is nothing left to run"
            raise RefusedError(msg)
        own = unit.within(execution.metadata.org)
        instance = own.require("workflow_instance", execution.spec.workflow_instance_id)
        workflow = own.require("workflow", instance.spec.workflow_id)
        values = environments.of_execution(own, "workflow_execution", execution)
        run: Message = descriptors.message_type("ai.stigmer.runtime.v1.WorkflowRun")()
        begins_elsewhere = execution.status.recoveries or execution.spec.from_execution
        if begins_elsewhere and (checkpoint := checkpoints.chosen(unit, execution_id)) is not None:
            run.checkpoint = checkpoint.content
            if checkpoint.large_key:
                run.large_checkpoint.key, run.large_checkpoint.bytes = checkpoint.large_key, checkpoint.large_bytes
            run.begin_at = checkpoint.chosen or ""
            if not execution.status.recoveries:
                run.from_execution = execution.spec.from_execution
        return _fill(run, execution, workflow, values)

    run = await resources.read(work)
    redact(resources.kinds["workflow"], run.workflow)
    return run


def _fill(run: Message, execution: Message, workflow: Message, values: environments.Values) -> Message:
    run.execution_id = execution.metadata.id
    run.org = execution.metadata.org
    run.workflow.CopyFrom(workflow)
    run.workflow_instance_id = execution.spec.workflow_instance_id
    run.call_depth = executions.depth_of(execution)
    if execution.spec.HasField("large_input"):
        run.large_input.CopyFrom(execution.spec.large_input)
    else:
        run.input.CopyFrom(run_input(execution))
    run.secret_names.extend(sorted(name for name, value in values.items() if value.is_secret))
    run.variable_names.extend(sorted(name for name, value in values.items() if not value.is_secret))
    return run
