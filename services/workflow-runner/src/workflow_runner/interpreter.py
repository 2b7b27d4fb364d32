"""The interpreter: runs the tasks of a compiled workflow, in order, as the specification says.

It knows the workflow's own input, output and time limit, and what all of a run shares. How the flow goes through
lists is in `workflow_runner.strand`, and what holds for one task in `workflow_runner.step`.

All of this is workflow code: it must do the same thing again when a history is replayed. Time, randomness and
everything outside come through `Engine`.
"""

import asyncio
from datetime import timedelta
from typing import Any

from stigmer_dsl import schemas
from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.expressions import guard
from stigmer_dsl.model import DurationLike, Workflow

from workflow_runner.checkpoint import Marks, Wreck
from workflow_runner.data import Evaluator, Scope, View, length
from workflow_runner.extensions import Extensions
from workflow_runner.flow import EndOfWorkflow, ListFrame
from workflow_runner.messages import Limits, TaskRecord
from workflow_runner.port import Block, Engine
from workflow_runner.reporter import Reporter
from workflow_runner.step import timeout_of
from workflow_runner.strand import Strand

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
        tasks: int = 0,
    ) -> None:
        self.workflow = workflow
        self.limits = limits
        self.evaluator = evaluator
        self.engine = engine
        self.reporter = reporter
        self.context = context
        self.deadline = deadline
        self.limit = limit
        self.tasks = tasks
        """How many were begun, in earlier histories of the run too."""
        self.extensions = Extensions(workflow)
        self.marks = Marks(limits["max_value_bytes"] // 2) if "max_value_bytes" in limits else Marks()
        self.has_progressed = False
        self._strand = Strand(self)
        self._breath = asyncio.Lock()
        self._cost = 0

    @property
    def wreck(self) -> Wreck | None:
        """Where the run failed."""
        return self._strand.wreck

    async def execute(self, *, data: Any, frame: ListFrame | None) -> Any:
        """Run the workflow from its raw input, or from `frame`, and return its output.

        Raises:
            WorkflowError: It faults.
            Suspended: It is to be continued from the position that the exception carries.
        """
        guard.tells.set(self._tire)
        schemas.most_checks.set(self.limits.get("max_schema_checks", 0))
        scope = Scope()
        if frame is None:
            data = self._take_input(data, scope)
            timeout = timeout_of(self.workflow.timeout, self.workflow, "")
            if timeout is not None:
                seconds = self._length(timeout, scope).total_seconds()
                if self.limit is None or seconds <= self.limit:
                    self.limit = seconds
                    self.deadline = self.engine.clock.time() + seconds
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
        block = Block(self.workflow.do, "/do", "/do", scope)
        try:
            if self.deadline is None:
                return (await self._strand.run_list(block, data, frame)).output
            async with self.engine.clock.limit(self.deadline):
                return (await self._strand.run_list(block, data, frame)).output
        except EndOfWorkflow as end:
            return end.output
        except TimeoutError:
            raise WorkflowError.standard("timeout", "the workflow took longer than its timeout", instance="/") from None

    def count_task(self, pointer: str) -> None:
        """See `Run`."""
        most = self.limits.get("max_tasks", 0)
        if most and self.tasks >= most:
            detail = f"the run has done {most} tasks, which are as many as it may (STIGMER_MAX_TASKS)"
            raise WorkflowError.standard("runtime", detail, instance=pointer)
        self.tasks += 1

    def record(self, record: TaskRecord) -> None:
        """Note what became of a task."""
        size = self.reporter.add(record)
        self.engine.show(record)
        self._cost += 1 + size // _BYTES_PER_COST
        self.marks.weigh(record["reference"], size)

    def _tire(self) -> None:
        """Count an expression that may take long."""
        self.engine.guarded()
        self._cost += self.limits.get("guarded_cost", 0)

    def tell(self) -> None:
        """See `Run`."""
        self.reporter.flush()

    @property
    def is_breathless(self) -> bool:
        """See `Run`."""
        return self._cost >= _PACE or self.reporter.is_full

    async def breathe(self) -> None:
        """See `Run`. One strand after the other: what all compute in one go stays within the same bounds."""
        while self.is_breathless:
            async with self._breath:
                if self.is_breathless:
                    await self.reporter.drain()
                    self._cost = 0
                    return
