"""Reports that a run lends to the local activity it waits for, by memory and not by message.

A local activity is always in the process of the workflow that waits for it. So a report that is to go only if the
activity takes long need not be written out and read back for each of many that are over in a moment.
"""

from collections.abc import Generator
from contextlib import contextmanager

from workflow_runner.messages import Report


class Loans:
    """What is lent in this process, by Temporal's ids of runs."""

    def __init__(self) -> None:
        self._lent: dict[str, Report] = {}

    @contextmanager
    def lending(self, run: str, report: Report) -> Generator[None]:
        """Lend `report`, which nobody changes, while the block runs."""
        self._lent[run] = report
        try:
            yield
        finally:
            if self._lent.get(run) is report:
                del self._lent[run]

    def of(self, run: str) -> Report | None:
        """Return what a run lends now."""
        return self._lent.get(run)


LOANS = Loans()
