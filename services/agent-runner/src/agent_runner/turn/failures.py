"""What an exception out of the agent loop means: who can do something about it, and whether waiting may help."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from email.utils import parsedate_to_datetime

from langgraph.errors import GraphRecursionError
from stigmer_sandbox import SandboxUnavailableError

from agent_runner.errors import (
    AgentRunnerError,
    JournalError,
    ModelCallError,
    TurnLimitError,
    WorkspaceUnavailableError,
)

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_CONNECTION = frozenset({"APIConnectionError", "TransportError", "ConnectError", "ConnectionError", "TimeoutError"})
"""Names, because every provider's package has its own classes and importing all of them costs seconds."""
_STATUSES = range(400, 600)
_RETRY_DELAY = re.compile(r"""['"]retryDelay['"]: *['"](\d+(?:\.\d+)?)s""")
_LONGEST_WAIT_SECONDS = 3600.0


def classify(error: Exception, *, model: str) -> AgentRunnerError | None:
    """The error in this runner's words, or None when it is not known, which is a fault of the runner."""
    if isinstance(error, AgentRunnerError):
        return error
    if isinstance(error, GraphRecursionError):
        return TurnLimitError("the agent took more steps than one turn may have (STIGMER_AGENT_MAX_STEPS)")
    if isinstance(error, SandboxUnavailableError):
        return WorkspaceUnavailableError(str(error))
    if isinstance(error, sqlite3.OperationalError):
        # Locked for too long, or a disk that is full for a while: the turn stands at its last step.
        return JournalError(f"the runner's journal cannot be used: {error}")
    if any(kind.__name__ == "ContextOverflowError" for kind in type(error).__mro__):
        return ModelCallError(
            f"the conversation is longer than the model {model} can take", detail=_line(error), transient=False
        )
    status = _status(error)
    if status is not None:
        return ModelCallError(
            f"the model {model} answered with status {status}",
            detail=_line(error),
            transient=status in _TRANSIENT,
            retry_after=_retry_after(error),
            status=status,
        )
    if any(kind.__name__ in _CONNECTION for each in _chain(error) for kind in type(each).__mro__):
        return ModelCallError(f"the model {model} could not be reached", detail=_line(error), transient=True)
    return None


def fault(error: Exception) -> AgentRunnerError:
    """What people are told of a fault of the runner."""
    return AgentRunnerError(f"the run failed inside the runner ({type(error).__name__}); its log tells more")


def _status(error: Exception) -> int | None:
    """The status of a provider's answer; Google's package keeps it in a cause, under another name."""
    for each in _chain(error):
        for name in ("status_code", "code"):
            found = getattr(each, name, None)
            if isinstance(found, int) and found in _STATUSES:
                return found
    return None


def _retry_after(error: Exception) -> float | None:
    """The seconds that a provider asks to wait, at most an hour."""
    for each in _chain(error):
        headers = getattr(getattr(each, "response", None), "headers", None)
        seconds = _seconds(headers.get("retry-after")) if headers is not None else None
        seconds = _retry_delay(each) if seconds is None else seconds
        if seconds is not None:
            return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
    return None


def _seconds(told: str | None) -> float | None:
    """What `Retry-After` says: seconds, or the time at which to come back."""
    if told is None:
        return None
    with contextlib.suppress(ValueError):
        return float(told)
    with contextlib.suppress(ValueError):
        return parsedate_to_datetime(told).timestamp() - time.time()
    return None


def _retry_delay(error: BaseException) -> float | None:
    """The same in the body of Google's errors (`google.rpc.RetryInfo`)."""
    found = _RETRY_DELAY.search(str(error))
    return float(found[1]) if found else None


def _chain(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__) is not None and cause not in found:
        found.append(cause)
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:1000]
