"""The workflow type that interprets definitions.

It runs outside the Temporal sandbox, which would cost a quarter to a half of the throughput to guard against
foreign code: this code is ours, uses no clock, no randomness and no input but its argument and what its
activities return, and recorded histories of every kind of task are replayed in the tests.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.secrets import Secrets
from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from workflow_runner import checkpoint as checkpoints
from workflow_runner import names
from workflow_runner.attributes import tell
from workflow_runner.checkpoint import TOLD_BYTES, Basis, Begin, Checkpoint, Part, part_of, renewed
from workflow_runner.clock import Clock
from workflow_runner.control import Control
from workflow_runner.data import Evaluator, iso8601
from workflow_runner.definitions import compiled
from workflow_runner.engine import TemporalEngine
from workflow_runner.errands import ask, deliver, keeps_whole, until_it_works
from workflow_runner.flow import Suspended
from workflow_runner.head import Head
from workflow_runner.inbox import Inbox
from workflow_runner.interpreter import Interpreter
from workflow_runner.messages import (
    MOST_BYTES,
    Driver,
    HeadMessage,
    Invocation,
    LoadAnswer,
    Loaded,
    LoadRequest,
    Over,
    Resumption,
)
from workflow_runner.reporter import Reporter
from workflow_runner.sizes import inline_size, size_of

_ENVELOPE_BYTES = 100
"""What a payload takes besides its value."""


@workflow.defn(name=names.WORKFLOW, sandboxed=False)
class InvokeWorkflow:
    """One execution of a workflow."""

    @workflow.init
    def __init__(self, invocation: Any) -> None:
        """Take what comes before the run does."""
        self._execution = _Execution(cast("Invocation", invocation))

    @workflow.run
    async def run(self, invocation: Any) -> Any:
        """Run what the server asks for and return the workflow's output; null if it is too large for history.

        Raises:
            ApplicationError: The workflow faulted; type and details are those of the problem.
            CancelledError: It was cancelled.
        """
        del invocation
        return await self._execution.run()

    @workflow.signal(name=names.PAUSE)
    def pause(self, message: Any) -> None:
        """Hold the run at the next point between two tasks."""
        self._execution.control.pause(message)

    @workflow.signal(name=names.RESUME)
    def resume(self, message: Any) -> None:
        """Let the run go on."""
        self._execution.control.resume(message)

    @workflow.signal(name=names.SIGNAL)
    def signal(self, message: Any) -> None:
        """Keep a signal for the task that listens for it."""
        self._execution.control.signal(message)

    @workflow.signal(name=names.TOKEN)
    def token(self, message: Any) -> None:
        """Keep the token of an activity that waits for another execution."""
        self._execution.control.token(message)

    @workflow.signal(name=names.ANSWER)
    def answer(self, message: Any) -> None:
        """Keep a person's answer for the task that waits for it."""
        self._execution.control.answer(message)

    @workflow.signal(name=names.EVENT)
    def event(self, message: Any) -> None:
        """Wake the task that listens for events."""
        self._execution.control.wake(message)

    @workflow.query(name=names.CHECKPOINT)
    def checkpoint(self, start: Any) -> Any:
        """Return a part of how far the run got, from a place in its text on."""
        return self._execution.told_checkpoint(int(start))


class _OverError(Exception):
    """The server knows the run to be completed: its last step told so, and Temporal did not take note of that step."""

    def __init__(self, told: Over) -> None:
        super().__init__("the run is over")
        self.told = told


class _Execution:
    """One run of the workflow type, which may be one of several of an execution."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._resume = invocation.get("resume")
        self._started_at = self._resume["started_at"] if self._resume else workflow.time()
        self._engine: TemporalEngine | None = None
        self._interpreter: Interpreter | None = None
        self._state: Resumption | None = None
        self._ended_badly = False
        self._loaded_at: int | None = None
        self._head: HeadMessage | None = None
        resume = self._resume
        self.control = Control(
            Inbox(resume.get("inbox") if resume else None),
            Clock(
                workflow.time,
                behind=resume.get("behind", 0.0) if resume else 0.0,
                stopped=resume.get("held", False) if resume else False,
            ),
        )

    async def run(self) -> Any:
        try:
            output = await self._output()
        except _OverError as over:
            tell(
                over.told,
                org=self._invocation.get("org", ""),
                execution=self._invocation["execution_id"],
                phase="COMPLETED",
            )
            await self._tell_driver()
            return over.told["output"]
        except WorkflowError as error:
            raise await self._fault(error) from None
        except asyncio.CancelledError:
            self._ended_badly = True
            await self._finish(phase="CANCELLED")
            raise
        except FailureError as error:
            if is_cancelled_exception(error):
                self._ended_badly = True
                await self._finish(phase="CANCELLED")
                raise
            # What cannot be loaded or reported for good.
            raise await self._fault(WorkflowError.standard("runtime", str(error.cause or error))) from error
        except Exception as error:
            workflow.logger.exception("the interpreter failed")
            raise await self._fault(WorkflowError.standard("runtime", f"internal error: {error!r}")) from error
        await self._finish(phase="COMPLETED", output=output)
        # The server has it by the report; who looks at the run in Temporal need not know where large values are.
        return output if size_of(output) < self._limits.get("max_inline_bytes", MOST_BYTES) - _ENVELOPE_BYTES else None

    @property
    def _limits(self) -> Mapping[str, Any]:
        return {} if self._state is None else self._state["run"]["limits"]

    @property
    def _most_bytes(self) -> int:
        """What one value may take."""
        return self._limits.get("max_value_bytes", MOST_BYTES)

    async def _fault(self, error: WorkflowError) -> ApplicationError:
        """Tell the server of the fault; return it as Temporal is to have it."""
        details = error.to_dict()
        self._ended_badly = True
        await self._finish(phase="FAILED", error=details, checkpoint=self._checkpoint(failed=True))
        return ApplicationError(str(error), details, type=error.type, non_retryable=True)

    async def _output(self) -> Any:
        self._state = state = self._resume or await self._first_state()
        run = state["run"]
        definition, document = compiled(run["definition"])
        introduction: dict[str, str] = {}
        if self._resume is None:
            name = definition.document.name
            introduction = {"org": run["org"], "workflow": name, "execution": run["execution_id"]}
        # What the document declares and the environment lacks is refused where it is used, by its name.
        secret_names = frozenset((*run["secret_names"], *run["variable_names"], *definition.use.secrets))
        engine = TemporalEngine(
            execution_id=run["execution_id"],
            org=run["org"],
            nonce=state["nonce"],
            has_secrets=bool(secret_names),
            limits=run["limits"],
            control=self.control,
            head=Head(self._head),
            introduction=introduction,
            loaded_at=self._loaded_at,
            loaded_bytes=self._loaded_bytes(run),
        )
        self._engine = engine
        evaluator = Evaluator(
            execution_id=run["execution_id"],
            definition=document,
            raw=run["input"],
            started_at=state["started_at"],
            secrets=Secrets(names=secret_names, nonce=state["nonce"]),
            mode=definition.evaluate.mode,
        )
        self._interpreter = interpreter = Interpreter(
            workflow=definition,
            limits=run["limits"],
            evaluator=evaluator,
            engine=engine,
            reporter=engine.reporter,
            context=state["context"],
            deadline=state["deadline"],
            limit=state.get("limit"),
            tasks=state.get("tasks", 0),
        )
        try:
            return await interpreter.execute(data=run["input"], frame=state.get("frame"))
        except Suspended as suspended:
            await engine.reporter.drain()
            resume: Resumption = {
                **state,
                "context": interpreter.context,
                "deadline": interpreter.deadline,
                "limit": interpreter.limit,
                "frame": suspended.frame,
                **self.control.state,
            }
            if "max_tasks" in run["limits"]:
                resume["tasks"] = interpreter.tasks
            size = size_of(resume)
            if size > self._most_bytes:
                detail = f"the run's data takes {size} bytes, more than the {self._most_bytes} that a run can carry on"
                raise WorkflowError.standard("runtime", detail) from None
            await self._keep_marks()
            driver = {} if (told := self._driver) is None else {"driver": told}
            workflow.continue_as_new({**self._invocation, **driver, "resume": resume})

    def _loaded_bytes(self, run: Loaded) -> int:
        """Return what goes into history for the loading of the run when it first lets go; runs of before do not ask."""
        if self._loaded_at is None or "max_sent_bytes" not in run["limits"]:
            return 0
        size = len(run["definition"]) + size_of((run["input"], self._head))
        return inline_size(size, run["limits"].get("max_inline_bytes", 0))

    async def _first_state(self) -> Resumption:
        request: LoadRequest = {
            "execution_id": self._invocation["execution_id"],
            "org": self._invocation.get("org", ""),
            "started_at": iso8601(self._started_at),
            "workflow_id": workflow.info().workflow_id,
        }
        # Not for a driver, whose limit of time the activity does not know.
        if self._driver is None and not self.control.is_held:
            request["goes_ahead_from"] = self._started_at
        loaded, is_kept = await ask(names.LOAD, request)
        answer: LoadAnswer = loaded
        # Not the length before: while the server is slow Temporal is given signs of life, which no replay comes by.
        self._loaded_at = None if is_kept else workflow.info().get_current_history_length()
        if "over" in answer:
            raise _OverError(answer["over"])
        if "run" not in answer:
            raise WorkflowError.from_dict(answer.get("error", {}))
        if "begin" in answer:
            return self._recovered(answer["run"], answer["begin"])
        limit = None if (driver := self._driver) is None else driver["seconds"]
        self._head = answer.get("head")
        if self._head and "end" in self._head:
            self.control.let_go()
        return {
            "run": answer["run"],
            "nonce": self._head["nonce"] if self._head else workflow.uuid4().hex,
            "started_at": self._started_at,
            "context": None,
            "deadline": None if limit is None else self._started_at + limit,
            "limit": limit,
        }

    @property
    def _driver(self) -> Driver | None:
        """The workflow that asked for this one, with the token of the latest attempt of its activity."""
        found = self._invocation.get("driver")
        return None if found is None else {**found, "token": self.control.tokens.get(names.DRIVER, found["token"])}

    def _recovered(self, run: Loaded, begin: Begin) -> Resumption:
        """Return the state in which a recovered run begins: that of the run before it, with all its time anew."""
        now, limit = self.control.clock.time(), begin["limit"]
        if not begin.get("anew"):
            self._started_at = begin["started_at"]
            self.control.inbox.restore(begin["inbox"])
        return {
            "run": run,
            "nonce": begin["nonce"],
            "started_at": self._started_at,
            "context": begin["context"],
            "deadline": None if limit is None else now + limit,
            "limit": limit,
            "frame": renewed(begin["frame"], now),
        }

    async def _keep_marks(self) -> None:
        """Have the marks of this history kept: the next one begins without them."""
        checkpoint = self._checkpoint(failed=False)
        if checkpoint is not None and workflow.patched("checkpoints"):
            info = workflow.info()
            execution = self._invocation["execution_id"]
            await deliver(
                {"execution_id": execution, "workflow_id": info.workflow_id, "tasks": [], "checkpoint": checkpoint}
            )

    def _checkpoint(self, *, failed: bool, fits: Callable[[int], bool] | None = None) -> Checkpoint | None:
        interpreter, state = self._interpreter, self._state
        if interpreter is None or state is None:
            return None
        most = max(self._most_bytes, checkpoints.MOST_BYTES)
        basis: Basis = {
            "definition": state["run"]["definition"],
            "input": state["run"]["input"],
            "nonce": state["nonce"],
            "started_at": state["started_at"],
            "limit": interpreter.limit,
            "inbox": self.control.inbox.state,
        }
        wreck = interpreter.wreck if failed else None
        return interpreter.marks.checkpoint(
            basis, wreck, fits=fits or (lambda size: size <= most and keeps_whole(size))
        )

    def told_checkpoint(self, start: int) -> Part:
        """Return a part of where another execution could begin; what goes well counts as much as what fails."""
        most = self._limits.get("max_inline_bytes", MOST_BYTES) // 2
        return part_of(self._checkpoint(failed=self._ended_badly, fits=lambda size: size <= TOLD_BYTES), start, most)

    async def _finish(self, **end: Any) -> None:
        """Tell the server how the run ended. Whoever cancels it meanwhile comes too late, and the end stands."""
        telling = asyncio.create_task(self._tell_end(**end))
        try:
            await asyncio.shield(telling)
        except asyncio.CancelledError:
            await telling

    async def _tell_end(self, **end: Any) -> None:
        """Tell the server how the run ended, after everything that happened in it."""
        execution, run = self._invocation["execution_id"], workflow.info().workflow_id
        engine = self._engine
        tell(self._limits, **({} if engine is None else engine.introduction), phase=end["phase"])
        reporter = engine.reporter if engine is not None else Reporter(execution, deliver, workflow_id=run)
        try:
            await reporter.finish(
                deliver if engine is None else engine.tell_end,
                **end,
                started_at=iso8601(self._started_at),
                completed_at=iso8601(workflow.time()),
                workflow_id=run,
            )
        finally:
            await self._tell_driver()

    async def _tell_driver(self) -> None:
        execution, told = self._invocation["execution_id"], ""
        # Meanwhile a later attempt may have come, with another token: it would wait for ever.
        while (driver := self._driver) is not None and (token := driver["token"]) != told:
            # Not in the step that led to it: whoever is told may go on at once.
            await until_it_works(names.TELL_DRIVER, {"execution_id": execution, "token": token})
            told = token
