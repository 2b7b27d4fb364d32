"""`for`: run tasks for each item, in order; what one pass gives is the input of the next.

Besides arrays, two further collections can be gone through, as in other runtimes: an object, whose values are the items
and whose keys, in their order, are what `at` holds; and a whole number, for so many passes.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import ForTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind

_MOST_PASSES = 100_000
"""Of a loop over a number: each stands in the run's state."""


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
            state |= {**_items(task, step), "index": 0, "data": step.input}
        items: list[Any] = state["items"]
        keys: list[str] | None = state.get("keys")
        while state["index"] < len(items):
            index: int = state["index"]
            variables = {task.for_.each: items[index], task.for_.at: keys[index] if keys else index}
            if not entered and task.while_ is not None and not step.holds(task.while_, variables, on=state["data"]):
                break
            entered, state["passing"] = False, True
            state["data"] = await step.run_tasks(
                task.do, "/do", state["data"], label=f"[{index}]", variables=variables, iteration=index
            )
            state["index"], state["passing"] = index + 1, False
        return Outcome(output=state["data"])


def _items(task: ForTask, step: Step) -> dict[str, Any]:
    """Return the items, and the keys if they are an object's."""
    within = task.for_.in_
    found = step.evaluate_text(within) if isinstance(within, str) else step.evaluate(list(within))
    match found:
        case list():
            return {"items": cast("list[Any]", found)}
        case dict():
            fields = cast("dict[str, Any]", found)
            return {"items": [*fields.values()], "keys": [*fields]}
        case int() if not isinstance(found, bool) and 0 <= found <= _MOST_PASSES:
            return {"items": [*range(found)]}
        case _:
            what = "null" if found is None else json.dumps(found) if isinstance(found, (int, float)) else "a text"
            detail = f"for.in must give an array, an object or a whole number up to {_MOST_PASSES}, not {what}"
            raise WorkflowError.standard("expression", detail, instance=step.pointer)


KIND: TaskKind[ForTask] = _For()
