"""An agent as its resource declares it, in the words of this runner; knows neither protobuf nor LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_runner.turn.approvals import ApprovalPolicy
from agent_runner.turn.usage import Budget

DEFAULT_INSTRUCTIONS = "You are a helpful assistant."


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
        mcp_servers: Names of MCP servers that it declares.
        skills: The skills that it may use.
    """

    name: str
    description: str
    instructions: str
    mcp_servers: tuple[str, ...] = ()
    skills: tuple[SkillReference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDefinition:
    """An agent.

    Attributes:
        name: Its slug.
        instructions: Its system prompt.
        sub_agents: Its sub-agents, in order, with unique names.
        mcp_servers: Names of MCP servers that it declares.
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
    mcp_servers: tuple[str, ...] = ()
    skills: tuple[SkillReference, ...] = ()
    approvals: tuple[ApprovalPolicy, ...] = ()
    can_ask: bool = False
    network: bool = False
    models: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    schema: Mapping[str, Any] | None = None

    def unavailable(self) -> tuple[str, ...]:
        """What this agent declares and this runner does not offer yet, a sentence each for the person."""
        everyone = (self, *self.sub_agents)
        servers = sorted({name for each in everyone for name in each.mcp_servers})
        sentences: list[str] = []
        if servers:
            sentences.append(
                f"This runner cannot connect to MCP servers yet: "
                f"the tools of {', '.join(servers)} are not available in this run."
            )
        return tuple(sentences)
