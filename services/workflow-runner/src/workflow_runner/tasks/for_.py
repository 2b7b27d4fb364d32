"""`for`: run tasks for each item, in order; what one pass gives is the input of the next."""

from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import ForTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _For:
    task = ForTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: ForTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: ForTask, step: Step) -> Outcome:
        state = step.state
        # A run that goes on in the middle of a pass has met that pass's condition before.
        entered = bool(state) and state.get("passing", True)
        if not state:
            state |= {"items": _items(task, step), "index": 0, "data": step.input}
        items: list[Any] = state["items"]
        while state["index"] < len(items):
            index: int = state["index"]
            variables = {task.for_.each: items[index], task.for_.at: index}
            if not entered and task.while_ is not None and not step.holds(task.while_, variables, on=state["data"]):
                break
            entered, state["passing"] = False, True
            state["data"] = await step.run_tasks(
                task.do, "/do", state["data"], label=f"[{index}]", variables=variables, iteration=index
            )
            state["index"], state["passing"] = index + 1, False
        return Outcome(output=state["data"])


def _items(task: ForTask, step: Step) -> list[Any]:
    within = task.for_.in_
    items = step.evaluate_text(within) if isinstance(within, str) else step.evaluate(list(within))
    if not isinstance(items, list):
        found = "null" if items is None else type(items).__name__
        raise WorkflowError.standard("expression", f"for.in must give an array, not {found}", instance=step.pointer)
    return cast("list[Any]", items)


KIND: TaskKind[ForTask] = _For()
