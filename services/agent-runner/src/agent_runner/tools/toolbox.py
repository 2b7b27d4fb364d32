"""The tools of an agent's MCP servers and of the web, for one turn: what there is of them, and who gets them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.tools import BaseTool
from stigmer_sandbox import Sandbox

from agent_runner.tools.connections import Connections
from agent_runner.tools.pins import Pins
from agent_runner.tools.port import Outbound
from agent_runner.tools.settings import ToolSettings
from agent_runner.turn.approvals import Origin
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.effects import Effect
from agent_runner.workspace.backend import SandboxBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools of one turn.

    Attributes:
        main: Those of the main agent, and of the sub-agent for general purposes.
        of_sub_agents: Those of each sub-agent, by its name.
        effects: What a second run of each would do.
        origins: Where those of MCP servers come from, by name.
        notices: What the person should know, by a key.
    """

    main: tuple[BaseTool, ...] = ()
    of_sub_agents: Mapping[str, tuple[BaseTool, ...]] = field(default_factory=dict[str, tuple[BaseTool, ...]])
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    origins: Mapping[str, Origin] = field(default_factory=dict[str, Origin])
    notices: Mapping[str, str] = field(default_factory=dict[str, str])


class Toolbox:
    """Gets the tools of agents.

    Args:
        connections: The worker's connections.
        pins: Descriptions as sessions know them.
        outbound: How requests leave.
        sandbox: Where servers that are programs run; None: nowhere.
        settings: What bounds them.
    """

    def __init__(
        self,
        *,
        connections: Connections,
        pins: Pins,
        outbound: Outbound,
        sandbox: Sandbox | None,
        settings: ToolSettings,
    ) -> None:
        self.connections = connections
        self.pins = pins
        self.outbound = outbound
        self.sandbox = sandbox
        self.settings = settings

    async def open(
        self, thread: str, definition: AgentDefinition, values: Mapping[str, str], backend: SandboxBackend | None
    ) -> Tools:
        """The tools of an agent in a turn of `thread`; `values` fill placeholders.

        Raises:
            McpServerError: A server that the agent cannot do without is not to be had.
            ResourceError: A server has a placeholder without a value, or not the tool that the agent wants of it.
        """
        if not definition.mcp_servers and not definition.web_fetch:
            return Tools()
        # The library of the protocol takes a second to load: not for who never needs it, and not on the loop.
        await asyncio.to_thread(importlib.import_module, "agent_runner.tools.opening")
        from agent_runner.tools.opening import Opening

        return await Opening(self, thread, definition, values, backend).tools()
