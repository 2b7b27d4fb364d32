"""Executions of workflows that begin with the state of an earlier one.

A run that failed has left its checkpoint. Of any other, its run is asked, which still knows the same; what it says is
kept as if it had left it. From then on the new execution has checkpoints of its own, and needs the earlier one no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stigmer_protos import descriptors

from stigmer_server import checkpoints, executions
from stigmer_server.engine.port import AwayError, RefusedByTemporalError
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.messages import Message
from stigmer_server.secrets import is_sealed
from stigmer_server.transitions import ENDED, Phase

if TYPE_CHECKING:
    from stigmer_server.checkpoints import Position
    from stigmer_server.resources import Resources
    from stigmer_server.unit import Unit

TAKEN_FROM = "taken_from"
"""Key of the metadata of a task that is taken over: the execution that did it."""
_KIND = "workflow_execution"
_CHECKPOINT = "ai.stigmer.runtime.v1.WorkflowCheckpoint"
_INPUTS = ("input", "large_input", "large_input_of", "trigger_message", "trigger_metadata")


async def prepare(resources: Resources, message: Message) -> None:
    """Have the state of the execution that a new one is to begin with at hand.

    Raises:
        MissingError: There is none that the caller may see.
        RefusedError: It has no state, or that cannot be had now.
    """
    earlier_id: str = message.spec.from_execution
    if not earlier_id or message.spec.from_task in checkpoints.BEGINNING:
        return
    run = await resources.read(lambda unit: _run_to_ask(unit, earlier_id))
    if not run:
        return
    try:
        told = await resources.engine.checkpoint(run)
    except (AwayError, RefusedByTemporalError) as error:
        msg = f"how far {earlier_id} got is known to its run only, and that does not answer: {error}"
        raise RefusedError(f"{msg}; are Temporal and a workflow-runner there?") from error
    if told is None:
        raise RefusedError(f"the state of {earlier_id} is not there any more: Temporal has forgotten its run")
    found: Message = descriptors.message_type(_CHECKPOINT)(
        execution_id=earlier_id,
        temporal_workflow_id=run,
        content=str(told["content"]).encode(),
        positions=[
            descriptors.message_type("ai.stigmer.runtime.v1.WorkflowPosition")(**each) for each in told["positions"]
        ],
    )
    # In a dry run, too: it is no resource, and what follows looks for it in a transaction of its own.
    keeping = resources.on_behalf_of(replace(resources.call, dry_run=False))
    await keeping.transact(lambda unit: _keep(unit, found))


def _keep(unit: Unit, found: Message) -> None:
    """Keep what a run has told, unless its execution was deleted or has left something newer meanwhile."""
    if _run_to_ask(unit, found.execution_id) == found.temporal_workflow_id:
        checkpoints.save(unit, found)


def _run_to_ask(unit: Unit, earlier_id: str) -> str:
    """Return the run that knows the state; empty where it is here already."""
    kind = unit.kinds[_KIND]
    earlier = unit.require(_KIND, earlier_id)
    phase = kind.phase_of(earlier.status)
    if phase is Phase.FAILED or (phase in ENDED and checkpoints.known(unit, earlier_id)):
        return ""
    if not earlier.status.started_at:
        raise RefusedError(f"{earlier_id} has not begun: there is no state to begin with")
    return executions.run_id(kind, earlier)


def inherit(unit: Unit, message: Message) -> None:
    """Give a new execution what it has of the earlier one: instance, input, variables and secrets, unless given.

    Raises:
        MissingError: There is no such execution that the caller may see.
        InvalidError: It is of another workflow, or there is an input beside it.
    """
    spec = message.spec
    earlier = unit.require(_KIND, spec.from_execution)
    given = [field.name for field, _ in spec.ListFields() if field.name in _INPUTS]
    if given:
        problem = f"the input is that of {earlier.metadata.id}; leave it out"
        raise InvalidError.of(f"spec.{given[0]}", "workflow_execution.from_execution.input", problem)
    if spec.workflow_id and not spec.workflow_instance_id and spec.workflow_id != earlier.spec.workflow_id:
        raise _other(earlier, spec.workflow_id)
    spec.workflow_instance_id = spec.workflow_instance_id or earlier.spec.workflow_instance_id
    instance = unit.require("workflow_instance", spec.workflow_instance_id)
    if instance.spec.workflow_id != earlier.spec.workflow_id:
        raise _other(earlier, instance.spec.workflow_id)
    _inherit_input(earlier, spec)
    for name, value in earlier.spec.runtime_env.items():
        if name not in spec.runtime_env:
            taken = spec.runtime_env[name]
            taken.is_secret = value.is_secret
            taken.value = _opened(unit, earlier, name) if value.is_secret else value.value


def _inherit_input(earlier: Message, spec: Message) -> None:
    inputs = type(spec)()
    inputs.CopyFrom(earlier.spec)
    for field, _ in earlier.spec.ListFields():
        if field.name not in _INPUTS:
            inputs.ClearField(field.name)
    if inputs.HasField("large_input"):
        inputs.large_input_of = earlier.metadata.id
    spec.MergeFrom(inputs)


def _opened(unit: Unit, earlier: Message, name: str) -> str:
    """Return a secret in clear, to be sealed for the new execution."""
    sealed: str = earlier.spec.runtime_env[name].value
    return unit.sealer.unseal(sealed, id=earlier.metadata.id, name=name) if is_sealed(sealed) else sealed


def _other(earlier: Message, workflow: str) -> InvalidError:
    problem = f"is a run of {earlier.spec.workflow_id}, and not of {workflow}"
    return InvalidError.of("spec.from_execution", "workflow_execution.from_execution.workflow", problem)


def take_over(unit: Unit, message: Message) -> None:
    """Give a new execution the state of the earlier one, and the tasks that are done.

    Raises:
        InvalidError: Several tasks have the name.
        RefusedError: No run can begin with that task, or there is no state.
    """
    spec = message.spec
    earlier, id = unit.require(_KIND, spec.from_execution), message.metadata.id
    if spec.from_task in checkpoints.BEGINNING:
        return
    begin = checkpoints.take_over(unit, earlier.metadata.id, id, spec.from_task)
    message.status.tasks.extend(earlier.status.tasks)
    _keep_done(unit, message, earlier, begin)


def _keep_done(unit: Unit, message: Message, earlier: Message, begin: Position) -> None:
    phases = unit.kinds[_KIND].phases
    if phases is not None:
        phases.reopen(message.status, begin)
    going_on = {begin.task_id, *begin.within}
    tasks = message.status.tasks
    for index in reversed(range(len(tasks))):
        task = tasks[index]
        if task.task_id in going_on:
            continue
        if not task.completed_at:
            del tasks[index]
        elif TAKEN_FROM not in task.metadata:
            task.metadata[TAKEN_FROM] = earlier.metadata.id
