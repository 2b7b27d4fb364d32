"""The calls of one run: which stay local, which are ordinary activities, and what reports go along with them.

Calls that may be repeated go as local activities, several times faster than ordinary ones, but not in history until
the workflow task that made them ends. So after a number of them in a row one goes as an ordinary activity, which puts
all before it into history: a killed worker repeats no more than that many finished calls. Calls that must not be
repeated, and those beside branches that wait for something, always go as ordinary, heartbeating activities. Workflow
code.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import cast

from stigmer_dsl.errors import WorkflowError
from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from workflow_runner.activities.calls import NOT_SENT
from workflow_runner.activities.heartbeat import CALL_SECONDS
from workflow_runner.call_messages import CallAnswer
from workflow_runner.errands import (
    FIRST_PAUSE,
    FOREVER,
    LOCAL_LIMIT,
    ONCE,
    application_error,
    deliver,
    deliver_durably,
    fits,
    longer,
)
from workflow_runner.loans import LOANS
from workflow_runner.messages import Call, Limits, Report
from workflow_runner.page import summary
from workflow_runner.reporter import Reporter
from workflow_runner.room import Room
from workflow_runner.strands import Strands

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
_LARGE_BYTES = 4 * 1024 * 1024
_MOMENT = timedelta(milliseconds=1)


class Calls:
    """Makes the calls of one run.

    Args:
        limits: The bounds of the run.
        strands: What goes on side by side.
        room: What goes into one message.
        reporter: What has happened.
        made: How many calls were made while the run was loaded.
        loaded_at: How long the history was when the run had been loaded, unless that is in it already.
        loaded_bytes: What the loading takes there, where it goes with the first calls.
    """

    def __init__(
        self,
        limits: Limits,
        strands: Strands,
        room: Room,
        reporter: Reporter,
        *,
        made: int,
        loaded_at: int | None,
        loaded_bytes: int,
    ) -> None:
        self._limits = limits
        self._strands = strands
        self._room = room
        self._reporter = reporter
        self._loaded_at = loaded_at
        self._slow: set[str] = set()
        self._in_row = made
        self._row_bytes = loaded_bytes
        self._history_length = loaded_at or 0
        self._reported_at = workflow.time()

    async def make(self, activity: str, call: Call, size: int, *, key: str, repeatable: bool) -> CallAnswer:
        """Make a call, which is given `size` bytes; `key` names the task, for what is known of its calls.

        Raises:
            FailureError: It was cancelled.
        """
        if repeatable and key not in self._slow and self._may_stay_local():
            answer = await self._call_locally(activity, call, key)
            if answer is not None:
                return answer
            self.note_slow(key)
        return await self._call_durably(activity, call, size, key=key, repeatable=repeatable)

    def note_slow(self, key: str) -> None:
        """Note that the calls of a task take long, or give much: they are ordinary activities from now on."""
        self._slow.add(key)

    async def digest(self, answer: CallAnswer) -> None:
        """End this step with a large answer, which it keeps: working on with that may take longer than a step may."""
        if answer.get("bytes", 0) >= _LARGE_BYTES and "max_inline_bytes" in self._limits:
            await workflow.sleep(_MOMENT)

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

    def _may_stay_local(self) -> bool:
        # What other strands ask of Temporal waits until a local call is over, even a timer.
        if self._strands.are_several and (self._strands.are_resting or "local_branch_seconds" not in self._limits):
            return False
        if self._is_kept():
            self._in_row = self._row_bytes = 0
        # Calls that are in flight together are no more than a kill repeats anyway.
        most = max(self._limits["local_calls_in_row"], self._strands.count if self._strands.are_several else 0)
        return self._in_row < most and self._row_bytes < _MOST_ROW_BYTES

    async def _call_locally(self, activity: str, call: Call, key: str) -> CallAnswer | None:
        """Return the answer, or None when the call takes an ordinary activity."""
        self._in_row += 1
        bound = "local_branch_seconds" if self._strands.are_several else "local_call_seconds"
        local: Call = {**call, "local_seconds": self._limits.get(bound, self._limits["local_call_seconds"])}
        if self._strands.are_several:
            local["inline_bytes"] = self._limits.get("max_inline_bytes", 0)
            local["local_bytes"] = self._room.share(self._row_bytes, self._strands.count)
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
        await self.digest(answer)
        return None if answer.get("slow") else cast("CallAnswer", answer)

    async def _call_durably(self, activity: str, call: Call, size: int, *, key: str, repeatable: bool) -> CallAnswer:
        limit = timedelta(seconds=call["seconds"] + _SPARE_SECONDS)
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._room.taken(size), self._accompanied(call, lends=False) as settle:
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
        if self._strands.are_several:
            self._reporter.flush()
            yield lambda _: None
            return
        lends_more = lends and "lends_reports" in self._limits
        report = self._reporter.lend(_MOST_LENT_BYTES if lends_more else _MOST_COMPANION_BYTES)
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
                    self._reporter.delivered(report)


def _was_not_sent(error: FailureError) -> bool:
    raised = application_error(error)
    return raised is not None and raised.type == NOT_SENT


def _unknown_outcome(error: FailureError) -> WorkflowError:
    """Return the error of a call that must not be repeated, whose worker was lost while it was made."""
    detail = f"the worker was lost while it made the call: whether it took effect is not known ({error.cause})"
    return WorkflowError.standard("timeout", detail)
