"""What the interpreter needs from the durable engine, given by Temporal."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, TypeVar, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.secrets import find_secrets
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from workflow_runner import names
from workflow_runner.activities.calls import NOT_SENT
from workflow_runner.activities.heartbeat import CALL_SECONDS
from workflow_runner.attributes import tell
from workflow_runner.clock import Clock
from workflow_runner.control import Control
from workflow_runner.errands import (
    FIRST_PAUSE,
    FOREVER,
    LOCAL_LIMIT,
    ONCE,
    application_error,
    deliver,
    deliver_durably,
    fits,
    keeps_whole,
    longer,
    until_it_works,
)
from workflow_runner.executions import Executions
from workflow_runner.foreign import ForeignActivity, decoded, failure
from workflow_runner.inbox import Answer, Signal
from workflow_runner.ledger import Ledger
from workflow_runner.loans import LOANS
from workflow_runner.messages import (
    MOST_BYTES,
    AgentArguments,
    AgentRequest,
    Call,
    CallAnswer,
    Limits,
    ModelArguments,
    ModelRequest,
    Report,
    Subflow,
    TaskRecord,
)
from workflow_runner.models import ask_model
from workflow_runner.page import Page, summary
from workflow_runner.reporter import Reporter
from workflow_runner.room import Room
from workflow_runner.sizes import Sizes, size_of
from workflow_runner.strands import Rest, Strands

_Taken = TypeVar("_Taken")

_SPARE_SECONDS = 15.0
"""What an activity has beyond the time of its call: to start, to fetch secrets, to answer."""
_REPORT_SECONDS = 0.25
"""After so long without one, a report goes with the next call in any case."""
_MOMENT_SECONDS = 0.05
"""A call that takes longer takes its report along, so that people see what is waited for."""
_MOST_COMPANION_BYTES = 64 * 1024
"""Up to here a report goes along in the message of a call."""
_MOST_LENT_BYTES = 512 * 1024
"""Up to here it is lent to a local one, where it is in no message."""
_MOST_ROW_BYTES = 512 * 1024
"""What finished local calls may hold together: they go into history in one message, of four million bytes at most."""
_MOST_CALLS = 1_000
"""What one run may have in flight: Temporal refuses more than two thousand."""
_LARGE_BYTES = 4 * 1024 * 1024
_MOMENT = timedelta(milliseconds=1)
_SHOWN_SLEEP = timedelta(milliseconds=500)
"""A shorter sleep is over before anybody has seen it."""


class TemporalEngine:
    """The engine of one run.

    Calls that may be repeated go as local activities, several times faster than ordinary ones, but not in
    history until the workflow task that made them ends. So after a number of them in a row one goes as an
    ordinary activity, which puts all before it into history: a killed worker repeats no more than that many
    finished calls. Calls that must not be repeated, and those of branches side by side, always go as ordinary,
    heartbeating activities.
    """

    def __init__(
        self,
        *,
        execution_id: str,
        org: str,
        nonce: str,
        has_secrets: bool,
        limits: Limits,
        control: Control,
        loaded_at: int | None = None,
        loaded_bytes: int = 0,
    ) -> None:
        """Serve one run.

        `loaded_at` is how long the history was when the run had been loaded, unless that is in it already; it goes
        there with the first calls, and takes `loaded_bytes`.
        """
        self.org = org
        self._loaded_at = loaded_at
        self._execution_id = execution_id
        self._nonce = nonce
        self._has_secrets = has_secrets
        self._limits = limits
        self._control = control
        self._slow: set[str] = set()
        self._in_row = 0
        self._row_bytes = loaded_bytes
        self._history_length = loaded_at or 0
        self._reported_at = workflow.time()
        self._calls = asyncio.Semaphore(_MOST_CALLS)
        self._is_told_held = False
        self._page = Page()
        self.strands = Strands()
        self._sizes = Sizes()
        self._room = Room(limits)
        self._executions = Executions(until_it_works, control.tokens, self._room_for)
        self.reporter = Reporter(
            execution_id,
            deliver,
            may_hold_markers=has_secrets,
            workflow_id=workflow.info().workflow_id,
            sizes=self._sizes,
            truncates="max_value_bytes" in limits,
            keeps=keeps_whole,
            replaces=limits.get("replaces_tasks", False),
        )

    def time(self) -> float:
        """See `Engine`."""
        return workflow.time()

    def random(self) -> float:
        """See `Engine`."""
        return workflow.random().random()

    def continuation_is_due(self) -> bool:
        """See `Engine`."""
        info = workflow.info()
        most = self._limits["max_history_events"]
        return info.is_continue_as_new_suggested() or (most > 0 and info.get_current_history_length() >= most)

    @property
    def clock(self) -> Clock:
        """See `Engine`."""
        return self._control.clock

    async def until_all_leave(self) -> None:
        """See `Engine`."""
        with self.strands.rest() as rest:
            rest.wish()
            if not self.strands.is_leaving:
                self.reporter.flush()
                await workflow.wait_condition(lambda: self.strands.is_leaving)

    async def until_released(self) -> bool:
        """See `Engine`."""
        if not self._is_told_held:
            self._is_told_held = True
            self.reporter.say("PAUSED")
            tell(self._limits, phase="PAUSED")
        with self.strands.rest() as rest:
            await workflow.wait_condition(lambda: not self._control.is_held or self._must_leave(rest))
        if self._is_told_held and not self._control.is_held:
            tell(self._limits, phase="IN_PROGRESS")
        self._is_told_held = False
        return not self._control.is_held and not self.strands.is_leaving

    def _must_leave(self, rest: Rest) -> bool:
        """Whether a strand that rests leaves now; it asks to when continuation is due."""
        if self.continuation_is_due():
            rest.wish()
        return self.strands.is_leaving

    @property
    def heard(self) -> Ledger:
        """See `Engine`."""
        return self._control.inbox.heard

    async def receive(self, matches: Callable[[Signal], bool], listener: str) -> Signal | bool:
        """See `Engine`."""
        inbox = self._control.inbox
        return await self._taken(lambda: inbox.take_signal(matches) or inbox.take_wake(listener)) or False

    async def answer(self, task_id: str) -> Answer | None:
        """See `Engine`."""
        return await self._taken(lambda: self._control.inbox.take_answer(task_id)) or None

    async def _taken(self, take: Callable[[], _Taken]) -> _Taken:
        """Wait until `take` gives something, and return it; or what it gave last, if the strand must leave."""
        found = take()
        if found:
            return found
        self.reporter.flush(deliver_durably)
        with self.strands.rest() as rest:

            def has_come() -> bool:
                nonlocal found
                if self.strands.is_leaving:
                    return True
                found = take()
                if not found:
                    return self._must_leave(rest)
                rest.end()
                return True

            await workflow.wait_condition(has_come)
        return found

    def show(self, record: TaskRecord) -> None:
        """See `Engine`."""
        self._page.note(record)

    async def sleep(self, length: timedelta, *, key: str) -> bool:
        """See `Engine`.

        The report of a longer sleep is an ordinary activity: it can only begin once Temporal has the timer
        and all before it. So what people see waiting has been kept, and no kill makes it happen again.
        """
        if length >= _SHOWN_SLEEP:
            self.reporter.flush(deliver_durably)
        if not self.strands.are_several:
            await workflow.sleep(length, summary=summary(key))
            return True
        with self.strands.rest(), contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self.strands.is_leaving, timeout=length, timeout_summary=summary(key))
        return not self.strands.is_leaving

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float, key: str
    ) -> CallAnswer:
        """See `Engine`."""
        size = self._checked_size(arguments, "the call takes")
        call: Call = {
            "execution_id": self._execution_id,
            "has_secrets": self._has_secrets,
            "nonce": self._nonce,
            "arguments": dict(arguments),
            "seconds": seconds,
            "local_seconds": None,
            "report": None,
            "report_after": 0,
        }
        if run := _recovery():
            call["run"] = run
        try:
            async with self._calls:
                if repeatable and key not in self._slow and self._may_stay_local():
                    answer = await self._call_locally(activity, call, key)
                    if answer is not None:
                        return answer
                    self._slow.add(key)
                async with self._room.taken(size):
                    return await self._call_durably(activity, call, key, repeatable=repeatable)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            raise

    async def run_workflow(self, subflow: Subflow, *, org: str, waits: bool) -> CallAnswer | None:
        """See `Engine`."""
        self._refuse_secrets(subflow["input"], "the input holds", "another workflow has secrets of its own")
        if "max_agent_bytes" in self._limits:
            self._checked_size(subflow["input"], "the input takes")
        self.reporter.flush(deliver_durably)
        request = {**subflow, "org": org, "key": workflow.uuid4().hex}
        if waits:
            return await self._executions.run(names.START_EXECUTION, request)
        await self._executions.start(names.START_EXECUTION, request)
        return None

    async def run_agent(self, arguments: AgentArguments, *, task_id: str, begun: Callable[[str], None]) -> CallAnswer:
        """See `Engine`."""
        self._refuse_too_much(arguments)
        run = workflow.info().workflow_id
        request: AgentRequest = {
            "execution_id": self._execution_id,
            "run": _recovery(),
            "has_secrets": self._has_secrets,
            "nonce": self._nonce,
            "org": self.org,
            "arguments": arguments,
            # The same for the same execution of the same task, whatever becomes of histories.
            "key": hashlib.sha256(f"{run} {task_id}".encode()).hexdigest(),
        }

        def tell(execution: str) -> None:
            begun(execution)
            self.reporter.flush(deliver_durably)

        return await self._executions.run(names.START_AGENT, request, begun=tell)

    async def ask_model(self, arguments: ModelArguments, *, seconds: float, key: str) -> CallAnswer:
        """See `Engine`."""
        size = self._checked_size(arguments, "the question takes")
        self.reporter.flush()
        request: ModelRequest = {
            "execution_id": self._execution_id,
            "run": _recovery(),
            "nonce": self._nonce,
            "arguments": arguments,
            "seconds": seconds,
        }
        async with self._calls, self._room.taken(size):
            return await ask_model(request, self._limits, summary(key))

    def _room_for(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[None]:
        """Return the room for what an execution is started with."""
        return self._room.taken(size_of(request)) if "max_agent_bytes" in self._limits else contextlib.nullcontext()

    def _refuse_too_much(self, arguments: AgentArguments) -> None:
        most = self._limits.get("max_agent_bytes")
        if most is not None and (size := size_of(arguments)) > most:
            detail = (
                f"message, environment and settings of the agent {arguments['agent']} take {size} bytes, more than "
                f"the {most} that an agent can be given: say where it can fetch the rest"
            )
            raise WorkflowError.standard("configuration", detail)

    async def run_activity(self, activity: ForeignActivity, *, seconds: float, key: str) -> Any:
        """See `Engine`."""
        self._refuse_secrets(
            activity.arguments, "the arguments hold", "secrets are not given to activities of other workers"
        )
        size = self._checked_size(activity.arguments, "the arguments take")
        self.reporter.flush(deliver_durably)
        options = activity.options
        try:
            async with self._room.taken(size) if "max_sent_bytes" in self._limits else contextlib.nullcontext():
                result: RawValue = await workflow.execute_activity(
                    activity.name,
                    args=activity.arguments,
                    result_type=RawValue,
                    task_queue=activity.task_queue,
                    start_to_close_timeout=options.start_to_close(seconds),
                    schedule_to_close_timeout=options.schedule_to_close_timeout,
                    schedule_to_start_timeout=options.schedule_to_start_timeout,
                    heartbeat_timeout=options.heartbeat_timeout,
                    retry_policy=options.retry_policy.policy(),
                    summary=options.summary or summary(key),
                    priority=options.precedence(),
                )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            raise failure(activity, error) from None
        return decoded(result.payload)

    async def tell_end(self, report: Report) -> None:
        """Tell the server how the run ended, once all that led to it is in history.

        A runner that is killed in this moment would have the next one make the last local calls again, whose answers
        may be others: the run could go on, and do more, after it was said to be over. Not so where it would have to
        be loaded again too: the server gives nobody a run that is over.
        """
        if self._limits.get("ends_durably") and self._in_row and not self._is_kept() and not self._would_load_again():
            if fits(report):
                await deliver_durably(report)
                return
            await workflow.sleep(_MOMENT)
        await deliver(report)

    def _would_load_again(self) -> bool:
        """Whether even the loading of the run is not in history: all of it has been one workflow task so far."""
        length = workflow.info().get_current_history_length()
        return "ends_once" in self._limits and length == self._loaded_at

    def _is_kept(self) -> bool:
        """Whether the local calls so far are in history: a longer one means that the last workflow task ended."""
        length = workflow.info().get_current_history_length()
        is_kept = length != self._history_length
        self._history_length = length
        return is_kept

    def _refuse_secrets(self, value: Any, holds: str, why: str) -> None:
        """Refuse what goes where no secret may go; `holds` names it, with its verb."""
        if found := find_secrets(value, nonce=self._nonce):
            raise WorkflowError.standard("authorization", f"{holds} {', '.join(sorted(found))}: {why}")

    def _checked_size(self, value: Any, takes: str) -> int:
        """Return what a value takes, and refuse one that is too large; `takes` names it, with its verb."""
        size, most = size_of(value), self._limits.get("max_value_bytes", MOST_BYTES)
        if size > most:
            detail = f"{takes} {size} bytes, more than the {most} that can be kept"
            raise WorkflowError.standard("configuration", detail)
        return size

    def _may_stay_local(self) -> bool:
        # What other strands ask of Temporal waits until a local call is over, even a timer.
        if self.strands.are_several and (self.strands.are_resting or "local_branch_seconds" not in self._limits):
            return False
        if self._is_kept():
            self._in_row = self._row_bytes = 0
        # Calls that are in flight together are no more than a kill repeats anyway.
        most = max(self._limits["local_calls_in_row"], self.strands.count if self.strands.are_several else 0)
        return self._in_row < most and self._row_bytes < _MOST_ROW_BYTES

    async def _call_locally(self, activity: str, call: Call, key: str) -> CallAnswer | None:
        """Return the answer, or None when the call takes an ordinary activity."""
        self._in_row += 1
        bound = "local_branch_seconds" if self.strands.are_several else "local_call_seconds"
        local: Call = {**call, "local_seconds": self._limits.get(bound, self._limits["local_call_seconds"])}
        if self.strands.are_several:
            local["inline_bytes"] = self._limits.get("max_inline_bytes", 0)
            local["local_bytes"] = self._room.share(self._row_bytes, self.strands.count)
        try:
            async with self._accompanied(local, lends=True) as settle:
                answer = await workflow.execute_local_activity(
                    activity,
                    local,
                    start_to_close_timeout=LOCAL_LIMIT,
                    retry_policy=ONCE,
                    summary=summary(key),
                )
                settle(answer)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            return None
        size = answer.get("bytes", 0)
        self._row_bytes += self._room.inline(size)
        if size >= _LARGE_BYTES and "max_inline_bytes" in self._limits:
            # Ends this step, which keeps the answer: working on with it may take longer than a step may.
            await workflow.sleep(_MOMENT)
        return None if answer.get("slow") else cast("CallAnswer", answer)

    async def _call_durably(self, activity: str, call: Call, key: str, *, repeatable: bool) -> CallAnswer:
        limit = timedelta(seconds=call["seconds"] + _SPARE_SECONDS)
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._accompanied(call, lends=False) as settle:
                    answer = await workflow.execute_activity(
                        activity,
                        call,
                        start_to_close_timeout=limit,
                        heartbeat_timeout=timedelta(seconds=CALL_SECONDS),
                        retry_policy=FOREVER if repeatable else ONCE,
                        summary=summary(key),
                    )
                    settle(answer)
                return cast("CallAnswer", answer)
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise
                if not _was_not_sent(error):
                    return {"error": _unknown_outcome(error).to_dict()}
            await workflow.sleep(pause)
            pause = longer(pause)

    @contextlib.asynccontextmanager
    async def _accompanied(self, call: Call, *, lends: bool) -> AsyncGenerator[Callable[[CallAnswer], None]]:
        """Let a report travel with `call`, or lend it; it waits on unless the answer says that it was delivered."""
        # Of several reports on their way at once an older one might come last.
        if self.strands.are_several:
            self.reporter.flush()
            yield lambda _: None
            return
        lends_more = lends and "lends_reports" in self._limits
        report = self.reporter.lend(_MOST_LENT_BYTES if lends_more else _MOST_COMPANION_BYTES)
        call["report"] = None if lends else report
        is_due = workflow.time() - self._reported_at >= _REPORT_SECONDS
        call["report_after"] = 0 if is_due else _MOMENT_SECONDS
        delivered = False

        def settle(answer: CallAnswer) -> None:
            nonlocal delivered
            delivered = answer.get("reported", False)

        if report is None:
            yield settle
            return
        with LOANS.lending(workflow.info().run_id, report) if lends else contextlib.nullcontext():
            try:
                yield settle
            finally:
                if delivered:
                    self._reported_at = workflow.time()
                    self.reporter.delivered(report)


def _recovery() -> str:
    """Return the id of this workflow where it is a later run of its execution; of the first, nothing."""
    run = workflow.info().workflow_id
    return run if "/recovery-" in run else ""


def _was_not_sent(error: FailureError) -> bool:
    raised = application_error(error)
    return raised is not None and raised.type == NOT_SENT


def _unknown_outcome(error: FailureError) -> WorkflowError:
    """Return the error of a call that must not be repeated, whose worker was lost while it was made."""
    detail = f"the worker was lost while it made the call: whether it took effect is not known ({error.cause})"
    return WorkflowError.standard("timeout", detail)
