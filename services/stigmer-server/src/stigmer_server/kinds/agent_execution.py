"""AgentExecution: one turn of an agent in a session; made with a session, or with an agent and a session of its own."""

from __future__ import annotations

from stigmer_server import agents, environments, executions, files, naming
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import default_instance
from stigmer_server.kinds.port import Apart, Kind, Parent, Phases
from stigmer_server.kinds.session import AUTO_CREATED
from stigmer_server.messages import Message
from stigmer_server.unit import Unit, assign_id

_TOOL_CALL_OPEN = frozenset({1, 2, 5})
"""ToolCallStatus: pending, running, waiting for approval."""
_TOOL_CALL_INTERRUPTED = 7
_SUB_AGENT_OPEN = frozenset({1, 2})
_SUB_AGENT_CANCELLED = 5
_PLATFORM = 1
_ORGANIZATION = 2


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    if stored is not None:
        executions.keep_token(message)
        if unit.exists("agent", stored.spec.agent_id):
            _mark_secrets(message, unit.require("agent", stored.spec.agent_id))
        return
    agent = _agent_of(message, unit)
    _mark_secrets(message, agent)
    agents.require_all(unit, message, agent)
    executions.begin(unit, KIND, message)


def _mark_secrets(message: Message, agent: Message) -> None:
    environments.mark_secrets(message.spec.runtime_env, environments.declared_by(agent))


def _agent_of(message: Message, unit: Unit) -> Message:
    """Return the agent that the execution runs, and make its spec name both session and agent.

    A session that is given decides which agent it is, whatever else is given.
    """
    spec = message.spec
    if spec.session_id:
        session = unit.require("session", spec.session_id)
        instance = unit.require("agent_instance", session.spec.agent_instance_id)
        agent = unit.require("agent", instance.spec.agent_id)
        message.metadata.org = message.metadata.org or session.metadata.org
        spec.agent_id = agent.metadata.id
        return agent
    if not spec.agent_id:
        problem = "say which session to continue (spec.session_id) or which agent to run (spec.agent_id)"
        raise InvalidError.of("spec", "agent_execution.session_or_agent.required", problem)
    agent = unit.require("agent", spec.agent_id)
    spec.session_id = _open_session(message, agent, unit)
    return agent


def _open_session(message: Message, agent: Message, unit: Unit) -> str:
    """Create a session with the agent's default instance and return its id."""
    agents, sessions = unit.kinds["agent"], unit.kinds["session"]
    if default_instance.ensure(unit, agents, agent):
        unit.replace_status(agents, agent)
    message.metadata.org = message.metadata.org or agent.metadata.org
    session = sessions.type()
    session.api_version = sessions.described.api_version
    session.kind = sessions.title
    assign_id(sessions, session)
    session.metadata.name = f"session-{session.metadata.id.partition('-')[2]}"
    session.metadata.slug = naming.slugify(session.metadata.name)
    session.metadata.org = message.metadata.org
    # A session cannot belong to the platform; that of a platform's agent belongs to whoever runs it.
    scope = agent.metadata.owner_scope
    session.metadata.owner_scope = _ORGANIZATION if scope == _PLATFORM else scope
    session.spec.agent_instance_id = agent.status.default_instance_id
    session.spec.subject = "Auto-created session"
    session.metadata.labels[AUTO_CREATED] = "true"
    unit.insert(sessions, session)
    return session.metadata.id


def _merge_status(status: Message, report: Message) -> None:
    for name in ("messages", "tool_calls", "sub_agent_executions", "artifacts"):
        if values := getattr(report, name):
            status.ClearField(name)
            getattr(status, name).extend(values)
    if report.todos:
        status.ClearField("todos")
        for key in report.todos:
            status.todos[key].CopyFrom(report.todos[key])
    for name in ("usage", "session_usage", "output"):
        if report.HasField(name):
            getattr(status, name).CopyFrom(getattr(report, name))
    status.taken_messages = max(status.taken_messages, min(report.taken_messages, len(status.sent_messages)))
    for key in report.approvals:
        # What a person decided may be newer than what the runner has read.
        if not status.approvals[key].decision:
            status.approvals[key].CopyFrom(report.approvals[key])


def _has_unseen(status: Message) -> bool:
    """Whether somebody has said something that the agent has not seen."""
    return bool(status.taken_messages < len(status.sent_messages))


def _close(status: Message) -> None:
    """A finished execution has no unfinished tool call and no unfinished sub-agent."""
    calls = [*status.tool_calls, *(call for message in status.messages for call in message.tool_calls)]
    for call in calls:
        if call.status in _TOOL_CALL_OPEN:
            call.status = _TOOL_CALL_INTERRUPTED
    for agent in status.sub_agent_executions:
        if agent.status in _SUB_AGENT_OPEN:
            agent.status = _SUB_AGENT_CANCELLED


def _removed(message: Message, unit: Unit) -> None:
    files.drop(unit.transaction, message.metadata.id)


KIND = Kind(
    name="agent_execution",
    named=False,
    parents=(Parent(kind="session", path="spec.session_id"),),
    fixed=("spec.session_id", "spec.agent_id"),
    secrets=("spec.runtime_env",),
    apart=(
        Apart(path="status.messages"),
        Apart(path="status.tool_calls"),
        Apart(path="status.sub_agent_executions"),
    ),
    phases=Phases(merge_status=_merge_status, holds=_has_unseen, close=_close),
    no_rollback="an execution is a record of what has run; start another one instead",
    run="stigmer/agent-execution/invoke",
    inspect=agents.inspect_execution,
    inspects_long=lambda execution: execution.spec.execution_config.HasField("output_schema"),
    settle=_settle,
    removed=_removed,
)
