"""One strand of a run: how the flow goes through task lists, one task after the other.

Jumps, ends, positions, and the safe points between two tasks are here. A run has one strand, and each branch of a
fork is one. Workflow code.
"""

import asyncio
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import TaskItem

from workflow_runner.checkpoint import Mark, Wreck
from workflow_runner.data import Scope
from workflow_runner.flow import EndOfWorkflow, ListFrame, Outcome, Suspended, TaskFrame
from workflow_runner.port import Block, Run
from workflow_runner.step import TaskStep


class Strand:
    """Goes through lists of tasks, and remembers where it failed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.wreck: Wreck | None = None
        """The innermost task that did not end well: from there the run can be recovered."""

    async def run_list(self, block: Block, data: Any, frame: ListFrame | None) -> Outcome:
        """Run the tasks of `block` from its first, with `data` as its input, or from `frame`."""
        here: ListFrame = frame or {"index": 0, "input": data, "jumps": 0, "visits": {}}
        while here["index"] < len(block.tasks):
            match await self._run_next(block, here):
                case None | "continue":
                    here["index"] += 1
                case "exit":
                    return Outcome(here["input"], "exit")
                case target:
                    self._jump(block, target, here)
        return Outcome(here["input"])

    async def run_branch(self, block: Block, index: int, data: Any, frame: ListFrame | None) -> Any:
        """Run one of the tasks of `block`, which are done side by side, and return its output."""
        here: ListFrame = frame or {"index": index, "input": data, "jumps": 0, "visits": {}}
        await self._run_next(block, here)
        return here["input"]

    def another(self) -> "Strand":
        """Return a strand to go on beside this one."""
        return Strand(self.run)

    async def _run_next(self, block: Block, here: ListFrame) -> str | None:
        """Run the task that is next, leave its output in `here`, and return where the flow goes."""
        item, at = block.tasks[here["index"]], block.pointer_to(here["index"])
        resumed = here.pop("task", None)
        if resumed is None:
            try:
                await self._safe_point(here)
            except asyncio.CancelledError:
                self.wreck = Wreck(at, self._mark(block, here, item), self.run.context)
                raise
        mark = self._mark(block, here, item)
        if resumed is None:
            try:
                self.run.count_task(at)
            except WorkflowError:
                self.wreck = Wreck(at, mark, self.run.context)
                raise
            self.run.marks.note(at, mark)
        try:
            outcome = await self._run_task(item, at, mark, block.scope, resumed)
        except Suspended as leaving:
            raise Suspended({**here, "task": leaving.frame}) from None
        here["input"] = outcome.output
        if outcome.then == "end":
            raise EndOfWorkflow(outcome.output)
        return outcome.then

    def _mark(self, block: Block, here: ListFrame, item: TaskItem) -> Mark:
        index = here["index"]
        name = f"{block.prefix}{block.pointer_to(index)[len(block.pointer) :]}{_visit(here, index)}"
        return Mark({**here, "visits": {**here["visits"]}}, name, item.name, self.run.context, block.outer)

    def _jump(self, block: Block, target: str, here: ListFrame) -> None:
        at = block.pointer_to(here["index"])
        index = next((index for index, item in enumerate(block.tasks) if item.name == target), None)
        if index is None:
            raise WorkflowError.standard("configuration", f"there is no task {target!r} beside this one", instance=at)
        if index <= here["index"]:
            here["jumps"] += 1
            most = self.run.limits["max_backward_jumps"]
            if here["jumps"] > most:
                detail = f"more than {most} jumps backwards in one pass through a list, the last to {target!r}"
                raise WorkflowError.standard("runtime", detail, instance=at)
            # Only tasks that a jump brings back are counted: the frame stays small.
            for again in range(index, here["index"] + 1):
                here["visits"][str(again)] = here["visits"].get(str(again), 1) + 1
        here["index"] = index

    async def _safe_point(self, here: ListFrame) -> None:
        """Between two tasks: hold, go on in a new history if this one is long, and let go if much was computed."""
        engine = self.run.engine
        while engine.clock.is_stopped:
            if not await engine.until_released():
                raise Suspended({**here})
        if engine.strands.is_leaving or (self.run.has_progressed and engine.continuation_is_due()):
            await engine.until_all_leave()
            raise Suspended({**here})
        if self.run.is_breathless:
            await self.run.breathe()

    async def _run_task(
        self, item: TaskItem, pointer: str, mark: Mark, scope: Scope, frame: TaskFrame | None
    ) -> Outcome:
        step = TaskStep(self, item, pointer, mark, scope, frame)
        self.wreck = None
        try:
            if frame is None and not step.is_wanted():
                return step.skipped()
            outcome = await step.run()
            self.run.has_progressed = True
            self.wreck = None
            return step.completed(outcome)
        except WorkflowError as error:
            self._wrecked(step)
            raise step.failed(error.at(pointer)) from None
        except EndOfWorkflow as end:
            step.ended(end.output)
            raise
        except asyncio.CancelledError:
            self._wrecked(step)
            step.failed(WorkflowError.standard("runtime", "cancelled", instance=pointer))
            raise
        except Suspended as leaving:
            raise Suspended(step.frame(leaving.frame)) from None

    def _wrecked(self, step: TaskStep) -> None:
        """Remember the innermost task that did not end well."""
        if self.wreck is None:
            self.wreck = Wreck(step.pointer, step.mark, self.run.context, step.done)


def _visit(here: ListFrame, index: int) -> str:
    visit = here["visits"].get(str(index), 1)
    return "" if visit == 1 else f"#{visit}"
