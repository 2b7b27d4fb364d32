"""The interpreter: runs the tasks of a compiled workflow, in order, as the specification says.

It knows the workflow's own input, output and time limit, and how the flow goes through its lists: jumps, ends, and
the safe points between two tasks. What holds for one task is in `workflow_runner.step`.

All of this is workflow code: it must do the same thing again when a history is replayed. Time, randomness and
everything outside come through `Engine`.
"""

import asyncio
from datetime import timedelta
from typing import Any

from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import DurationLike, TaskItem, TaskList, Workflow

from workflow_runner.checkpoint import Mark, Marks, Wreck
from workflow_runner.data import Evaluator, Scope, View, length
from workflow_runner.flow import EndOfWorkflow, ListFrame, Outcome, Suspended, TaskFrame
from workflow_runner.messages import Limits, TaskRecord
from workflow_runner.port import Engine
from workflow_runner.reporter import Reporter
from workflow_runner.step import TaskStep, timeout_of

_PACE = 250
"""Cost after which a run of tasks that call nothing lets go: Temporal takes two seconds of computing for a hang."""
_BYTES_PER_COST = 4096


class Interpreter:
    """One run."""

    def __init__(
        self,
        *,
        workflow: Workflow,
        limits: Limits,
        evaluator: Evaluator,
        engine: Engine,
        reporter: Reporter,
        context: Any = None,
        deadline: float | None = None,
        limit: float | None = None,
    ) -> None:
        self.workflow = workflow
        self.limits = limits
        self.evaluator = evaluator
        self.engine = engine
        self.reporter = reporter
        self.context = context
        self.deadline = deadline
        self.limit = limit
        self.marks = Marks()
        self.wreck: Wreck | None = None
        self._cost = 0
        self._progressed = False

    async def execute(self, *, data: Any, frame: ListFrame | None) -> Any:
        """Run the workflow from its raw input, or from `frame`, and return its output.

        Raises:
            WorkflowError: It faults.
            Suspended: It is to be continued from the position that the exception carries.
        """
        scope = Scope()
        if frame is None:
            data = self._take_input(data, scope)
            timeout = timeout_of(self.workflow.timeout, self.workflow, "")
            if timeout is not None:
                self.limit = self._length(timeout, scope).total_seconds()
                self.deadline = self.engine.clock.time() + self.limit
        output = await self._run_in_time(data, scope, frame)
        given = self.workflow.output
        if given is None:
            return output
        if given.as_ is not None:
            output = self.evaluator.transformed(given.as_, output, View(scope=scope, context=self.context))
        check("the workflow's output", output, given.schema_)
        return output

    def _take_input(self, raw: Any, scope: Scope) -> Any:
        given = self.workflow.input
        data = raw
        if given is not None:
            check("the workflow's input", raw, given.schema_)
            if given.from_ is not None:
                data = self.evaluator.transformed(given.from_, raw, View(scope=scope))
        self.context = data
        return data

    def _length(self, value: DurationLike, scope: Scope) -> timedelta:
        def evaluated(part: Any) -> Any:
            return self.evaluator.value(part, None, View(scope=scope, context=self.context))

        return length(value, evaluated, pointer="/timeout")

    async def _run_in_time(self, data: Any, scope: Scope, frame: ListFrame | None) -> Any:
        run = self.run_list(self.workflow.do, "/do", "/do", data, scope, frame)
        try:
            if self.deadline is None:
                return await run
            async with self.engine.clock.limit(self.deadline):
                return await run
        except EndOfWorkflow as end:
            return end.output
        except TimeoutError:
            raise WorkflowError.standard("timeout", "the workflow took longer than its timeout", instance="/") from None

    async def run_list(
        self,
        tasks: TaskList,
        pointer: str,
        prefix: str,
        data: Any,
        scope: Scope,
        frame: ListFrame | None,
        outer: tuple[Mark, TaskFrame] | None = None,
    ) -> Any:
        """Run `tasks`, which stand at `pointer` in the task `outer`; ids of their executions begin with `prefix`."""
        here: ListFrame = frame or {"index": 0, "input": data, "jumps": 0, "visits": {}}
        while here["index"] < len(tasks):
            resumed = here.pop("task", None)
            if resumed is None:
                await self._safe_point(here)
            index = here["index"]
            item = tasks[index]
            at = f"{pointer}/{index}/{_escaped(item.name)}"
            name = f"{prefix}/{index}/{_escaped(item.name)}{_visit(here, index)}"
            mark = Mark({**here, "visits": {**here["visits"]}}, name, item.name, self.context, outer)
            if resumed is None:
                self.marks.note(at, mark)
            try:
                outcome = await self._run_task(item, at, mark, scope, resumed)
            except Suspended as leaving:
                raise Suspended({**here, "task": leaving.frame}) from None  # pyright: ignore[reportArgumentType] - a task's
            here["input"] = outcome.output
            match outcome.then:
                case None | "continue":
                    here["index"] = index + 1
                case "exit":
                    break
                case "end":
                    raise EndOfWorkflow(outcome.output)
                case target:
                    self._jump(tasks, target, at, here)
        return here["input"]

    def _jump(self, tasks: TaskList, target: str, at: str, here: ListFrame) -> None:
        index = next((index for index, item in enumerate(tasks) if item.name == target), None)
        if index is None:
            raise WorkflowError.standard("configuration", f"there is no task {target!r} beside this one", instance=at)
        if index <= here["index"]:
            here["jumps"] += 1
            most = self.limits["max_backward_jumps"]
            if here["jumps"] > most:
                detail = f"more than {most} jumps backwards in one pass through a list, the last to {target!r}"
                raise WorkflowError.standard("runtime", detail, instance=at)
            # Only tasks that a jump brings back are counted: the frame stays small.
            for again in range(index, here["index"] + 1):
                here["visits"][str(again)] = here["visits"].get(str(again), 1) + 1
        here["index"] = index

    async def _safe_point(self, here: ListFrame) -> None:
        """Between two tasks: hold, go on in a new history if this one is long, and let go if much was computed."""
        while self.engine.clock.is_stopped:
            if not await self.engine.until_released():
                raise Suspended({**here})
        if self._progressed and self.engine.continuation_is_due():
            raise Suspended({**here})
        if self._cost >= _PACE or self.reporter.is_full:
            self._cost = 0
            await self.reporter.drain()

    async def _run_task(
        self, item: TaskItem, pointer: str, mark: Mark, scope: Scope, frame: TaskFrame | None
    ) -> Outcome:
        step = TaskStep(self, item, pointer, mark, scope, frame)
        self.wreck = None
        try:
            if frame is None and not step.is_wanted():
                return step.skipped()
            outcome = await step.run()
            self._progressed = True
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

    def record(self, record: TaskRecord) -> None:
        """Note what became of a task."""
        size = self.reporter.add(record)
        self._cost += 1 + size // _BYTES_PER_COST
        self.marks.weigh(record["reference"], size)

    def _wrecked(self, step: TaskStep) -> None:
        """Remember the innermost task that did not end well: from there the run can be recovered."""
        if self.wreck is None:
            self.wreck = Wreck(step.pointer, step.mark, step.done)


def _visit(here: ListFrame, index: int) -> str:
    visit = here["visits"].get(str(index), 1)
    return "" if visit == 1 else f"#{visit}"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
