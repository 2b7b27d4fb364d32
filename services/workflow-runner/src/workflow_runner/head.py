"""The head of a run: what was done of it while it was loaded, by which it begins.

Most runs begin with calls that may be repeated. Temporal's way to a local activity and back costs more than such a
call, so the activity that loads a run goes ahead with it until something stands in its way (`activities.head_start`),
and gives the answers along. The run then does what it does anyway, and where it would make the next of these calls it
takes its answer. One that it would make otherwise ends the head: the run goes on by itself from there. A run that is
over with its head need not tell so, if it comes to the very end that was told already. Workflow code.
"""

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from workflow_runner.call_messages import CallAnswer
from workflow_runner.messages import HeadMessage, Report


class Head:
    """What is left of the head of a run; one without any is over from the start."""

    def __init__(self, message: HeadMessage | None) -> None:
        self._left = deque(message["calls"] if message else ())
        self._at = message["began"] if message else 0.0
        self._end = message.get("end", "") if message else ""
        self.calls = len(self._left)
        """How many there were."""
        self.is_there = message is not None
        """Whether anything was done of the run."""

    def time(self, now: float) -> float:
        """Return the time that it is for the run, which is behind `now` while there is a head."""
        return self._at if self._left else max(now, self._at)

    def take(self, activity: str, key: str, arguments: Mapping[str, Any]) -> CallAnswer | None:
        """Return the answer to a call of the task at the pointer `key`, if it is the next one of the head."""
        if not self._left:
            return None
        made = self._left.popleft()
        if made["call"] != fingerprint(activity, key, arguments):
            self._left.clear()
            return None
        self._at = made["at"]
        return cast("CallAnswer", made["answer"])

    def end(self) -> None:
        """Forget what is left."""
        self._left.clear()

    def has_told(self, report: Report) -> bool:
        """Whether the server has been told of just this end of the run."""
        return bool(self._end) and end_of(report) == self._end


def fingerprint(activity: str, key: str, arguments: Mapping[str, Any]) -> str:
    """Return what tells a call from others.

    It stands in histories: what is empty counts as not said, so that arguments that come later change nothing.
    """
    return _hash([activity, key, {name: value for name, value in arguments.items() if value}])


def end_of(report: Report) -> str:
    """Return what tells the end of a run from others: how it ends, and what became of its tasks, but not when.

    It stands in histories, too.
    """
    tasks = [[task["id"], task["status"], task.get("output")] for task in report["tasks"]]
    return _hash([report.get("phase"), report.get("output"), tasks])


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
