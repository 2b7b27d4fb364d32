"""What the interpreter needs from the durable engine, given by Temporal."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, TypeVar

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.secrets import find_secrets
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from workflow_runner import names
from workflow_runner.agent_runs import AgentRuns
from workflow_runner.attributes import tell
from workflow_runner.call_messages import (
    AgentArguments,
    AgentRequest,
    CallAnswer,
    ModelArguments,
    ModelRequest,
    Subflow,
)
from workflow_runner.calls import Calls
from workflow_runner.chains import depth_of, refuse_endless
from workflow_runner.clock import Clock
from workflow_runner.control import Control
from workflow_runner.errands import deliver, deliver_durably, keeps_whole, until_it_works
from workflow_runner.executions import Executions
from workflow_runner.foreign import ForeignActivity, decoded, failure
from workflow_runner.head import Head
from workflow_runner.inbox import Answer, Signal
from workflow_runner.ledger import Ledger
from workflow_runner.messages import MOST_BYTES, Call, Limits, Report, TaskRecord
from workflow_runner.models import ask_model
from workflow_runner.page import Page, summary
from workflow_runner.reporter import Reporter
from workflow_runner.room import Room
from workflow_runner.sizes import Sizes, checked_size, size_of
from workflow_runner.strands import Rest, Strands

_Taken = TypeVar("_Taken")

_MOST_CALLS = 1_000
"""What one run may have in flight: Temporal refuses more than two thousand."""
_SHOWN_SLEEP = timedelta(milliseconds=500)
"""A shorter sleep is over before anybody has seen it."""


class TemporalEngine:
    """The engine of one run."""

    def __init__(
        self,
        *,
        execution_id: str,
        org: str,
        nonce: str,
        has_secrets: bool,
        limits: Limits,
        control: Control,
        head: Head,
        introduction: Mapping[str, str],
        loaded_at: int | None = None,
        loaded_bytes: int = 0,
    ) -> None:
        """Serve one run.

        Its `introduction` are the search attributes that people find it by; `loaded_at` and `loaded_bytes` are for
        its calls.
        """
        self._head = head
        self.introduction: Mapping[str, str] = introduction
        """What is still to be said: a run that is over with its head says it with its end."""
        self.org = org
        self._execution_id = execution_id
        self._nonce = nonce
        self._has_secrets = has_secrets
        self._limits = limits
        self._control = control
        self._at_once = asyncio.Semaphore(_MOST_CALLS)
        self._is_told_held = False
        self._page = Page()
        self.strands = Strands()
        self._sizes = Sizes()
        self._room = Room(limits)
        self._executions = Executions(until_it_works, control.tokens, self._room_for)
        self._agents = AgentRuns(self._executions, self._room, limits)
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
        if not head.is_there:  # and runs of before
            self._go_on()
        self.calls = Calls(
            limits,
            self.strands,
            self._room,
            self.reporter,
            made=head.calls,
            loaded_at=loaded_at,
            loaded_bytes=loaded_bytes,
        )

    def time(self) -> float:
        """See `Engine`."""
        return self._head.time(workflow.time())

    def guarded(self) -> None:
        """See `Engine`."""

    def random(self) -> float:
        """See `Engine`."""
        return workflow.random().random()

    def continuation_is_due(self) -> bool:
        """See `Engine`."""
        info = workflow.info()
        most = self._limits["max_history_events"]
        return info.is_continue_as_new_suggested() or (most > 0 and info.get_current_history_length() >= most)

    def _go_on(self) -> None:
        """Go on without a head, and so for longer than a moment."""
        self._head.end()
        if self.introduction:
            tell(self._limits, **self.introduction, phase="IN_PROGRESS")
            self.introduction = {}

    async def tell_end(self, report: Report) -> None:
        """Tell the server how the run ended, unless it has been told so while the run was loaded."""
        if not self._head.has_told(report):
            await self.calls.tell_end(report)

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
        self._go_on()
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
        self._go_on()
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
        self._go_on()
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
        made = self._head.take(activity, key, arguments)
        if made is not None and not made.get("slow"):
            await self.calls.digest(made)
            return made
        self._go_on()
        if made is not None:
            self.calls.note_slow(key)
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
            async with self._at_once:
                return await self.calls.make(activity, call, size, key=key, repeatable=repeatable)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            raise

    async def run_workflow(
        self, subflow: Subflow, *, org: str, waits: bool, begun: Callable[[str], None]
    ) -> CallAnswer | None:
        """See `Engine`."""
        self._go_on()
        self._refuse_secrets(subflow["input"], "the input holds", "another workflow has secrets of its own")
        refuse_endless(self._limits, f"the workflow {subflow['namespace']}/{subflow['name']} is not run")
        if "max_agent_bytes" in self._limits:
            self._checked_size(subflow["input"], "the input takes")
        self.reporter.flush(deliver_durably)
        request: dict[str, Any] = {**subflow, "org": org, "key": workflow.uuid4().hex}
        if "max_call_depth" not in self._limits:  # runs of before
            return await self._begun_silently(request, waits=waits)
        request["depth"] = depth_of(self._limits) + 1
        if not waits:
            begun(await self._executions.start(names.START_EXECUTION, request))
            return None

        def tell(execution: str) -> None:
            begun(execution)
            self.reporter.flush(deliver_durably)

        return await self._executions.run(names.START_EXECUTION, request, begun=tell)

    async def _begun_silently(self, request: Mapping[str, Any], *, waits: bool) -> CallAnswer | None:
        if waits:
            return await self._executions.run(names.START_EXECUTION, request)
        await self._executions.start(names.START_EXECUTION, request)
        return None

    async def run_agent(self, arguments: AgentArguments, *, task_id: str, begun: Callable[[str], None]) -> CallAnswer:
        """See `Engine`."""
        self._go_on()
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

        return await self._agents.run(request, tell)

    async def ask_model(self, arguments: ModelArguments, *, seconds: float, key: str) -> CallAnswer:
        """See `Engine`."""
        self._go_on()
        size = self._checked_size(arguments, "the question takes")
        self.reporter.flush()
        request: ModelRequest = {
            "execution_id": self._execution_id,
            "run": _recovery(),
            "nonce": self._nonce,
            "arguments": arguments,
            "seconds": seconds,
        }
        async with self._at_once, self._room.taken(size):
            return await ask_model(request, self._limits, summary(key))

    def _room_for(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[None]:
        """Return the room for what an execution is started with."""
        return self._room.taken(size_of(request)) if "max_agent_bytes" in self._limits else contextlib.nullcontext()

    async def run_activity(self, activity: ForeignActivity, *, seconds: float, key: str) -> Any:
        """See `Engine`."""
        self._go_on()
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

    def _refuse_secrets(self, value: Any, holds: str, why: str) -> None:
        """Refuse what goes where no secret may go; `holds` names it, with its verb."""
        if found := find_secrets(value, nonce=self._nonce):
            raise WorkflowError.standard("authorization", f"{holds} {', '.join(sorted(found))}: {why}")

    def _checked_size(self, value: Any, takes: str) -> int:
        """Return what a value takes, and refuse one that is too large; `takes` names it, with its verb."""
        return checked_size(value, takes, self._limits.get("max_value_bytes", MOST_BYTES))


def _recovery() -> str:
    """Return the id of this workflow where it is a later run of its execution; of the first, nothing."""
    run = workflow.info().workflow_id
    return run if "/recovery-" in run else ""
