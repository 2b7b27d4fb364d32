"""What a run was sent, kept until a task takes it: signals, and people's answers to tasks.

Temporal delivers what the server sends, in order, and now and then twice; an `id` tells the same from another. The
inbox is part of the run's state: it is carried into continued runs, and a signal that comes before its task does
waits here. Workflow code: what it does depends on nothing but what was sent.
"""

from collections.abc import Callable
from typing import Any, NotRequired, TypedDict, TypeGuard, cast

from workflow_runner.ledger import Ledger, copied

_KNOWN_IDS = 256
"""How many ids are remembered. The server sends one thing at a time to a run, so it can only repeat the last ones."""


class Signal(TypedDict):
    """A signal, as the server sends it."""

    id: str
    name: str
    payload: Any
    at: str
    """When it was sent, RFC 3339."""


class Answer(TypedDict):
    """What a person says to a task that waits for one."""

    id: str
    task_id: str
    task_name: str
    outcome: str
    form_data: dict[str, Any] | None
    comment: str
    by: str
    at: str


class InboxState(TypedDict):
    """An inbox, carried on."""

    signals: list[Signal]
    answers: list[Answer]
    known: list[str]
    heard: NotRequired[Ledger]
    """Which events the run has heard; none unless said."""


class Inbox:
    """One run's inbox."""

    def __init__(self, state: InboxState | None = None) -> None:
        self._signals: list[Signal] = list(state["signals"]) if state else []
        self._answers: list[Answer] = list(state["answers"]) if state else []
        self._known: dict[str, None] = dict.fromkeys(state["known"]) if state else {}
        self.heard: Ledger = copied(state.get("heard", {})) if state else {}
        """Which events the run has heard. They do not come here; see `listening`."""
        self._woken: dict[str, None] = {}

    @property
    def state(self) -> InboxState:
        """What a continued run must know."""
        state: InboxState = {"signals": [*self._signals], "answers": [*self._answers], "known": [*self._known]}
        # Who is woken in between has looked for events by itself when the run goes on.
        return {**state, "heard": copied(self.heard)} if self.heard else state

    def restore(self, state: InboxState) -> None:
        """Take over what a run before this one had not taken; it came before everything here."""
        self._signals[:0] = state["signals"]
        self._answers[:0] = state["answers"]
        self._known = {**dict.fromkeys(state["known"]), **self._known}
        self.heard = {**copied(state.get("heard", {})), **self.heard}

    def is_new(self, message: Any) -> TypeGuard[dict[str, Any]]:
        """Tell whether this is a message, and not one that came before; from now on it is one that did."""
        if not isinstance(message, dict):
            return False
        name = str(cast("dict[str, Any]", message).get("id") or "")
        if name in self._known:
            return False
        if name:
            self._known[name] = None
            while len(self._known) > _KNOWN_IDS:
                del self._known[next(iter(self._known))]
        return True

    def put_signal(self, message: dict[str, Any]) -> None:
        """Keep a signal."""
        self._signals.append(
            {
                "id": str(message.get("id") or ""),
                "name": str(message.get("name") or ""),
                "payload": message.get("payload"),
                "at": str(message.get("at") or ""),
            }
        )

    def put_wake(self, message: dict[str, Any]) -> None:
        """Keep word that there are events for a listener."""
        self._woken[str(message.get("listener") or "")] = None

    def put_answer(self, message: dict[str, Any]) -> None:
        """Keep an answer."""
        form = message.get("form_data")
        self._answers.append(
            {
                "id": str(message.get("id") or ""),
                "task_id": str(message.get("task_id") or ""),
                "task_name": str(message.get("task_name") or ""),
                "outcome": str(message.get("outcome") or ""),
                "form_data": cast("dict[str, Any]", form) if isinstance(form, dict) else None,
                "comment": str(message.get("comment") or ""),
                "by": str(message.get("by") or ""),
                "at": str(message.get("at") or ""),
            }
        )

    def take_signal(self, matches: Callable[[Signal], bool]) -> Signal | None:
        """Take the oldest signal that matches out; None when there is none."""
        for index, signal in enumerate(self._signals):
            if matches(signal):
                return self._signals.pop(index)
        return None

    def take_answer(self, task_id: str) -> Answer | None:
        """Take the answer to a task's execution out; None when there is none."""
        for index, answer in enumerate(self._answers):
            if answer["task_id"] == task_id:
                return self._answers.pop(index)
        return None

    def take_wake(self, listener: str) -> bool:
        """Take out the word that there are events for a listener; tell whether there was any."""
        if listener not in self._woken:
            return False
        del self._woken[listener]
        return True
