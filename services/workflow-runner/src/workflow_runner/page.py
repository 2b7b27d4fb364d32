"""What people see of a run on Temporal's own page: what it is at, and which task each event is of.

Names and kinds of tasks only: the page knows nothing of who may see a value. Nothing of it is looked at when a
history is replayed. Workflow code.
"""

from itertools import islice

from temporalio import workflow

from workflow_runner.messages import TaskRecord

_MOST_SHOWN = 20
_MOST_TEXT = 100
"""Characters of a summary. Temporal refuses more than 400 bytes, which so many always fit into."""


class Page:
    """The tasks in progress, as the page tells them."""

    def __init__(self) -> None:
        self._in_progress: dict[str, str] = {}

    def note(self, record: TaskRecord) -> None:
        """Take note of what became of a task."""
        if record["status"] in ("IN_PROGRESS", "WAITING_FOR_APPROVAL"):
            waits = " waits for a person" if record["status"] == "WAITING_FOR_APPROVAL" else ""
            self._in_progress[record["id"]] = f"- **{record['name']}** ({record['kind']}) `{record['id']}`{waits}"
        elif self._in_progress.pop(record["id"], None) is None:
            return
        workflow.set_current_details(self._text())

    def _text(self) -> str:
        shown = "\n".join(islice(self._in_progress.values(), _MOST_SHOWN))
        more = len(self._in_progress) - _MOST_SHOWN
        return f"{shown}\n- and {more} more" if more > 0 else shown


def summary(pointer: str) -> str:
    """Return a task's pointer as the one line that an event may have."""
    return pointer if len(pointer) <= _MOST_TEXT else f"…{pointer[1 - _MOST_TEXT :]}"
