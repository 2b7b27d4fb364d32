"""What travels through Temporal: ids, phases and limits, and never a prompt, a result of a tool or a secret.

Imported by the workflow, so nothing here may import more than the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass

WORKFLOW = "stigmer/agent-execution/invoke"
RESOLVE = "stigmer/agent-execution/resolve"
TURN = "stigmer/agent-execution/turn"
FINISH = "stigmer/agent-execution/finish"
ASK_MODEL = "stigmer/workflow-execution/ask-model"
"""What workflows run here: a call of a model, without an agent."""

COMPLETED = "EXECUTION_COMPLETED"
FAILED = "EXECUTION_FAILED"
CANCELLED = "EXECUTION_CANCELLED"
TERMINATED = "EXECUTION_TERMINATED"
PAUSED = "EXECUTION_PAUSED"
WAITING = "EXECUTION_WAITING_FOR_APPROVAL"
QUEUED = "EXECUTION_PENDING"
"""Phase of a turn that has not begun, because another execution of its session comes first."""
FINAL_PHASES = (COMPLETED, FAILED, CANCELLED, TERMINATED)

PAUSE = "stigmer.pause"
RESUME = "stigmer.resume"
ANSWER = "stigmer.answer"
NEXT = "stigmer.next"
"""Signals from the server, and NEXT from a runner. Each carries an object with an `id`, by which a repeat is known."""

HEARTBEAT_TIMEOUT_SECONDS = 10.0
"""A worker that is silent for so long has died: another takes its turn over."""
HEARTBEAT_SECONDS = 2.5


def workflow_id(execution_id: str) -> str:
    """The id under which Temporal knows an execution's run."""
    return f"{WORKFLOW}/{execution_id}"


def thread_of(session_id: str) -> str:
    """The thread under which a session's conversation is remembered."""
    return f"thread-{session_id}"


@dataclass(frozen=True, slots=True)
class RunInput:
    """The workflow's argument; `known` are ids of signals that a history before this one has had."""

    execution_id: str
    org: str = ""
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Where a session goes on from that was forked from another.

    Attributes:
        session_id: The other session.
        thread: Its thread.
        execution_id: Its execution that is the last one in the fork.
        message_id: Of that, the message that is the last one; "": the execution is in the fork as a whole.
    """

    session_id: str
    thread: str
    execution_id: str
    message_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRun:
    """Which resources a run is made of.

    Attributes:
        execution_id: The execution.
        org: Its organization.
        session_id: The session that it belongs to.
        thread: The session's thread, under which the conversation is remembered.
        agent_instance_id: The session's agent instance.
        agent_id: That instance's agent.
        turn_seconds: How long the turn may take.
        forked_from: Where the session goes on from, if it was forked.
    """

    execution_id: str
    org: str
    session_id: str
    thread: str
    agent_instance_id: str
    agent_id: str
    turn_seconds: float
    forked_from: Fork | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """How a turn ended, as already reported to the server.

    Attributes:
        phase: The final phase; PAUSED: it stopped between two steps, and goes on later; WAITING: it goes on once a
            person has decided; QUEUED: it begins once those before it in the session are over.
        code: The error's stable name, when it failed.
        error: The error in a sentence, without what a provider or a tool said.
        until: When a turn that waits goes on in any case, in seconds since the epoch; 0: never.
    """

    phase: str
    code: str = ""
    error: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """What to report for a run that could not report its end itself."""

    execution_id: str
    phase: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The workflow's result."""

    execution_id: str
    phase: str
