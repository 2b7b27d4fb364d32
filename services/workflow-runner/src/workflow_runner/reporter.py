"""Collecting what happened, and telling the server without making the run wait for it.

Records are kept by task id, the newest stands, and are sent in the order in which the tasks began. One
report is on its way at a time; what happens meanwhile goes with the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from workflow_runner.messages import MOST_OUTPUT_BYTES, Phase, Report, TaskRecord
from workflow_runner.sizes import Sizes, preview

Send = Callable[[Report], Awaitable[None]]
Keeps = Callable[[int], bool]

_MOST_TASKS = 500
_MOST_BYTES = 512 * 1024
"""What one report may hold: it is one message to the server, and may have to stand in history."""
_FRAME_BYTES = 200
"""What a record takes besides its data, roughly."""
_MOST_SHOWN_BYTES = 256 * 1024
"""What is reported of an input or output of a task; of a larger one, its size and the beginnings of its parts."""
_ROOM_TASKS = 4_000
_ROOM_BYTES = 8 * 1024 * 1024
"""What may wait here while the server is away; then the run waits too."""


class Reporter:
    """Reports one run. Deterministic: what it sends when depends on nothing but what the run did."""

    def __init__(
        self,
        execution_id: str,
        send: Send,
        *,
        may_hold_markers: bool = True,
        workflow_id: str = "",
        sizes: Sizes | None = None,
        truncates: bool = False,
        keeps: Keeps = lambda _: False,
        replaces: bool = False,
    ) -> None:
        """Report `execution_id` by `send`; large values are only shown in part if it `truncates`.

        `keeps` says of an output of so many bytes whether it is kept whole all the same, and `replaces` whether the
        server takes the tasks of a report for all there are.
        """
        self._keeps = keeps
        self._replaces = replaces
        self._execution_id = execution_id
        self._may_hold_markers = may_hold_markers
        self._workflow_id = workflow_id
        self._send = send
        self._waiting: dict[str, tuple[TaskRecord, int]] = {}
        self._bytes = 0
        self._sending: asyncio.Task[None] | None = None
        self._phase: Phase | None = None
        self._sizes = sizes or Sizes()
        self._truncates = truncates

    def add(self, record: TaskRecord) -> int:
        """Keep `record` for the next report; return the bytes of its values, roughly."""
        size = kept = _FRAME_BYTES + self._sizes.of(record["input"]) + self._sizes.of(record.get("output"))
        if self._truncates and size > _MOST_SHOWN_BYTES:
            record = self._truncated(record)
            kept = _FRAME_BYTES + self._sizes.of(record["input"]) + self._sizes.of(record.get("output"))
        told = self._sizes.of(record.get("error"))
        _, before = self._waiting.get(record["id"], (None, 0))
        self._waiting[record["id"]] = (record, kept + told)
        self._bytes += kept + told - before
        return size + told

    def _truncated(self, record: TaskRecord) -> TaskRecord:
        """Return `record` with what can be shown of its values."""
        made: TaskRecord = {**record}
        if (size := self._sizes.of(record["input"])) > _MOST_SHOWN_BYTES:
            made["input"] = preview(record["input"], size)
        if "output" in record and (size := self._sizes.of(record["output"])) > _MOST_SHOWN_BYTES:
            made["output"] = preview(record["output"], size)
        return made

    @property
    def bytes(self) -> int:
        """What waits here takes, roughly."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Whether the run should wait until some of what waits here has gone."""
        return len(self._waiting) >= _ROOM_TASKS or self._bytes >= _ROOM_BYTES

    def lend(self, most_bytes: int) -> Report | None:
        """Return the next report for a caller that may deliver it, and then says `delivered`; None if there is none.

        It stays here. What is larger than `most_bytes` goes by itself.
        """
        if not self._waiting or self._sending is not None:
            return None
        if self._bytes > most_bytes:
            self.flush()
            return None
        report = self._of([record for record, _ in islice(self._waiting.values(), _MOST_TASKS)])
        if self._phase and len(report["tasks"]) == len(self._waiting):
            report["phase"] = self._phase
        return report

    def delivered(self, report: Report) -> None:
        """Take note that what was lent has arrived; newer records of the same tasks still wait."""
        for record in report["tasks"]:
            waiting = self._waiting.get(record["id"])
            if waiting is not None and waiting[0] is record:
                del self._waiting[record["id"]]
                self._bytes -= waiting[1]
        if self._phase == report.get("phase"):
            self._phase = None

    def _put_back(self, report: Report) -> None:
        """Take back a report that was not delivered; newer records of the same tasks stand."""
        self._phase = self._phase or report.get("phase")
        newer, self._waiting, self._bytes = self._waiting, {}, 0
        for record in report["tasks"]:
            self.add(record)
        for record, _ in newer.values():
            self.add(record)

    def say(self, phase: Phase) -> None:
        """Tell a phase with the next report, which goes now, without waiting for it."""
        self._phase = phase
        self.flush()

    def flush(self, send: Send | None = None) -> None:
        """Begin to send what waits, in a way of the caller's or the usual one, without waiting for it."""
        if self._sending is None and (self._waiting or self._phase):
            self._sending = asyncio.create_task(self._send_all(send or self._send))

    async def drain(self) -> None:
        """Send everything, and return when the server has it."""
        self.flush()
        while self._sending is not None:
            await asyncio.shield(self._sending)
            self.flush()

    async def finish(self, send: Send, **end: Any) -> None:
        """Send everything that waits, and with the last of it, by `send`, how the run ended."""
        if self._sending is not None:
            await asyncio.shield(self._sending)
        while len(self._waiting) > _MOST_TASKS or self._bytes > _MOST_BYTES:
            await self._send(self._next())
        last = self._next()
        if self._truncates and (size := self._sizes.of(end.get("output"))) > MOST_OUTPUT_BYTES:
            end |= {"large": True} if self._keeps(size) else {"output": preview(end["output"], size)}
        last.update(end)  # pyright: ignore[reportCallIssue, reportArgumentType] - the keys of Report
        await send(last)

    async def _send_all(self, send: Send) -> None:
        try:
            while self._waiting or self._phase:
                report = self._next()
                try:
                    await send(report)
                except BaseException:
                    self._put_back(report)
                    raise
        finally:
            self._sending = None

    def _next(self) -> Report:
        tasks: list[TaskRecord] = []
        room = _MOST_BYTES
        for name in list(self._waiting):
            record, size = self._waiting[name]
            if tasks and (size > room or len(tasks) >= _MOST_TASKS):
                break
            del self._waiting[name]
            self._bytes -= size
            room -= size
            tasks.append(record)
        report = self._of(tasks)
        if self._phase and not self._waiting:
            report["phase"], self._phase = self._phase, None
        return report

    def _of(self, tasks: list[TaskRecord]) -> Report:
        report: Report = {
            "execution_id": self._execution_id,
            "may_hold_markers": self._may_hold_markers,
            "tasks": tasks,
        }
        if self._replaces:
            report["replaces"] = True
        if self._workflow_id:
            report["workflow_id"] = self._workflow_id
        return report
