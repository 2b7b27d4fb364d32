"""One execution of a `listen` task: signals and events, taken one after another until there are enough.

Signals come by themselves and wait in the inbox. Events are fetched: the server keeps them, and a run that has looked
through all there are is woken when there are more. So a run carries a place in their order, never the events; a flood
of them stays where it is until the run comes to it. What is wanted is decided here, from what was fetched, and
therefore the same when replayed. Workflow code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from stigmer_dsl.events import matches, pattern, prepared, read
from stigmer_dsl.model import ListenTask
from stigmer_dsl.model.events import EventConsumption, EventFilter

from workflow_runner import ledger, names
from workflow_runner.call_messages import ReceiveArguments, Received
from workflow_runner.inbox import Signal
from workflow_runner.ledger import Ledger
from workflow_runner.tasks.port import Step

SIGNAL = "signal"
_NEVER = frozenset({"false", "${false}", "${ false }"})
"""Conditions that never hold: who listens so for ever needs no output."""
_MOST_PATTERNS = 100
"""How many patterns the server looks for at once; who wants more is given everything."""


class Listening:
    """What one `listen` task has heard. Everything that must last is in the step's state."""

    def __init__(self, task: ListenTask, step: Step) -> None:
        to = task.listen.to
        self._task, self._step, self._state = task, step, step.state
        self._until = to.until if to.strategy == "any" else None
        ending = self._until if isinstance(self._until, EventConsumption) else None
        state = self._state
        if "wanted" not in state:
            state["wanted"] = _prepared(to.filters, step)
            state["ending"] = _prepared(ending.filters if ending else (), step)
        state.setdefault("heard", {})
        state.setdefault("known", [{}, {}])
        self._main = _Strategy(to, state["wanted"], state["heard"], state["known"][0])
        self._end = None
        if ending is not None:
            self._end = _Strategy(ending, state["ending"], state.setdefault("ended", {}), state["known"][1])
        self._page: list[dict[str, Any]] = []
        self._looked = self._waiting = False
        step.show({"listening": {to.strategy: state["wanted"], **({"until": state["ending"]} if ending else {})}})

    async def run(self) -> list[Any]:
        """Listen until there is enough; return what was heard."""
        if "current" in self._state:
            await self._process(**self._state["current"])
        while not self._is_over():
            await self._hear()
        return self._main.output

    def _is_over(self) -> bool:
        if self._until is None:
            return self._main.is_met
        return self._state.get("over", False) if self._end is None else self._end.is_met

    async def _hear(self) -> None:
        """Take one signal or event, or wait for one."""
        if self._wants_events and not self._page and not self._waiting:
            await self._look()
        if self._page:
            found = self._page.pop(0)
            await self._take_event(found["event"], found["position"])
        elif self._waiting or not self._wants_events:
            signal = await self._step.receive(self._wants_signal, listener=self._state.get("listener", ""))
            self._waiting = False
            if signal is not None:
                await self._take_signal(signal)

    # Events.

    @property
    def _wants_events(self) -> bool:
        return any(strategy.wants_events for strategy in self._strategies)

    @property
    def _strategies(self) -> tuple["_Strategy", ...]:
        # What ends the listening comes first: it is no part of what is heard.
        return (self._main,) if self._end is None else (self._end, self._main)

    async def _look(self) -> None:
        """Fetch the next events, or have the run woken when there are some."""
        if self._looked:
            await self._step.rest()
        state, step = self._state, self._step
        if "listener" not in state:
            state["listener"] = f"{int(step.random() * 2**53):014x}"
            state["ledger"] = ledger.copied(step.heard)
            state["after"] = ledger.beginning(state["ledger"], self._keys)
        arguments: ReceiveArguments = {
            "listener": state["listener"],
            "patterns": self._patterns,
            "after": state["after"],
        }
        received = cast("Received", await step.call(names.RECEIVE_EVENTS, arguments, repeatable=True))
        self._looked = True
        self._page, self._waiting = received["events"], received["waiting"]
        if not self._page:
            state["after"] = received["position"]

    @property
    def _patterns(self) -> list[dict[str, str]]:
        """What the server is to look for: none for everything."""
        found = {ledger.key_of(item): item for strategy in self._strategies for item in strategy.patterns}
        return [] if " " in found or len(found) > _MOST_PATTERNS else [*found.values()]

    @property
    def _keys(self) -> list[str]:
        return [ledger.key_of(item) for strategy in self._strategies for item in strategy.patterns]

    async def _take_event(self, event: dict[str, Any], place: int) -> None:
        own: Ledger = self._state["ledger"]
        if ledger.is_over(own, event, place):
            self._state["after"] = max(self._state["after"], place)
            return
        for strategy in self._strategies:
            index = strategy.take(event, self._step)
            if index is not None:
                self._note(event, place, taken=True)
                await self._consume(strategy, index, read(event, self._task.listen.read))
                return
        self._note(event, place, taken=False)

    def _note(self, event: Mapping[str, Any], place: int, *, taken: bool) -> None:
        keys = ledger.keys_of(self._keys, event)
        for book in (self._state["ledger"], self._step.heard):
            ledger.note(book, keys, place, taken=taken)
        self._state["after"] = max(self._state["after"], place)

    # Signals.

    def _wants_signal(self, signal: Signal) -> bool:
        return any(strategy.signal(signal) is not None for strategy in self._strategies)

    async def _take_signal(self, signal: Signal) -> None:
        for strategy in self._strategies:
            index = strategy.signal(signal)
            if index is not None:
                await self._consume(strategy, index, _read_signal(signal, self._task.listen.read))
                return

    # What follows.

    async def _consume(self, strategy: "_Strategy", index: int, value: Any) -> None:
        if strategy is self._end:
            strategy.heard[str(index)] = True
            return
        number = self._state.get("count", 0)
        self._state["count"] = number + 1
        await self._process(value, str(index if self._until is None else number), number)

    async def _process(self, value: Any, key: str, number: int) -> None:
        """Do what is to be done for each, and keep what that gives."""
        step, foreach = self._step, self._task.foreach
        output = value
        if foreach is not None:
            self._state["current"] = {"value": value, "key": key, "number": number}
            variables = {foreach.item: value, foreach.at: number}
            if foreach.do is not None:
                output = await step.run_tasks(
                    foreach.do, "/foreach/do", value, label=f"[{number}]", variables=variables, iteration=number
                )
            output = step.hand_on(foreach.output, foreach.export, output, variables)
            del self._state["current"]
        if not self._is_endless:
            self._main.heard[key] = output
        if isinstance(self._until, str) and not self._is_endless:
            self._state["over"] = step.holds(self._until, on=self._main.output)

    @property
    def _is_endless(self) -> bool:
        return isinstance(self._until, str) and self._until.strip() in _NEVER


class _Strategy:
    """One, any or all of some filters, and how many of them were met."""

    def __init__(
        self, to: EventConsumption, wanted: Sequence[dict[str, Any]], heard: dict[str, Any], known: dict[str, Any]
    ) -> None:
        self._wanted = wanted
        self._is_any = to.strategy == "any"
        self._most = len(wanted) if to.strategy == "all" else 1
        self._known = known
        self.heard = heard
        self._of_events = [item for item in wanted if not is_signal(item)]
        self.patterns = [pattern(item) for item in self._of_events]
        if self._is_any and not wanted:
            self.patterns = [{"type": "", "source": ""}]

    @property
    def is_met(self) -> bool:
        """Whether enough was heard."""
        return len(self.heard) >= self._most

    @property
    def wants_events(self) -> bool:
        """Whether it is about events at all, not about signals only."""
        return bool(self.patterns)

    @property
    def output(self) -> list[Any]:
        """What was heard: in the order of the filters, or, where any counts, in the order of time."""
        return [self.heard[key] for key in sorted(self.heard, key=int)]

    def take(self, event: Mapping[str, Any], step: Step) -> int | None:
        """Return the filter that an event meets, and keep what it fixes for others; None: there is none."""
        if self._is_any and not self._wanted:
            return 0
        for index, item in self._missing():
            if is_signal(item):
                continue
            known = matches(item, event, self._known, lambda text, data: step.evaluate_text(text, on=data))
            if known is not None:
                self._known.update(known)
                return index
        return None

    def signal(self, signal: Signal) -> int | None:
        """Return the filter that a signal meets."""
        for index, item in self._missing():
            if is_signal(item) and str(item["with"]["id"]) == signal["name"]:
                return index
        return None

    def _missing(self) -> list[tuple[int, dict[str, Any]]]:
        """Each filter is met once, but where any counts."""
        return [(at, item) for at, item in enumerate(self._wanted) if self._is_any or str(at) not in self.heard]


def is_signal(wanted: Mapping[str, Any]) -> bool:
    """Whether a prepared filter stands for a signal."""
    return wanted["with"].get("type") == SIGNAL


def _prepared(filters: Sequence[EventFilter], step: Step) -> list[dict[str, Any]]:
    return [prepared(item, step.evaluate) for item in filters]


def _read_signal(signal: Signal, form: str) -> Any:
    if form == "envelope":
        return {
            "id": signal["id"],
            "type": SIGNAL,
            "subject": signal["name"],
            "time": signal["at"],
            "data": signal["payload"],
        }
    return signal["payload"]
