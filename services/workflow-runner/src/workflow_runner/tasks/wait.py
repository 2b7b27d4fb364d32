"""`wait`: let time pass; output the input.

An expression may give a duration, or the time until which to wait.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import WaitTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Wait:
    task = WaitTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: WaitTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: WaitTask, step: Step) -> Outcome:
        length = _length(task, step)
        if length > timedelta() or "wakes_at" in step.state:
            await step.sleep(length)
        return Outcome(output=step.input)


def _length(task: WaitTask, step: Step) -> timedelta:
    given = step.evaluate(task.wait) if isinstance(task.wait, str) else task.wait
    until = _time(given, step) if isinstance(given, str) else None
    if until is None:
        return step.duration(given)
    return timedelta(seconds=max(0.0, until.timestamp() - step.now()))


def _time(text: str, step: Step) -> datetime | None:
    """Return the time that a text says, if it is one."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if found.tzinfo is None:
        detail = f"the time {text!r} has no time zone: write it with Z or an offset such as +02:00"
        raise WorkflowError.standard("expression", detail, instance=step.pointer)
    return found


KIND: TaskKind[WaitTask] = _Wait()
