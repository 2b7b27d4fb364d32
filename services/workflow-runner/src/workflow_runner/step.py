"""One execution of one task: every rule that holds for tasks of all kinds.

Condition, input, time limit, output, context and reports are here; where the flow goes is the run's, and what a
task does its kind's, in `workflow_runner.tasks`. Workflow code.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import DurationLike, Export, Output, TaskBase, TaskItem, TaskList, TimeoutLike, Workflow

from workflow_runner.branches import Branches
from workflow_runner.call_messages import AgentArguments, ModelAnswer, ModelArguments, Subflow
from workflow_runner.checkpoint import Mark, Wreck
from workflow_runner.data import CurrentTask, Scope, View, iso8601, length
from workflow_runner.extensions import Surroundings
from workflow_runner.flow import Done, Inside, Outcome, Suspended, TaskFrame
from workflow_runner.foreign import ForeignActivity
from workflow_runner.inbox import Answer, Signal
from workflow_runner.ledger import Ledger
from workflow_runner.messages import Limits, TaskRecord
from workflow_runner.port import FUNCTIONS, Block, Strand
from workflow_runner.tasks import kind_of
from workflow_runner.tasks.port import NO_VARIABLES

_INPUT = object()
"""Stands for: evaluate on the task's input."""


class TaskStep:
    """One execution of one task: what its kind sees of it, and what all kinds have in common."""

    def __init__(
        self,
        strand: Strand,
        item: TaskItem,
        pointer: str,
        mark: Mark,
        outer: Scope,
        frame: TaskFrame | None,
    ) -> None:
        raw = mark.here["input"]
        self._strand = strand
        self._run = run = strand.run
        self._task: TaskBase = item.task
        self._kind = kind_of(item.task)
        self.pointer = pointer
        self.mark = mark
        self._id = mark.id
        self._raw = raw
        self._done = frame.get("done") if frame else None
        self._limit = frame.get("limit") if frame else None
        self._child = frame.get("child") if frame else None
        self._branches = frame.get("branches", {}) if frame else {}
        self._around: Surroundings | None = None
        if outer.extended is None:
            self._around = run.extensions.around(item.task, frame.get("around") if frame else None)
        self._deadline = frame["deadline"] if frame else None
        self._started = frame["started_at"] if frame else run.engine.time()
        self._resumed = self._shown = frame is not None
        self.state: dict[str, Any] = frame["state"] if frame else {}
        self.input: Any = frame["input"] if frame else raw
        self._scope = outer
        self._current = CurrentTask(name=item.name, reference=pointer, raw=raw, started_at=self._started)
        self._name = item.name
        self._metadata: dict[str, Any] = {}
        self._question: Mapping[str, Any] | None = None

    # What the run does with it.

    def is_wanted(self) -> bool:
        """Whether the task's condition holds on the raw input; `$input` does not exist yet."""
        condition = self._task.if_
        if condition is None:
            return True
        return self._run.evaluator.condition(condition, self._raw, self._view({}))

    async def run(self) -> Outcome:
        """Do everything from raw input to context; the outcome's output is the transformed one."""
        if not self._resumed:
            self._take_input()
            self._set_deadline()
        given = None if self._around is None else self._around.given
        if given is None:
            if self._done is None:
                self._done = cast("Done", (await self._run_in_time())._asdict())
            outcome = Outcome(**self._done)
            given = Outcome(output=self._give_output(outcome.output), then=outcome.then or self._task.then)
        if self._around is not None:
            if self._done is not None:
                self._current = self._current._replace(output=self._done["output"])
            await self._around.after(self, given)
        return given

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

    def frame(self, inside: Inside | None = None) -> TaskFrame:
        """Return the task's position, with that of what is in progress inside."""
        made: TaskFrame = {
            "id": self._id,
            "input": self.input,
            "started_at": self._started,
            "deadline": self._deadline,
            "state": self.state,
        }
        if self._limit is not None:
            made["limit"] = self._limit
        if self._around is not None:
            made["around"] = self._around.frame
        return cast("TaskFrame", {**made, **inside}) if inside else made

    @property
    def done(self) -> TaskFrame | None:
        """The task's position when its work is done; None before."""
        return None if self._done is None else {**self.frame(), "done": self._done}

    def _take_input(self) -> None:
        given = self._task.input
        if given is None:
            return
        check("the input", self._raw, given.schema_)
        if given.from_ is not None:
            self.input = self._run.evaluator.transformed(given.from_, self._raw, self._view({}))

    def _give_output(self, raw: Any) -> Any:
        given = self._task.output
        output = raw
        if given is None and self._task.export is None:
            return output
        self._current = self._current._replace(output=raw)
        if given is not None:
            if given.as_ is not None:
                view = self._view({"input": self.input})
                output = self._run.evaluator.transformed(given.as_, raw, view)
            check("the output", output, given.schema_)
        if self._task.export is not None:
            self._export(self._task.export, output)
        return output

    def _export(self, export: Export, output: Any, variables: Mapping[str, Any] = NO_VARIABLES) -> None:
        context = self._run.context
        if export.as_ is not None:
            view = self._view({"input": self.input, "output": output, **variables})
            context = self._run.evaluator.transformed(export.as_, output, view)
        check("the context", context, export.schema_)
        self._run.context = context

    def _set_deadline(self) -> None:
        timeout = timeout_of(self._task.timeout, self._run.workflow, self.pointer)
        if timeout is not None:
            self._limit = self.duration(timeout).total_seconds()
            self._deadline = self.time() + self._limit

    async def _run_in_time(self) -> Outcome:
        if self._deadline is None:
            return await self._work()
        try:
            async with self.in_time(self._deadline):
                return await self._work()
        except TimeoutError:
            raise WorkflowError.standard(
                "timeout", "the task took longer than its timeout", instance=self.pointer
            ) from None

    async def _work(self) -> Outcome:
        injected = None if self._around is None else await self._around.before(self, self.input)
        return await self._kind.run(self._task, self) if injected is None else injected

    @property
    def is_inside(self) -> bool:
        """See `Extensible`."""
        return self._child is not None

    async def run_extension(self, pointer: str, label: str, tasks: TaskList, data: Any) -> Outcome:
        """See `Extensible`."""
        self._show_progress()
        scope = self._scope.around(parent=self._id, variables=NO_VARIABLES, iteration=None, attempt=None)
        inside = replace(scope, extended=self._current)
        return await self._run_list(tasks, pointer, f"{self._id}{label}", inside, data)

    async def _run_list(self, tasks: TaskList, pointer: str, prefix: str, scope: Scope, data: Any) -> Outcome:
        child, self._child = self._child, None
        so_far: TaskFrame = {**self.frame(), "state": {**self.state}}
        try:
            return await self._strand.run_list(Block(tasks, pointer, prefix, scope, (self.mark, so_far)), data, child)
        except Suspended as leaving:
            raise Suspended({"child": leaving.frame}) from None

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
            "input": self.input if self._question is None else self._question,
            "started_at": iso8601(self._started),
        }
        if status not in ("IN_PROGRESS", "WAITING_FOR_APPROVAL"):
            record["completed_at"] = iso8601(self._run.engine.time())
        if self._metadata:
            record["metadata"] = self._metadata
        self._run.record(cast("TaskRecord", {**record, **more}))

    # What the kind does with it.

    @property
    def workflow(self) -> Workflow:
        """See `Step`."""
        return self._run.workflow

    @property
    def org(self) -> str:
        """See `Step`."""
        return self._run.engine.org

    @property
    def heard(self) -> Ledger:
        """See `Step`."""
        return self._run.engine.heard

    @property
    def limits(self) -> Limits:
        """See `Step`."""
        return self._run.limits

    def evaluate(self, value: Any, variables: Mapping[str, Any] = NO_VARIABLES) -> Any:
        """See `Step`."""
        view = self._view({"input": self.input, **variables})
        return self._run.evaluator.value(value, self.input, view)

    def evaluate_text(self, text: str, variables: Mapping[str, Any] = NO_VARIABLES, *, on: Any = _INPUT) -> Any:
        """See `Step`."""
        view = self._view({"input": self.input, **variables})
        return self._run.evaluator.text(text, self.input if on is _INPUT else on, view)

    def holds(self, text: str, variables: Mapping[str, Any] = NO_VARIABLES, *, on: Any = _INPUT) -> bool:
        """See `Step`."""
        view = self._view({"input": self.input, **variables})
        return self._run.evaluator.condition(text, self.input if on is _INPUT else on, view)

    def duration(self, value: DurationLike) -> timedelta:
        """See `Step`."""
        return length(value, self.evaluate, pointer=self.pointer)

    def time(self) -> float:
        """See `Step`."""
        return self._run.engine.clock.time()

    def now(self) -> float:
        """See `Step`."""
        return self._run.engine.time()

    def in_time(self, until: float) -> AbstractAsyncContextManager[None]:
        """See `Step`."""
        return self._run.engine.clock.limit(until)

    async def receive(self, matches: Callable[[Signal], bool], *, listener: str = "") -> Signal | None:
        """See `Step`."""
        self._show_progress()
        found = await self._run.engine.receive(matches, listener)
        if found is False:
            raise Suspended
        return None if found is True else found

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        """See `Step`."""
        self._question = question
        self._shown = True
        self._note("WAITING_FOR_APPROVAL")
        answer = await self._run.engine.answer(self._id)
        if answer is None:
            raise Suspended
        return answer

    async def rest(self) -> None:
        """See `Step`."""
        engine = self._run.engine
        while engine.clock.is_stopped:
            if not await engine.until_released():
                raise Suspended
        if engine.strands.is_leaving or engine.continuation_is_due():
            await engine.until_all_leave()
            raise Suspended

    def show(self, metadata: Mapping[str, Any]) -> None:
        """See `Step`."""
        self._metadata = dict(metadata)

    def hand_on(self, output: Output | None, export: Export | None, raw: Any, variables: Mapping[str, Any]) -> Any:
        """See `Step`."""
        given = raw
        if output is not None:
            if output.as_ is not None:
                view = self._view({"input": self.input, **variables})
                given = self._run.evaluator.transformed(output.as_, raw, view)
            check("the output", given, output.schema_)
        if export is not None:
            self._export(export, given, variables)
        return given

    def random(self) -> float:
        """See `Step`."""
        return self._run.engine.random()

    async def sleep(self, length: timedelta) -> None:
        """See `Step`."""
        self._show_progress()
        now = self._run.engine.time()
        until: float | None = self.state.get("wakes_at")
        if until is None:
            self.state["wakes_at"] = now + length.total_seconds()
        else:
            length = timedelta(seconds=until - now)
        if length > timedelta() and not await self._run.engine.sleep(length, key=self.pointer):
            raise Suspended
        del self.state["wakes_at"]

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
        """See `Step`."""
        self._show_progress()
        scope = self._scope.around(parent=self._id, variables=variables, iteration=iteration, attempt=attempt)
        ended = await self._run_list(tasks, self.pointer + path, f"{self._id}{label}{path}", scope, data)
        return ended.output

    async def run_function(self, name: str, task: TaskBase, data: Any) -> Any:
        """See `Step`."""
        self._show_progress()
        # It stands elsewhere: the variables of loops and catches around the call are none of its own.
        scope = replace(self._scope, locals={}, parent=self._id)
        function = TaskItem.model_construct(name=name, task=task)
        return (await self._run_list((function,), FUNCTIONS, f"{self._id}/call", scope, data)).output

    async def run_branches(self, tasks: TaskList, path: str, data: Any, *, compete: bool) -> Any:
        """See `Step`."""
        self._show_progress()
        scope = self._scope.around(parent=self._id, variables=NO_VARIABLES, iteration=None, attempt=None)
        outputs: dict[str, Any] = self.state.setdefault("outputs", {})
        frames, self._branches = self._branches, {}
        so_far: TaskFrame = {**self.frame(), "state": {}, "branches": {}}
        branches = Branches(
            block=Block(tasks, self.pointer + path, f"{self._id}{path}", scope, (self.mark, so_far)),
            data=data,
            frames=frames,
            outputs=outputs,
            compete=compete,
            make=self._strand.another,
            strands=self._run.engine.strands,
            tell=self._run.tell,
        )
        try:
            winner = await branches.run()
        except (WorkflowError, asyncio.CancelledError):
            self._wrecked(branches.wrecks())
            raise
        if compete:
            return None if winner is None else outputs[str(winner)]
        return [outputs[str(index)] for index in range(len(tasks))]

    def _wrecked(self, branches: Mapping[str, Any]) -> None:
        """Note that this fork did not end well, and where its branches were."""
        first = next((branch for branch in branches.values() if isinstance(branch, Wreck)), None)
        if first is not None:
            self._strand.wreck = Wreck(first.reference, self.mark, self._run.context, self.frame(), branches)

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float | None = None
    ) -> Any:
        """See `Step`."""
        self._show_progress()
        left = self._seconds_left() if seconds is None else min(seconds, self._seconds_left())
        answer = await self._run.engine.call(activity, arguments, repeatable=repeatable, seconds=left, key=self.pointer)
        if "error" in answer:
            raise WorkflowError.from_dict(answer["error"]).at(self.pointer)
        return answer.get("output")

    async def ask_model(self, arguments: ModelArguments, *, seconds: float = 0) -> ModelAnswer:
        """See `Step`."""
        self._show_progress()
        left = self._seconds_left() if self._deadline is not None or not seconds else seconds
        answer = await self._run.engine.ask_model(arguments, seconds=min(left, seconds or left), key=self.pointer)
        if "error" in answer:
            raise WorkflowError.from_dict(answer["error"]).at(self.pointer)
        given = cast("ModelAnswer", answer.get("output"))
        self._metadata = {**self._metadata, "model": given["model"], "usage": given["usage"]}
        return given

    async def run_activity(self, activity: ForeignActivity) -> Any:
        """See `Step`."""
        self._show_progress()
        return await self._run.engine.run_activity(activity, seconds=self._seconds_left(), key=self.pointer)

    async def run_workflow(self, subflow: Subflow, *, waits: bool) -> Any:
        """See `Step`."""
        self._show_progress()
        answer = await self._run.engine.run_workflow(subflow, org=self.org, waits=waits, begun=self._show_execution)
        if answer is not None and "error" in answer:
            raise WorkflowError.from_dict(answer["error"]).at(self.pointer)
        return None if answer is None else answer.get("output")

    async def run_agent(self, arguments: AgentArguments) -> Any:
        """See `Step`."""
        self._show_progress()
        answer = await self._run.engine.run_agent(arguments, task_id=self._id, begun=self._show_execution)
        if "error" in answer:
            raise WorkflowError.from_dict(answer["error"]).at(self.pointer)
        return answer.get("output")

    def _show_execution(self, execution: str) -> None:
        self._metadata = {**self._metadata, "execution": execution}
        self._note("IN_PROGRESS")

    def _seconds_left(self) -> float:
        return self.limits["call_seconds"] if self._deadline is None else max(0.0, self._deadline - self.time())

    def _view(self, own: Mapping[str, Any]) -> View:
        return View(scope=self._scope, task=self._scope.extended or self._current, context=self._run.context, own=own)


def timeout_of(timeout: TimeoutLike | None, workflow: Workflow, pointer: str) -> DurationLike | None:
    """Return what a timeout says, or the timeout of `use.timeouts` that it names."""
    if not isinstance(timeout, str):
        return None if timeout is None else timeout.after
    named = workflow.use.timeouts.get(timeout)
    if named is None:
        raise WorkflowError.standard("configuration", f"use.timeouts has no {timeout!r}", instance=pointer)
    return named.after
