"""The head of a run: calls that were made while it was loaded, whose answers it begins with.

Most runs begin with calls that may be repeated. Temporal's way to a local activity and back costs more than such a
call, so the activity that loads a run goes ahead with it until something stands in its way (`activities.head_start`),
and gives the answers along. The run then does what it does anyway, and where it would make the next of these calls it
takes its answer. One that it would make otherwise ends the head: the run goes on by itself from there. Workflow code.
"""

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from workflow_runner.call_messages import CallAnswer
from workflow_runner.messages import HeadMessage


class Head:
    """What is left of the head of a run; one without any is over from the start."""

    def __init__(self, message: HeadMessage | None) -> None:
        self._left = deque(message["calls"] if message else ())
        self._at = message["began"] if message else 0.0
        self.calls = len(self._left)
        """How many there were."""

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


def fingerprint(activity: str, key: str, arguments: Mapping[str, Any]) -> str:
    """Return what tells a call from others.

    It stands in histories: what is empty counts as not said, so that arguments that come later change nothing.
    """
    said = {name: value for name, value in arguments.items() if value}
    text = json.dumps([activity, key, said], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
