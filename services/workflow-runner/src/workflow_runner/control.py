"""What a run is told from outside while it goes on: to hold, to go on, signals and answers. Workflow code."""

from typing import Any, TypedDict

from workflow_runner.clock import Clock
from workflow_runner.inbox import Inbox, InboxState


class ControlState(TypedDict):
    """What a continued run must know of it."""

    inbox: InboxState
    behind: float
    held: bool


class Control:
    """Takes what the server sends to one run. A message that came before changes nothing."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self.inbox = inbox
        self.clock = clock
        self._is_over = False
        self.tokens: dict[str, str] = {}
        """Of activities that wait for other executions, by the key that each was given."""

    @property
    def is_held(self) -> bool:
        """Whether the run is to hold."""
        return self.clock.is_stopped

    @property
    def state(self) -> ControlState:
        """What a continued run must know."""
        return {"inbox": self.inbox.state, "behind": self.clock.behind, "held": self.is_held}

    def pause(self, message: Any) -> None:
        """Hold the run, and stop its clock at once."""
        if self.inbox.is_new(message) and not self._is_over:
            self.clock.stop()

    def resume(self, message: Any) -> None:
        """Let the run go on."""
        if self.inbox.is_new(message):
            self.clock.go_on()

    def let_go(self) -> None:
        """Hold the run no more: the server may have heard that it is over, so nobody could let it go on again."""
        self._is_over = True
        self.clock.go_on()

    def signal(self, message: Any) -> None:
        """Keep a signal."""
        if self.inbox.is_new(message):
            self.inbox.put_signal(message)

    def answer(self, message: Any) -> None:
        """Keep an answer."""
        if self.inbox.is_new(message):
            self.inbox.put_answer(message)

    def token(self, message: Any) -> None:
        """Keep the token of an activity that waits."""
        self.tokens[message["id"]] = message["token"]

    def wake(self, message: Any) -> None:
        """Keep word that there are events for a listener."""
        if self.inbox.is_new(message):
            self.inbox.put_wake(message)
