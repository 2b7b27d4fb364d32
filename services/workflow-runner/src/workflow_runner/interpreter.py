"""The interpreter: runs the tasks of a compiled workflow, in order, as the specification says.

It knows every rule that holds for tasks of all kinds: conditions, input, output, context, flow, time limits,
reports, positions. What a task does is its kind's, in `workflow_runner.tasks`.

All of this is workflow code: it must do the same thing again when a history is replayed. Time, randomness and
everything outside come through `Engine`.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Protocol, cast

from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import DurationLike, Export, TaskBase, TaskItem, TaskList, TimeoutLike, Workflow

from workflow_runner.checkpoint import Mark, Marks, Wreck
from workflow_runner.clock import Clock
from workflow_runner.data import CurrentTask, Evaluator, Scope, View, iso8601, length
from workflow_runner.flow import Done, EndOfWorkflow, ListFrame, Outcome, Suspended, TaskFrame
from workflow_runner.inbox import Signal
from workflow_runner.messages import CallAnswer, Limits, TaskRecord
from workflow_runner.reporter import Reporter
from workflow_runner.tasks import kind_of
from workflow_runner.tasks.port import NO_VARIABLES

_INPUT = object()
"""Stands for: evaluate on the task's input."""
_PACE = 250
"""Cost after which a run of tasks that call nothing lets go: Temporal takes two seconds of computing for a hang."""
_BYTES_PER_COST = 4096


class Engine(Protocol):
    """What the interpreter needs from the durable engine."""

    def time(self) -> float:
        """Return the time of the world, in seconds since the epoch; the same when replayed."""
        ...

    @property
    def clock(self) -> Clock:
        """The run's own time, which stands still while the run is held."""
        ...

    async def until_released(self) -> bool:
        """Wait until the run is no longer held; False: it still is, but should go on in a new history first."""
        ...

    async def receive(self, matches: Callable[[Signal], bool]) -> Signal | None:
        """Wait for a signal and take it; None: there is none yet, but the run should go on in a new history first."""
        ...

    def random(self) -> float:
        """Return a number from 0 to 1; the same when replayed."""
        ...

    def continuation_is_due(self) -> bool:
        """Whether the history has become so long that the run should go on in a new one."""
        ...

    async def sleep(self, length: timedelta) -> None:
        """Wait durably."""
        ...

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float, key: str
    ) -> CallAnswer:
        """Make a call and return its answer; `key` names the task, for what is known of its calls."""
        ...


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
            timeout = _timeout(self.workflow.timeout, self.workflow, "")
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
        step = _Step(self, item, pointer, mark, scope, frame)
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

    def _wrecked(self, step: "_Step") -> None:
        """Remember the innermost task that did not end well: from there the run can be recovered."""
        if self.wreck is None:
            self.wreck = Wreck(step.pointer, step.mark, step.done)


class _Step:
    """One execution of one task: what its kind sees of it, and what all kinds have in common."""

    def __init__(
        self,
        interpreter: Interpreter,
        item: TaskItem,
        pointer: str,
        mark: Mark,
        outer: Scope,
        frame: TaskFrame | None,
    ) -> None:
        raw = mark.here["input"]
        self._interpreter = interpreter
        self._task: TaskBase = item.task
        self._kind = kind_of(item.task)
        self.pointer = pointer
        self.mark = mark
        self._id = mark.id
        self._raw = raw
        self._done = frame.get("done") if frame else None
        self._limit = frame.get("limit") if frame else None
        self._child = frame.get("child") if frame else None
        self._deadline = frame["deadline"] if frame else None
        self._started = frame["started_at"] if frame else interpreter.engine.time()
        self._resumed = self._shown = frame is not None
        self.state: dict[str, Any] = frame["state"] if frame else {}
        self.input: Any = frame["input"] if frame else raw
        self._scope = outer
        self._current = CurrentTask(name=item.name, reference=pointer, raw=raw, started_at=self._started)
        self._name = item.name

    # What the interpreter does with it.

    def is_wanted(self) -> bool:
        """Whether the task's condition holds on the raw input; `$input` does not exist yet."""
        condition = self._task.if_
        if condition is None:
            return True
        return self._interpreter.evaluator.condition(condition, self._raw, self._view({}))

    async def run(self) -> Outcome:
        """Do everything from raw input to context; the outcome's output is the transformed one."""
        if not self._resumed:
            self._take_input()
            self._set_deadline()
        if self._done is None:
            self._done = cast("Done", (await self._run_in_time())._asdict())
        outcome = Outcome(**self._done)
        return Outcome(output=self._give_output(outcome.output), then=outcome.then or self._task.then)

    def skipped(self) -> Outcome:
        """Note that the condition did not hold; the raw input passes through."""
        self._note("SKIPPED", output=self._raw)
        return Outcome(output=self._raw)

    def completed(self, outcome: Outcome) -> Outcome:
        """Note success."""
        self._note("COMPLETED", output=outcome.output)
        return outcome

    def ended(self, output: Any) -> None:
        """Note that a task inside ended the workflow."""
        self._note("COMPLETED", output=output)

    def failed(self, error: WorkflowError) -> WorkflowError:
        """Note failure."""
        self._note("FAILED", error=error.to_dict())
        return error

    def frame(self, child: Any) -> TaskFrame:
        """Return the task's position while `child` is that of the list in progress inside."""
        made: TaskFrame = {
            "id": self._id,
            "input": self.input,
            "started_at": self._started,
            "deadline": self._deadline,
            "state": self.state,
        }
        if self._limit is not None:
            made["limit"] = self._limit
        if child is not None:
            made["child"] = child
        return made

    @property
    def done(self) -> TaskFrame | None:
        """The task's position when its work is done; None before."""
        return None if self._done is None else {**self.frame(None), "done": self._done}

    def _take_input(self) -> None:
        given = self._task.input
        if given is None:
            return
        check("the input", self._raw, given.schema_)
        if given.from_ is not None:
            self.input = self._interpreter.evaluator.transformed(given.from_, self._raw, self._view({}))

    def _give_output(self, raw: Any) -> Any:
        given = self._task.output
        output = raw
        if given is None and self._task.export is None:
            return output
        self._current = self._current._replace(output=raw)
        if given is not None:
            if given.as_ is not None:
                view = self._view({"input": self.input})
                output = self._interpreter.evaluator.transformed(given.as_, raw, view)
            check("the output", output, given.schema_)
        if self._task.export is not None:
            self._export(self._task.export, output)
        return output

    def _export(self, export: Export, output: Any) -> None:
        if export.as_ is not None:
            view = self._view({"input": self.input, "output": output})
            self._interpreter.context = self._interpreter.evaluator.transformed(export.as_, output, view)
        check("the context", self._interpreter.context, export.schema_)

    def _set_deadline(self) -> None:
        timeout = _timeout(self._task.timeout, self._interpreter.workflow, self.pointer)
        if timeout is not None:
            self._limit = self.duration(timeout).total_seconds()
            self._deadline = self.time() + self._limit

    async def _run_in_time(self) -> Outcome:
        if self._deadline is None:
            return await self._kind.run(self._task, self)
        try:
            async with self.in_time(self._deadline):
                return await self._kind.run(self._task, self)
        except TimeoutError:
            raise WorkflowError.standard(
                "timeout", "the task took longer than its timeout", instance=self.pointer
            ) from None

    def _show_progress(self) -> None:
        """Note that the task is in progress, once, and only if it is for longer than a moment."""
        if not self._shown:
            self._shown = True
            self._note("IN_PROGRESS")

    def _note(self, status: Any, **more: Any) -> None:
        record: TaskRecord = {
            "id": self._id,
            "name": self._name,
            "kind": self._task.kind,
            "type": self._kind.type,
            "reference": self.pointer,
            "parent": self._scope.parent,
            "iteration": self._scope.iteration,
            "attempt": self.state.get("attempt", self._scope.attempt),
            "status": status,
            "input": self.input,
            "started_at": iso8601(self._started),
        }
        if status != "IN_PROGRESS":
            record["completed_at"] = iso8601(self._interpreter.engine.time())
        self._interpreter.record(cast("TaskRecord", {**record, **more}))

    # What the kind does with it.

    @property
    def workflow(self) -> Workflow:
        return self._interpreter.workflow

    @property
    def limits(self) -> Limits:
        return self._interpreter.limits

    def evaluate(self, value: Any, variables: Mapping[str, Any] = NO_VARIABLES) -> Any:
        view = self._view({"input": self.input, **variables})
        return self._interpreter.evaluator.value(value, self.input, view)

    def evaluate_text(self, text: str, variables: Mapping[str, Any] = NO_VARIABLES, *, on: Any = _INPUT) -> Any:
        view = self._view({"input": self.input, **variables})
        return self._interpreter.evaluator.text(text, self.input if on is _INPUT else on, view)

    def holds(self, text: str, variables: Mapping[str, Any] = NO_VARIABLES, *, on: Any = _INPUT) -> bool:
        view = self._view({"input": self.input, **variables})
        return self._interpreter.evaluator.condition(text, self.input if on is _INPUT else on, view)

    def duration(self, value: DurationLike) -> timedelta:
        return length(value, self.evaluate, pointer=self.pointer)

    def time(self) -> float:
        return self._interpreter.engine.clock.time()

    def in_time(self, until: float) -> AbstractAsyncContextManager[None]:
        return self._interpreter.engine.clock.limit(until)

    async def receive(self, matches: Callable[[Signal], bool]) -> Signal:
        self._show_progress()
        signal = await self._interpreter.engine.receive(matches)
        if signal is None:
            raise Suspended
        return signal

    def random(self) -> float:
        return self._interpreter.engine.random()

    async def sleep(self, length: timedelta) -> None:
        self._show_progress()
        await self._interpreter.engine.sleep(length)

    async def run_tasks(
        self,
        tasks: TaskList,
        path: str,
        data: Any,
        *,
        label: str = "",
        variables: Mapping[str, Any] = NO_VARIABLES,
        iteration: int | None = None,
        attempt: int | None = None,
    ) -> Any:
        self._show_progress()
        scope = self._scope.around(parent=self._id, variables=variables, iteration=iteration, attempt=attempt)
        child, self._child = self._child, None
        prefix = f"{self._id}{label}{path}"
        so_far: TaskFrame = {**self.frame(None), "state": {**self.state}}
        return await self._interpreter.run_list(
            tasks, self.pointer + path, prefix, data, scope, child, (self.mark, so_far)
        )

    async def call(self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        self._show_progress()
        seconds = self.limits["call_seconds"] if self._deadline is None else max(0.0, self._deadline - self.time())
        answer = await self._interpreter.engine.call(
            activity, arguments, repeatable=repeatable, seconds=seconds, key=self.pointer
        )
        if "error" in answer:
            raise WorkflowError.from_dict(answer["error"]).at(self.pointer)
        return answer.get("output")

    def _view(self, own: Mapping[str, Any]) -> View:
        return View(scope=self._scope, task=self._current, context=self._interpreter.context, own=own)


def _timeout(timeout: TimeoutLike | None, workflow: Workflow, pointer: str) -> DurationLike | None:
    if not isinstance(timeout, str):
        return None if timeout is None else timeout.after
    named = workflow.use.timeouts.get(timeout)
    if named is None:
        raise WorkflowError.standard("configuration", f"use.timeouts has no {timeout!r}", instance=pointer)
    return named.after


def _visit(here: ListFrame, index: int) -> str:
    visit = here["visits"].get(str(index), 1)
    return "" if visit == 1 else f"#{visit}"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
