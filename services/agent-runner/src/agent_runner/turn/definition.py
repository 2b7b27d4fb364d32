"""An agent as its resource declares it, in the words of this runner; knows neither protobuf nor LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_runner.tools.servers import McpServer
from agent_runner.turn.approvals import ApprovalPolicy
from agent_runner.turn.usage import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillReference:
    """Names a skill.

    Attributes:
        slug: Its slug.
        org: Slug of the organization that owns it.
        scope: The contract's owner scope.
        version: A tag, a hash, or empty for the newest.
    """

    slug: str
    org: str
    scope: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubAgentDefinition:
    """A sub-agent that the main agent may give tasks to.

    Attributes:
        name: What the main agent calls it.
        description: When to use it.
        instructions: Its system prompt.
        mcp_servers: Names of the agent's MCP servers that it may use.
        selections: Tools that it may use, by the server's name; a server that is not here gives all that the agent has.
        skills: The skills that it may use.
    """

    name: str
    description: str
    instructions: str
    mcp_servers: tuple[str, ...] = ()
    selections: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    skills: tuple[SkillReference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDefinition:
    """An agent.

    Attributes:
        name: Its slug.
        instructions: Its system prompt.
        sub_agents: Its sub-agents, in order, with unique names.
        mcp_servers: Its MCP servers, with unique names.
        optional: Names of those that it can do without; `*` is all.
        web_fetch: Whether it may fetch pages of the web.
        skills: The skills that it may use.
        approvals: Which tool calls people must allow; the first that fits counts.
        can_ask: Whether it may ask people questions.
        network: Whether its commands need the network.
        models: `provider:model` of those that answer, in the order in which they are asked; empty is the runner's.
        budget: What a run may use up.
        schema: JSON Schema of the answer, if it has one.
    """

    name: str
    instructions: str
    sub_agents: tuple[SubAgentDefinition, ...] = ()
    mcp_servers: tuple[McpServer, ...] = ()
    optional: frozenset[str] = frozenset()
    web_fetch: bool = False
    skills: tuple[SkillReference, ...] = ()
    approvals: tuple[ApprovalPolicy, ...] = ()
    can_ask: bool = False
    network: bool = False
    models: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    schema: Mapping[str, Any] | None = None

    def can_miss(self, server: str) -> bool:
        """Whether a run goes on when that MCP server is not to be had."""
        return server in self.optional or "*" in self.optional
