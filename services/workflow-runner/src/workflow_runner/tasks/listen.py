"""`listen`: wait for signals by their names; output the array of what they carry.

A filter `with: {type: signal, id: NAME}` stands for the next signal of that name, whenever it came.
"""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.model import ListenTask
from stigmer_dsl.model.events import EventFilter

from workflow_runner.flow import Outcome
from workflow_runner.inbox import Signal
from workflow_runner.tasks.port import Step, TaskKind

_SIGNAL = "signal"
_NAMES_A_SIGNAL = frozenset({"type", "id"})


class _Listen:
    task = ListenTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: ListenTask) -> Iterator[tuple[str, str]]:
        to = task.listen.to
        for index, item in enumerate(to.filters):
            place = "/listen/to/one" if to.one is not None else f"/listen/to/{to.strategy}/{index}"
            if item.with_.type != _SIGNAL or item.with_.attributes().keys() != _NAMES_A_SIGNAL:
                yield f"{place}/with", "only signals are listened for yet, as `with: {type: signal, id: NAME}`"
            if item.correlate is not None:
                yield f"{place}/correlate", "correlation is not run yet"
        if not to.filters:
            yield "/listen/to/any", "listening for everything is not run yet: name the signals"
        if to.until is not None:
            yield "/listen/to/until", "`until` is not run yet"
        if task.foreach is not None:
            yield "/foreach", "`foreach` is not run yet"

    async def run(self, task: ListenTask, step: Step) -> Outcome:
        to = task.listen.to
        names = [_name(item, step) for item in to.filters]
        heard: dict[str, Any] = step.state.setdefault("heard", {})
        wanted = len(names) if to.strategy == "all" else 1
        while len(heard) < wanted:
            # Each filter is met once; of equal ones the first that is not.
            missing = {name: index for index, name in reversed([*enumerate(names)]) if str(index) not in heard}
            signal = await step.receive(lambda signal, missing=missing: signal["name"] in missing)
            heard[str(missing[signal["name"]])] = _read(signal, task.listen.read)
        return Outcome(output=[heard[str(index)] for index in range(len(names)) if str(index) in heard])


def _name(item: EventFilter, step: Step) -> str:
    return str(step.evaluate(item.with_.id))


def _read(signal: Signal, form: str) -> Any:
    if form == "envelope":
        return {
            "id": signal["id"],
            "type": _SIGNAL,
            "subject": signal["name"],
            "time": signal["at"],
            "data": signal["payload"],
        }
    return signal["payload"]


KIND: TaskKind[ListenTask] = _Listen()
