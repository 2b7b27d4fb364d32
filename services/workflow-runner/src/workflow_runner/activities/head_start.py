"""Going ahead with a run while it is loaded: see `workflow_runner.head`.

The interpreter runs here as it does in the workflow, on an engine that makes calls at once and stops at whatever else
a run may want: a call that must not be repeated, a pause, an event, a limit of time, much to compute. What it finds out
is thrown away save the answers, so nothing can come of it that does not come of the run itself. If nothing stands in
its way, the server is told at once that the run is over, in place of that it is in progress.
"""

import math
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from loguru import logger
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.secrets import Secrets
from stigmer_grpc.errors import RpcError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from workflow_runner.call_messages import CallAnswer
from workflow_runner.clock import Clock
from workflow_runner.data import Evaluator, iso8601
from workflow_runner.definitions import compiled
from workflow_runner.flow import EndOfWorkflow
from workflow_runner.head import end_of, fingerprint
from workflow_runner.interpreter import Interpreter
from workflow_runner.ledger import Ledger
from workflow_runner.loans import LOANS
from workflow_runner.messages import Call, HeadCall, HeadMessage, Limits, Loaded, Report
from workflow_runner.reporter import Reporter
from workflow_runner.sizes import size_of
from workflow_runner.strands import Strands

_MOST_INPUT_BYTES = 16 * 1024
_MOST_CHECKS = 10_000
"""Rules that one check by a schema may apply here, where all runs of the process wait for it."""
_SECONDS = 0.5
"""After so long no further call is begun with."""
_FAR_SECONDS = 15.0
"""No run is gone ahead with for that long."""
_MOMENT_SECONDS = 0.05
"""A call that takes longer takes its report along, so that people see what is waited for."""
_MOST_REPORT_BYTES = 64 * 1024
_MOST_ANSWER_BYTES = 256 * 1024
"""What answers may take together before the run goes on by itself."""
_MOST_TOLD = 200
"""Beginnings and ends of tasks."""
_MOST_LOADED_BYTES = 1_500_000
"""What the run and its head may take together where large values have no place of their own."""

MakeCall = Callable[[Any], Awaitable[Any]]
TellEnd = Callable[[Report], Awaitable[bool]]


class _StopError(BaseException):
    """Here the run goes on by itself. No task may catch it."""


class HeadStart:
    """Goes ahead with runs."""

    def __init__(self, calls: Mapping[str, MakeCall], deliver: Callable[[Report], Awaitable[None]]) -> None:
        """Make calls by the activities of `calls`, by their names, and `deliver` reports of those that take long."""
        self._calls = calls
        self._deliver = deliver

    async def of(
        self, run: Loaded, *, workflow_id: str, started_at: float, tell_end: TellEnd | None
    ) -> HeadMessage | None:
        """Go ahead with a run that begins at its beginning; None if nothing came of it.

        Its end is told by `tell_end`, if there is one, which says whether that arrived.
        """
        if not run["limits"]["local_calls_in_row"] or size_of(run["input"]) > _MOST_INPUT_BYTES:
            return None
        ahead = _Ahead(run, self._calls, self._deliver, workflow_id=workflow_id)
        await ahead.go(started_at, tell_end)
        return ahead.head if ahead.head["calls"] or "end" in ahead.head else None


class _Ahead:
    """The engine of a run that goes ahead."""

    def __init__(
        self,
        run: Loaded,
        calls: Mapping[str, MakeCall],
        deliver: Callable[[Report], Awaitable[None]],
        *,
        workflow_id: str,
    ) -> None:
        self._run = run
        self._makes = calls
        self._deliver = deliver
        self._limits = run["limits"]
        self._definition, self._document = compiled(run["definition"])
        self._secret_names = frozenset((*run["secret_names"], *run["variable_names"], *self._definition.use.secrets))
        self._at = time.time()
        self._give_up = time.monotonic() + _SECONDS
        self._bytes = self._told = 0
        self._has_reported = False
        self._room = math.inf if "max_inline_bytes" in self._limits else _MOST_LOADED_BYTES - size_of(run)
        self.head: HeadMessage = {"nonce": uuid.uuid4().hex, "began": self._at, "calls": []}
        self.clock = _Clock(self.time)
        self.strands = _Strands()
        self.heard = Ledger()
        self._reporter = Reporter(
            run["execution_id"],
            self._send,
            may_hold_markers=bool(self._secret_names),
            workflow_id=workflow_id,
            truncates="max_value_bytes" in self._limits,
            replaces=self._limits.get("replaces_tasks", False),
        )

    async def go(self, started_at: float, tell_end: TellEnd | None) -> None:
        """Interpret the run until something stands in its way, or it is over; then tell so."""
        run = self._run
        limits: Limits = {**run["limits"], "max_schema_checks": _MOST_CHECKS}
        evaluator = Evaluator(
            execution_id=run["execution_id"],
            definition=self._document,
            raw=run["input"],
            started_at=started_at,
            secrets=Secrets(names=self._secret_names, nonce=self.head["nonce"]),
            mode=self._definition.evaluate.mode,
        )
        interpreter = Interpreter(
            workflow=self._definition, limits=limits, evaluator=evaluator, engine=self, reporter=self._reporter
        )
        try:
            output = await interpreter.execute(data=run["input"], frame=None)
            if tell_end is not None:
                await self._tell_end(output, started_at, tell_end)
        except (_StopError, WorkflowError, EndOfWorkflow):
            return
        except Exception as error:  # noqa: BLE001 - of whatever kind
            # The run comes to the same place, and tells.
            logger.debug("going ahead with {} ended by {}", run["execution_id"], type(error).__name__)

    async def _tell_end(self, output: Any, started_at: float, tell_end: TellEnd) -> None:
        if self._reporter.bytes + size_of(output) > _MOST_REPORT_BYTES:
            return

        async def send(report: Report) -> None:
            # The run tells of all its tasks with its end: that is another one where some were told of before.
            if not self._has_reported:
                self.head["end"] = end_of(report) if await tell_end(report) else ""

        began, ended = iso8601(started_at), iso8601(time.time())
        await self._reporter.finish(send, phase="COMPLETED", output=output, started_at=began, completed_at=ended)

    async def _send(self, report: Report) -> None:
        self._has_reported = True
        await self._deliver(report)

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float, key: str
    ) -> CallAnswer:
        """See `Engine`."""
        make = self._makes.get(activity)
        calls = self.head["calls"]
        is_full = len(calls) >= self._limits["local_calls_in_row"] or self._bytes > _MOST_ANSWER_BYTES
        if make is None or not repeatable or is_full or time.monotonic() > self._give_up:
            raise _StopError
        report = self._reporter.lend(_MOST_REPORT_BYTES)
        call: Call = {
            "execution_id": self._run["execution_id"],
            "has_secrets": bool(self._secret_names),
            "nonce": self.head["nonce"],
            "arguments": dict(arguments),
            "seconds": seconds,
            "local_seconds": self._limits["local_call_seconds"],
            "report": report,
            "report_after": _MOMENT_SECONDS,
        }
        answer = await _made(make, call)
        if report is not None and answer.get("reported"):
            self._has_reported = True
            self._reporter.delivered(report)
        self._bytes += answer.get("bytes", 0)
        if self._bytes > self._room:
            # The run makes the call again: it is too much for the message that loads it.
            raise _StopError
        self._at = time.time()
        kept = {name: value for name, value in answer.items() if name != "reported"}
        calls.append(HeadCall(call=fingerprint(activity, key, arguments), answer=kept, at=self._at))
        if answer.get("slow"):
            raise _StopError
        return answer

    def time(self) -> float:
        """See `Engine`. It passes with the answers alone, as it does in the run that has them."""
        return self._at

    def guarded(self) -> None:
        """See `Engine`. Here it would hold up all runs of the process."""
        raise _StopError

    def continuation_is_due(self) -> bool:
        """See `Engine`."""
        return False

    def show(self, record: Any) -> None:
        """See `Engine`. Nobody is shown anything here; but what tells much computes much."""
        del record
        self._told += 1
        if self._told > _MOST_TOLD:
            raise _StopError

    @property
    def org(self) -> str:
        """See `Engine`."""
        return self._run["org"]

    def random(self) -> float:
        """See `Engine`."""
        raise _StopError

    async def _stop(self, *_: Any, **__: Any) -> NoReturn:
        raise _StopError

    until_all_leave = until_released = receive = answer = sleep = _stop
    run_activity = run_workflow = run_agent = ask_model = _stop


class _Clock(Clock):
    @asynccontextmanager
    async def limit(self, until: float) -> AsyncGenerator[None]:
        """Stop, unless the limit is far away: whether it is reached here says nothing of the run."""
        if until - self.time() < _FAR_SECONDS:
            raise _StopError
        yield


class _Strands(Strands):
    def split(self, count: int) -> None:
        """Stop: in which order branches go on is for the run to say."""
        raise _StopError


async def _made(make: MakeCall, call: Call) -> CallAnswer:
    """Make a call; one that could not go out is left to the run."""
    info = activity.info()
    try:
        if call["report"] is not None and info.is_local:
            with LOANS.lending(info.workflow_run_id or "", call["report"]):
                return await make(call)
        return await make(call)
    except (RpcError, ApplicationError):
        raise _StopError from None
