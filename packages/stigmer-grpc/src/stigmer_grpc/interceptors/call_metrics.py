"""How many calls there are, how long they take and how they end, in numbers that are ready whenever they are asked for.

Kept as plain integers per method, so that a call pays one microsecond for it; whoever shows them, as metrics of
some monitoring system, reads `CallMetrics.methods` when that system asks.
"""

from __future__ import annotations

from bisect import bisect_left

from stigmer_grpc.errors import StatusCode

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of the ranges in which durations are counted; a last range has no bound."""


class CodeMetrics:
    """The calls of one method that ended with one code."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How many took how long: one number for each range of BOUNDS, and one for those beyond."""
        self.seconds = 0.0
        """How long they took together."""


class MethodMetrics:
    """The calls of one method."""

    __slots__ = ("codes", "in_flight", "sent", "streams")

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        """Whether the method has many responses; a call then takes as long as its caller listens."""
        self.in_flight = 0
        self.sent = 0
        """Responses of streams."""
        self.codes: dict[StatusCode, CodeMetrics] = {}

    def ended(self, code: StatusCode, seconds: float) -> None:
        """Count a call."""
        found = self.codes.get(code)
        if found is None:
            found = self.codes[code] = CodeMetrics()
        found.counts[bisect_left(BOUNDS, seconds)] += 1
        found.seconds += seconds


class CallMetrics:
    """What was counted of the calls of a server, those that were turned away among them."""

    def __init__(self) -> None:
        self.methods: dict[str, MethodMetrics] = {}
        """By the method's full name, once it was called. To be read on the event loop's thread."""

    def of(self, method: str, *, streams: bool = False) -> MethodMetrics:
        """Return what is counted of a method."""
        found = self.methods.get(method)
        if found is None:
            found = self.methods[method] = MethodMetrics(streams=streams)
        return found
