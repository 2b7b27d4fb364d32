"""`listen`: wait for events and signals; output the array of what they carry.

A filter `with: {type: signal, id: NAME}` stands for the next signal of that name, whenever it came; every other filter
is for events of the organization, as `workflow_runner.listening` hears them.
"""

from collections.abc import Iterator, Sequence

from stigmer_dsl.model import ListenTask
from stigmer_dsl.model.events import EventConsumption, EventFilter

from workflow_runner.flow import Outcome
from workflow_runner.listening import SIGNAL, Listening
from workflow_runner.tasks.port import Step, TaskKind

_NAMES_A_SIGNAL = frozenset({"type", "id"})


class _Listen:
    task = ListenTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: ListenTask) -> Iterator[tuple[str, str]]:
        to = task.listen.to
        yield from _unsupported(to, "/listen/to")
        if isinstance(to.until, EventConsumption):
            yield from _unsupported(to.until, "/listen/to/until")

    async def run(self, task: ListenTask, step: Step) -> Outcome:
        return Outcome(output=await Listening(task, step).run())


def _unsupported(to: EventConsumption, place: str) -> Iterator[tuple[str, str]]:
    for at, item in _places(to, place):
        if item.with_.type != SIGNAL:
            continue
        if item.with_.attributes().keys() != _NAMES_A_SIGNAL:
            yield f"{at}/with", "a signal has a name and nothing else: `with: {type: signal, id: NAME}`"
        if item.correlate is not None:
            yield f"{at}/correlate", "signals are not correlated: give them names of their own"


def _places(to: EventConsumption, place: str) -> Sequence[tuple[str, EventFilter]]:
    if to.one is not None:
        return [(f"{place}/one", to.one)]
    return [(f"{place}/{to.strategy}/{index}", item) for index, item in enumerate(to.filters)]


KIND: TaskKind[ListenTask] = _Listen()
