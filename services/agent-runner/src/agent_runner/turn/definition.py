"""An agent as its resource declares it, in the words of this runner; knows neither protobuf nor LangChain."""

from __future__ import annotations

from dataclasses import dataclass

from agent_runner.turn.approvals import ApprovalPolicy

DEFAULT_INSTRUCTIONS = "You are a helpful assistant."


@dataclass(frozen=True, slots=True, kw_only=True)
class SubAgentDefinition:
    """A sub-agent that the main agent may give tasks to.

    Attributes:
        name: What the main agent calls it.
        description: When to use it.
        instructions: Its system prompt.
        mcp_servers: Names of MCP servers that it declares.
        skills: Slugs of skills that it declares.
    """

    name: str
    description: str
    instructions: str
    mcp_servers: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDefinition:
    """An agent.

    Attributes:
        name: Its slug.
        instructions: Its system prompt.
        sub_agents: Its sub-agents, in order, with unique names.
        mcp_servers: Names of MCP servers that it declares.
        skills: Slugs of skills that it declares.
        approvals: Which tool calls people must allow; the first that fits counts.
        can_ask: Whether it may ask people questions.
    """

    name: str
    instructions: str
    sub_agents: tuple[SubAgentDefinition, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    approvals: tuple[ApprovalPolicy, ...] = ()
    can_ask: bool = False

    def unavailable(self) -> tuple[str, ...]:
        """What this agent declares and this runner does not offer yet, a sentence each for the person."""
        everyone = (self, *self.sub_agents)
        servers = sorted({name for each in everyone for name in each.mcp_servers})
        skills = sorted({slug for each in everyone for slug in each.skills})
        sentences: list[str] = []
        if servers:
            sentences.append(
                f"This runner cannot connect to MCP servers yet: "
                f"the tools of {', '.join(servers)} are not available in this run."
            )
        if skills:
            sentences.append(f"This runner cannot load skills yet: {', '.join(skills)} are not available in this run.")
        return tuple(sentences)
