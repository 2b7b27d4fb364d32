"""How the phase of an execution may change: one table for both kinds, and for every path that changes a phase.

Pure data and one question to it. Numbers of phases differ between the kinds; here they have names.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum


class Phase(StrEnum):
    """How far an execution is; the names are the contract's, without their prefix."""

    PENDING = "PENDING"
    """Stored, and waiting for a runner."""
    IN_PROGRESS = "IN_PROGRESS"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    """Waiting for a person; of agents only."""
    PAUSED = "PAUSED"
    """Held at somebody's wish, from the moment of the wish; its runner stops at the next safe point."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TERMINATED = "TERMINATED"


ENDED = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED, Phase.TERMINATED})
"""The phases that only recovery leaves, and only FAILED."""
UNENDED = frozenset(Phase) - ENDED
_RUNNING = frozenset({Phase.PENDING, Phase.IN_PROGRESS, Phase.WAITING_FOR_APPROVAL})


class Cause(StrEnum):
    """Who wants a phase to change."""

    REPORT = "report"
    """A runner tells what happened."""
    START_FAILED = "start failed"
    """Temporal refuses to start the run, for good."""
    LOST = "lost"
    """The run has ended, or is gone, and did not say so itself."""
    EXPIRED = "expired"
    """No runner took it up in time."""
    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    RESUME = "resume"
    RECOVER = "recover"


class Verdict(Enum):
    """What becomes of a wish."""

    CHANGE = "change"
    """The phase changes."""
    SAME = "same"
    """What was wanted holds already; nothing changes."""
    IGNORE = "ignore"
    """It comes too late, or from somebody who does not know better; the phase stays."""
    REFUSE = "refuse"
    """It cannot be, and whoever asked is told so."""


def _from(phases: frozenset[Phase], *to: Phase) -> dict[Phase, frozenset[Phase]]:
    return dict.fromkeys(phases, frozenset(to))


TRANSITIONS: Mapping[Cause, Mapping[Phase, frozenset[Phase]]] = {
    Cause.REPORT: {
        Phase.PENDING: frozenset({Phase.IN_PROGRESS, Phase.WAITING_FOR_APPROVAL}) | ENDED,
        Phase.IN_PROGRESS: frozenset({Phase.WAITING_FOR_APPROVAL}) | ENDED,
        Phase.WAITING_FOR_APPROVAL: frozenset({Phase.IN_PROGRESS}) | ENDED,
        # Only people pause and resume. A runner that has not heard of it yet still says that it goes on, and one
        # that holds may say so after it was resumed.
        Phase.PAUSED: ENDED,
    },
    Cause.START_FAILED: _from(frozenset({Phase.PENDING, Phase.PAUSED}), Phase.FAILED),
    Cause.LOST: _from(UNENDED, Phase.FAILED, Phase.CANCELLED, Phase.TERMINATED),
    Cause.EXPIRED: _from(frozenset({Phase.PENDING}), Phase.FAILED),
    Cause.CANCEL: _from(UNENDED, Phase.CANCELLED),
    Cause.TERMINATE: _from(UNENDED, Phase.TERMINATED),
    Cause.PAUSE: _from(_RUNNING, Phase.PAUSED),
    Cause.RESUME: _from(frozenset({Phase.PAUSED}), Phase.PENDING, Phase.IN_PROGRESS),
    Cause.RECOVER: _from(frozenset({Phase.FAILED}), Phase.PENDING),
}
"""From where to where each cause may lead. What is not here does not happen."""

SATISFIED: Mapping[Cause, frozenset[Phase]] = {Cause.RESUME: _RUNNING}
"""Phases in which a wish is fulfilled already, beside the very phase that is wanted."""

UNSATISFIED = frozenset({Cause.RECOVER})
"""Wishes that the wanted phase alone does not fulfil: a new execution is pending, but nothing was recovered."""

LENIENT = frozenset({Cause.REPORT, Cause.START_FAILED, Cause.LOST, Cause.EXPIRED})
"""Causes whose wishes are ignored where they cannot be; the others are somebody's, who is told."""


def judge(cause: Cause, now: Phase, wanted: Phase) -> Verdict:
    """Return what becomes of the wish for a phase."""
    if (now is wanted and cause not in UNSATISFIED) or now in SATISFIED.get(cause, ()):
        return Verdict.SAME
    if wanted in TRANSITIONS[cause].get(now, ()):
        return Verdict.CHANGE
    return Verdict.IGNORE if cause in LENIENT else Verdict.REFUSE
