"""WorkflowExecution: one run of a workflow, through one of its instances."""

from __future__ import annotations

from stigmer_server import environments, executions, origins, values
from stigmer_server.checkpoints import Position
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Apart, Kind, Parent, Phases
from stigmer_server.messages import Message
from stigmer_server.unit import Unit

_TASK_OPEN = frozenset({1, 2, 1000})
"""WorkflowTaskStatus: pending, in progress, waiting for approval."""
_TASK_IN_PROGRESS, _TASK_FAILED = 2, 4
_RESULTS = ("output", "output_value")
_WHOLE_RESULTS = (*_RESULTS, "large_output")


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    if stored is not None:
        executions.keep_token(message)
        if unit.exists("workflow", stored.spec.workflow_id):
            _mark_secrets(message, unit.require("workflow", stored.spec.workflow_id))
        return
    spec = message.spec
    if spec.from_execution:
        origins.inherit(unit, message)
    elif spec.from_task:
        problem = "goes with spec.from_execution"
        raise InvalidError.of("spec.from_task", "workflow_execution.from_task.alone", problem)
    if not spec.workflow_instance_id:
        spec.workflow_instance_id = _default_instance_of(message, unit)
    instance = unit.require("workflow_instance", spec.workflow_instance_id)
    workflow = unit.require("workflow", instance.spec.workflow_id)
    spec.workflow_id = workflow.metadata.id
    message.metadata.org = message.metadata.org or instance.metadata.org or workflow.metadata.org
    _mark_secrets(message, workflow)
    environments.require_all(unit, message, workflow, instance)
    if spec.HasField("large_input"):
        _take_input(message, unit)
    else:
        _check_input(workflow, message)
    executions.begin(unit, KIND, message)
    if spec.from_execution:
        origins.take_over(unit, message)


def _mark_secrets(message: Message, workflow: Message) -> None:
    environments.mark_secrets(message.spec.runtime_env, environments.declared_by(workflow))


def _check_input(workflow: Message, message: Message) -> None:
    """Hold the input against the schema, which only a definition can have."""
    if workflow.spec.definition:
        # Imported at first use, as the workflow's own module does.
        from stigmer_server import definitions

        definitions.check_input(workflow, run_input(message))


def _take_input(message: Message, unit: Unit) -> None:
    """Have the execution share a value of another one. Whether the workflow takes it, its run tells."""
    spec = message.spec
    unit.require("workflow_execution", spec.large_input_of)
    if not values.has(unit.reader, spec.large_input_of, spec.large_input.key):
        problem = f"{spec.large_input_of} has no value {spec.large_input.key}"
        raise InvalidError.of("spec.large_input", "workflow_execution.large_input.missing", problem)
    values.add(unit.transaction, message.metadata.id, spec.large_input.key)


def _default_instance_of(message: Message, unit: Unit) -> str:
    """Return the id of the named workflow's default instance, which is made when it is not there."""
    if not message.spec.workflow_id:
        problem = "say what to run: spec.workflow_id or spec.workflow_instance_id"
        raise InvalidError.of("spec", "workflow_execution.workflow_or_instance.required", problem)
    workflow = unit.require("workflow", message.spec.workflow_id)
    workflows = unit.kinds["workflow"]
    if default_instance.ensure(unit, workflows, workflow):
        unit.replace_status(workflows, workflow)
    return workflow.status.default_instance_id


def run_input(execution: Message) -> Message:
    """Return what the workflow gets as its input, a google.protobuf.Value.

    That is `spec.input`; when it is an object or absent, `message` and `metadata` are added to it from the trigger
    unless it has them already.
    """
    spec = execution.spec
    value = type(spec.input)()
    value.CopyFrom(spec.input)
    if value.WhichOneof("kind") in (None, "struct_value"):
        value.struct_value.SetInParent()
        fields = value.struct_value.fields
        if spec.trigger_message and "message" not in fields:
            fields["message"].string_value = spec.trigger_message
        if spec.trigger_metadata and "metadata" not in fields:
            fields["metadata"].struct_value.update(dict(spec.trigger_metadata))
    return value


def _merge_status(status: Message, report: Message) -> None:
    for task in report.tasks:
        _merge_task(status, task)
    for field, _ in report.ListFields():
        if field.name in (*_WHOLE_RESULTS, "error_details"):
            getattr(status, field.name).CopyFrom(getattr(report, field.name))
    if report.temporal_workflow_id:
        status.temporal_workflow_id = report.temporal_workflow_id


def _merge_task(status: Message, report: Message) -> None:
    """Update the task with the report's id, field by field, or add the report as a new task."""
    for task in status.tasks:
        same = task.task_id == report.task_id if report.task_id else task.task_name == report.task_name
        if same:
            for field, _ in report.ListFields():
                task.ClearField(field.name)
            task.MergeFrom(report)
            return
    status.tasks.add().CopyFrom(report)


def _close(status: Message) -> None:
    """A finished execution has no unfinished task."""
    for task in status.tasks:
        if task.status in _TASK_OPEN:
            task.status = _TASK_FAILED
            task.completed_at = status.completed_at
            task.error = "The execution ended before the task did."


def _reopen(status: Message, begin: Position | None) -> None:
    """Finished tasks stay as they are, as far as the new run does not do them again."""
    for name in (*_WHOLE_RESULTS, "error_details"):
        status.ClearField(name)
    if begin is None:
        status.ClearField("tasks")
        return
    at = next((index for index, task in enumerate(status.tasks) if task.task_id == begin.task_id), len(status.tasks))
    if not begin.failed:
        after = [task for task in status.tasks[at:] if task.task_id in begin.within]
        del status.tasks[at:]
        status.tasks.extend(after)
    for task in status.tasks:
        if task.task_id == begin.task_id or task.task_id in begin.within:
            _again(task)


def _again(task: Message) -> None:
    """Make a task unfinished again."""
    task.status = _TASK_IN_PROGRESS
    for name in (*_RESULTS, "error", "error_details", "completed_at"):
        task.ClearField(name)


KIND = Kind(
    name="workflow_execution",
    parents=(Parent(kind="workflow_instance", path="spec.workflow_instance_id"),),
    fixed=(
        *("spec.workflow_instance_id", "spec.workflow_id", "spec.input", "spec.large_input", "spec.large_input_of"),
        *("spec.from_execution", "spec.from_task"),
    ),
    indexes={"workflow_id": "$.spec.workflowId"},
    secrets=("spec.runtime_env",),
    apart=(Apart(path="status.tasks", key="task_id"),),
    phases=Phases(merge_status=_merge_status, close=_close, reopen=_reopen),
    no_rollback="an execution is a record of what has run; start another one instead",
    run="stigmer/workflow-execution/invoke",
    prepare=origins.prepare,
    settle=_settle,
)
