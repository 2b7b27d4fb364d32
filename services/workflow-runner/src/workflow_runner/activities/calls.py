"""What all calls out of a workflow have in common, whatever they speak.

Secrets are filled in here, right before they are used, and taken out of everything that comes back, and
so is what was concealed on the way (`workflow_runner.activities.concealment`). A call
that fails gives an error as its answer, even where nobody expected it: Temporal would repeat it for ever. An
activity that raises is one whose worker or server was away, and can be tried again.
"""

import asyncio
import contextlib
import json
import traceback
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, cast

from loguru import logger
from stigmer_dsl.errors import STANDARD, MissingSecretError, WorkflowError
from stigmer_dsl.secrets import fill_secrets, find_secrets, mask_secrets
from stigmer_grpc.errors import RpcError
from stigmer_runner import Environments, Redactor, sayable_value
from temporalio import activity
from temporalio.exceptions import ApplicationError

from workflow_runner.activities.concealment import concealment
from workflow_runner.activities.heartbeat import CALL_SECONDS, heartbeats
from workflow_runner.activities.report import Reporting
from workflow_runner.activities.structured import check_depth
from workflow_runner.call_messages import CallAnswer
from workflow_runner.loans import LOANS
from workflow_runner.messages import MOST_BYTES, Call, Report
from workflow_runner.sizes import inline_size

NOT_SENT = "not-sent"
"""Type of the failure of a call that did not go out: it can be made again."""

_SURROGATE = "\\ud"
"""What the JSON of a text has that holds a surrogate: half of a pair, or both."""

Exchange = Callable[[Mapping[str, Any], float], Awaitable[Any]]
"""Makes a call with secrets in it, within some seconds; returns its output or raises CallFailedError."""


class CallFailedError(Exception):
    """A call failed, in the words of the specification's standard errors."""

    def __init__(
        self, name: str, detail: str, *, status: int | None = None, title: str = "", retry_after: float | None = None
    ) -> None:
        """Say what failed: `name` is that of a standard error, `retry_after` the seconds that a peer asks to wait."""
        super().__init__(detail)
        standard = STANDARD[name]
        self.name = name
        self.error = WorkflowError(
            type=standard.type,
            status=status or standard.status,
            title=title or standard.title,
            detail=detail,
            retry_after=retry_after,
        )

    def about(self, what: str) -> "CallFailedError":
        """Return the same failure, told as the cause of what did not come about: `the document cannot be fetched`."""
        error = self.error
        return CallFailedError(
            self.name,
            f"{what}: {error.detail}",
            status=error.status,
            title=error.title,
            retry_after=error.retry_after,
        )


def _check_depth(output: Any) -> None:
    try:
        check_depth(output)
    except ValueError as error:
        raise CallFailedError("communication", f"the answer cannot be kept: {error}") from None


class Calls:
    """Makes calls with their secrets, time limits, heartbeats and reports."""

    def __init__(self, environments: Environments, reporting: Reporting, *, most_bytes: int = MOST_BYTES) -> None:
        """Make calls whose answers take `most_bytes` at most."""
        self._most_bytes = most_bytes
        self._environments = environments
        self._reporting = reporting

    async def make(self, call: Call, exchange: Exchange) -> CallAnswer:
        """Make one call, and deliver the report that came with it.

        Raises:
            ApplicationError: The call did not go out, and can be made again.
            RpcError: The server, which the call needs, was away.
        """
        async with heartbeats(CALL_SECONDS):
            delivering: list[asyncio.Task[bool]] = []
            with self._delivery(call, delivering):
                answer = await self._answer(call, exchange)
            reported = bool(delivering) and await delivering[0]
        return cast("CallAnswer", {**answer, "reported": reported})

    async def _answer(self, call: Call, exchange: Exchange) -> CallAnswer:
        local = call["local_seconds"]
        seconds = call["seconds"] if local is None else min(local, call["seconds"])
        arguments: Any = call["arguments"]
        redactor = Redactor(())
        with concealment() as concealed:
            try:
                if call["has_secrets"]:
                    arguments, redactor = await self._filled(call)
                output = await exchange(arguments, seconds)
                _check_depth(output)
                # Only now is all known that nobody is to see.
                output = Redactor(concealed).value(redactor.value(output))
                text = json.dumps(output)
                if _SURROGATE in text:
                    output = sayable_value(output)
                size = len(text)
                if size > self._most_bytes:
                    detail = f"the answer takes {size} bytes, more than the {self._most_bytes} that can be kept"
                    raise CallFailedError("communication", detail)
            except CallFailedError as failure:
                error = failure.error.to_dict()
                if seconds < call["seconds"] and error["type"] == STANDARD["timeout"].type:
                    return {"slow": True}
            except (RpcError, ApplicationError):
                raise
            except Exception as unexpected:
                if activity.is_worker_shutdown():
                    raise  # what goes wrong while this worker goes away may go well on another
                trace = "".join(traceback.format_exception(unexpected))
                logger.error("a call failed unexpectedly: {}", Redactor(concealed).text(redactor.text(trace)))
                detail = f"the call failed unexpectedly: {type(unexpected).__name__}: {unexpected}"
                error = WorkflowError.standard("runtime", detail).to_dict()
            else:
                if inline_size(size, call.get("inline_bytes", 0)) > call.get("local_bytes", size):
                    return {"slow": True}
                return {"output": output, "bytes": size}
            return {"error": mask_secrets(Redactor(concealed).value(redactor.value(error)))}

    async def _filled(self, call: Call) -> tuple[Any, Redactor]:
        try:
            environment = await self._environments.get(call["execution_id"], run=call.get("run", ""))
        except RpcError as error:
            raise ApplicationError(f"the environment cannot be had: {error}", type=NOT_SENT) from None
        values = environment.values
        try:
            return fill_secrets(call["arguments"], values, nonce=call["nonce"]), environment.redactor
        except MissingSecretError as missing:
            used = sorted(find_secrets(call["arguments"], nonce=call["nonce"]))
            listed = ", ".join(name for name in used if name not in values) or str(missing)
            raise CallFailedError("authorization", f"the execution's environment has no {listed}") from None

    @contextlib.contextmanager
    def _delivery(self, call: Call, delivering: list[asyncio.Task[bool]]) -> Generator[None]:
        """Begin to deliver the call's report, unless the block is over before it is worth a message of its own."""
        info = activity.info()
        report = LOANS.of(info.workflow_run_id or "") if info.is_local else call["report"]
        if report is None:
            yield
            return

        def begin() -> None:
            delivering.append(asyncio.create_task(self._deliver(report)))

        due = asyncio.get_running_loop().call_later(call["report_after"], begin)
        try:
            yield
        except BaseException:
            # Nobody waits for it: it could come after newer ones.
            for task in delivering:
                task.cancel()
            raise
        finally:
            due.cancel()

    async def _deliver(self, report: Report) -> bool:
        """Deliver a report, and return whether it arrived."""
        try:
            await self._reporting.deliver(report)
        except RpcError:
            return False
        return True
