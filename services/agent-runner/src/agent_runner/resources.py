"""The server's side of a run: which resources it is made of, and where its status goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from stigmer_grpc.errors import FailedPreconditionError, NotFoundError, UnimplementedError
from stigmer_protos.descriptors import message_type
from stigmer_runner.server import MINIMAL, StigmerServer
from stigmer_runner.values import read_struct

from agent_runner.contract import FINAL_PHASES, Fork, ResolvedRun, thread_of
from agent_runner.declared_servers import completed, server_of
from agent_runner.errors import ExecutionEndedError, ResourceError
from agent_runner.status.drafts import Delta
from agent_runner.tools.servers import McpServer
from agent_runner.turn.approvals import Action, ApprovalPolicy, Rule
from agent_runner.turn.definition import AgentDefinition, SkillReference, SubAgentDefinition
from agent_runner.turn.usage import Budget

Message = Any
"""A protobuf message of the contract's descriptor pool; its fields are read by name."""

_AGENTIC = "ai.stigmer.agentic"
_EXECUTION = f"{_AGENTIC}.agentexecution.v1"

APPROVE, ASK = "stigmer.ai/approve-tools", "stigmer.ai/ask-person"
"""Annotations of an agent: globs of tools whose calls people must allow, and `true` if it may ask people."""
MODEL = "stigmer.ai/model"
"""Annotation of an agent: its model, for who cannot set `spec.model`."""
NETWORK = "stigmer.ai/sandbox-network"
"""Annotation of an agent: `true` if its commands need the network."""
OPTIONAL, WEB_FETCH = "stigmer.ai/mcp-optional", "stigmer.ai/web-fetch"
"""Annotations of an agent: MCP servers that it can do without (names, or `*`), and `true` if it may fetch web pages."""
_NEXT_PAGE = "x-next-page-token"
"""Trailing metadata: where a list goes on."""
_PAGE = 20
"""Executions that are asked for at once: each comes with all that was said in it."""
_RULES: tuple[Rule, ...] = (Rule.REQUIRE, Rule.REQUIRE, Rule.ALLOW, Rule.DENY)
_ON_EXPIRY: tuple[Action, ...] = (Action.REJECT, Action.REJECT, Action.APPROVE, Action.FAIL)
"""By the numbers of the contract's enums."""


class Resources:
    """Reads what a run needs and writes its status.

    Every method raises the RpcError of a server that is away, beside what it says itself.
    """

    def __init__(self, server: StigmerServer) -> None:
        self._server = server

    async def execution(self, execution_id: str) -> Message:
        """The execution.

        Raises:
            ExecutionEndedError: It is gone.
        """
        try:
            return await self._server.call(
                f"{_EXECUTION}.AgentExecutionQueryController", "get", {"value": execution_id}
            )
        except NotFoundError:
            raise ExecutionEndedError(f"execution {execution_id} does not exist any more") from None

    async def resolve(self, execution_id: str, *, org: str, turn_seconds: float) -> ResolvedRun:
        """The chain from execution to agent.

        Raises:
            ExecutionEndedError: The execution is gone.
            ResourceError: A link of the chain is missing.
        """
        execution = await self.execution(execution_id)
        session_id = execution.spec.session_id
        if not session_id:
            raise ResourceError(f"execution {execution_id} names no session")
        session = await self._get(f"{_AGENTIC}.session.v1.SessionQueryController", "session", session_id)
        instance_id = session.spec.agent_instance_id
        instance = await self._get(
            f"{_AGENTIC}.agentinstance.v1.AgentInstanceQueryController", "agent instance", instance_id
        )
        return ResolvedRun(
            execution_id=execution_id,
            org=execution.metadata.org or org,
            session_id=session_id,
            thread=_thread(session_id, session.spec.thread_id),
            agent_instance_id=instance_id,
            agent_id=instance.spec.agent_id,
            turn_seconds=turn_seconds,
            forked_from=_fork(session),
        )

    async def forked_from(self, session_id: str) -> Fork | None:
        """Where a session goes on from, if it was forked.

        Raises:
            ResourceError: The session is gone.
        """
        return _fork(await self._get(f"{_AGENTIC}.session.v1.SessionQueryController", "session", session_id))

    async def executions(self, session_id: str) -> list[Message]:
        """The executions of a session, oldest first."""
        service, found, token = f"{_EXECUTION}.AgentExecutionQueryController", list[Message](), ""
        while True:
            trailers: dict[str, str | bytes] = {}
            request = {"session_id": session_id, "page_size": _PAGE, "page_token": token}
            page = await self._server.call(service, "listBySession", request, trailers=trailers)
            found += page.entries
            token = str(trailers.get(_NEXT_PAGE, ""))
            if not token:
                return found[::-1]

    async def agent(self, agent_id: str) -> AgentDefinition:
        """The agent.

        Raises:
            ResourceError: It or an MCP server that it names does not exist, or its parts do not fit together.
        """
        agent = await self._get(f"{_AGENTIC}.agent.v1.AgentQueryController", "agent", agent_id)
        definition = definition_of(agent)
        servers = [await self._completed(server, agent) for server in definition.mcp_servers]
        return replace(definition, mcp_servers=tuple(servers))

    async def _completed(self, server: McpServer, agent: Message) -> McpServer:
        """A server as it is reached; one that the agent names only is a resource of its organization."""
        if server.transport is not None:
            return server
        reference = {"slug": server.name, "org": agent.metadata.org, "scope": agent.metadata.owner_scope}
        try:
            found = await self._server.call(
                f"{_AGENTIC}.mcpserver.v1.McpServerQueryController", "getByReference", reference
            )
        except (NotFoundError, UnimplementedError):
            raise ResourceError(
                f"agent {agent.metadata.slug} names the MCP server {server.name!r} and does not say how to reach it, "
                f"and there is no McpServer of that slug in {agent.metadata.org or 'the platform'}"
            ) from None
        return completed(server, found)

    async def report(self, execution_id: str, status: Message) -> Message:
        """Put an AgentExecutionStatus in place of the execution's; gives the execution's phase and unseen messages.

        Raises:
            ExecutionEndedError: The execution is gone or over.
        """
        request = message_type(f"{_EXECUTION}.AgentExecutionUpdateStatusInput")(
            execution_id=execution_id, status=status
        )
        try:
            stored = await self._server.call(
                f"{_EXECUTION}.AgentExecutionCommandController", "updateStatus", request, metadata=MINIMAL
            )
        except (NotFoundError, FailedPreconditionError) as error:
            raise ExecutionEndedError(f"execution {execution_id} takes no more reports: {error}") from None
        # A server leaves an execution that is over as it is, and says so in its answer only.
        if phase_name(stored) in FINAL_PHASES and stored.status.phase != status.phase:
            raise ExecutionEndedError(f"execution {execution_id} is over: {phase_name(stored)}")
        return stored

    async def tell(self, execution_id: str, deltas: Sequence[Delta]) -> None:
        """Tell those who follow an execution what is being said in it."""
        request: Message = message_type(f"{_EXECUTION}.AgentExecutionTellInput")(execution_id=execution_id)
        for delta in deltas:
            request.deltas.add(
                key=delta.draft.key,
                position=delta.draft.position,
                task=delta.draft.task,
                thinking=delta.draft.thinking,
                offset=delta.offset,
                text=delta.text,
                finished=delta.finished,
            )
        await self._server.call(f"{_EXECUTION}.AgentExecutionLiveController", "tell", request)

    async def _get(self, service: str, what: str, resource_id: str) -> Message:
        try:
            return await self._server.call(service, "get", {"value": resource_id})
        except NotFoundError:
            raise ResourceError(f"{what} {resource_id} does not exist") from None


def definition_of(agent: Message) -> AgentDefinition:
    """An Agent resource in this runner's words.

    Raises:
        ResourceError: Two sub-agents or two MCP servers have the same name, or a sub-agent names a server that is none.
    """
    spec = agent.spec
    _check_names(agent.metadata.slug, "sub-agents", [each.name for each in spec.sub_agents])
    servers = [each.name for each in spec.mcp_servers]
    _check_names(agent.metadata.slug, "MCP servers", servers)
    for each in spec.sub_agents:
        if unknown := sorted({*each.mcp_servers, *each.mcp_tool_selections} - set(servers)):
            raise ResourceError(
                f"sub-agent {each.name} of agent {agent.metadata.slug} names MCP servers that the agent does not "
                f"have: {', '.join(unknown)}"
            )
    return AgentDefinition(
        name=agent.metadata.slug or agent.metadata.name,
        instructions=spec.instructions,
        mcp_servers=tuple(map(server_of, spec.mcp_servers)),
        optional=frozenset(_listed(agent, OPTIONAL)),
        web_fetch=agent.metadata.annotations.get(WEB_FETCH, "") == "true",
        skills=_skills(agent, spec.skill_refs),
        models=tuple(
            name for name in (spec.model or agent.metadata.annotations.get(MODEL, ""), *spec.fallback_models) if name
        ),
        budget=_budget(spec.budget),
        schema=read_struct(spec.output_schema) if spec.HasField("output_schema") else None,
        network=agent.metadata.annotations.get(NETWORK, "") == "true",
        approvals=_approvals(agent),
        can_ask=spec.can_ask or agent.metadata.annotations.get(ASK, "") == "true",
        sub_agents=tuple(
            SubAgentDefinition(
                name=each.name,
                description=each.description,
                instructions=each.instructions,
                mcp_servers=tuple(dict.fromkeys(each.mcp_servers)),
                selections={
                    name: tuple(each.mcp_tool_selections[name].enabled_tools) for name in each.mcp_tool_selections
                },
                skills=_skills(agent, each.skill_refs),
            )
            for each in spec.sub_agents
        ),
    )


def of_execution(agent: AgentDefinition, execution: Message) -> AgentDefinition:
    """The agent as one execution wants it: what the execution says goes before what the agent says."""
    config = execution.spec.execution_config
    own = tuple(name for name in (config.model_name, *config.fallback_models) if name)
    wanted, bounds = _budget(config.budget), agent.budget
    return replace(
        agent,
        models=own if config.model_name else (*agent.models[:1], *own, *agent.models[1:]),
        budget=Budget(
            model_calls=wanted.model_calls or bounds.model_calls,
            tokens=wanted.tokens or bounds.tokens,
            cost_usd=wanted.cost_usd or bounds.cost_usd,
            seconds=wanted.seconds or bounds.seconds,
        ),
        schema=read_struct(config.output_schema) if config.HasField("output_schema") else agent.schema,
    )


def _budget(message: Message) -> Budget:
    return Budget(
        model_calls=message.max_model_calls,
        tokens=message.max_tokens,
        cost_usd=message.max_cost_usd,
        seconds=message.max_seconds,
    )


def _skills(agent: Message, references: Iterable[Message]) -> tuple[SkillReference, ...]:
    """References as they are meant: what they leave out is that of the agent."""
    metadata = agent.metadata
    return tuple(
        SkillReference(
            slug=each.slug,
            org=each.org or metadata.org,
            scope=each.scope or metadata.owner_scope,
            version=each.version,
        )
        for each in references
    )


def _approvals(agent: Message) -> tuple[ApprovalPolicy, ...]:
    """What the agent's spec says, then what its annotation names, which clients of any server can set."""
    return (
        *(
            ApprovalPolicy(
                tool=each.tool,
                server=each.server,
                arguments=dict(each.arguments),
                rule=_RULES[int(each.rule)],
                expires_after=each.expires_after_seconds,
                on_expiry=_ON_EXPIRY[int(each.on_expiry)],
                reason=each.reason,
            )
            for each in agent.spec.approval_policies
        ),
        *(ApprovalPolicy(tool=name) for name in _listed(agent, APPROVE)),
    )


def _listed(agent: Message, annotation: str) -> list[str]:
    """The names that an annotation lists."""
    names = agent.metadata.annotations.get(annotation, "").split(",")
    return [name.strip() for name in names if name.strip()]


def _check_names(agent: str, what: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ResourceError(f"agent {agent} has several {what} called {', '.join(twice)}")


def phase_name(execution: Message) -> str:
    """The name of an execution's phase."""
    status = execution.status
    return str(status.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number[status.phase].name)


def status_of(execution: Message) -> Message:
    """A copy of an execution's status, without what belongs to the server."""
    copied = message_type(f"{_EXECUTION}.AgentExecutionStatus")()
    copied.CopyFrom(execution.status)
    copied.ClearField("audit")
    copied.ClearField("callback_token")
    return copied


def _fork(session: Message) -> Fork | None:
    place = session.status.forked_from
    if not place.session_id:
        return None
    return Fork(
        session_id=place.session_id,
        thread=_thread(place.session_id, place.thread_id),
        execution_id=place.execution_id,
        message_id=place.message_id,
    )


def _thread(session_id: str, thread_id: str) -> str:
    """The thread of a session. A thread id is free text: it must not open another session's memory."""
    return f"{thread_of(session_id)}/{thread_id}" if thread_id else thread_of(session_id)
