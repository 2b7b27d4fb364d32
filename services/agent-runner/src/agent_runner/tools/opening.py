"""Opening a toolbox for one turn: connecting to the agent's servers and giving its agents their tools."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.tools import BaseTool
from loguru import logger
from mcp_types import Tool

from agent_runner.errors import McpServerError, ResourceError
from agent_runner.tools import naming
from agent_runner.tools.links import Link
from agent_runner.tools.pins import fingerprint
from agent_runner.tools.port import ServerError
from agent_runner.tools.results import Keep
from agent_runner.tools.servers import McpServer, filled
from agent_runner.tools.tool import McpTool, effect
from agent_runner.tools.toolbox import Toolbox, Tools
from agent_runner.tools.web import WEB_FETCH, WebFetch
from agent_runner.turn.approvals import Origin
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.effects import Effect
from agent_runner.workspace.backend import SandboxBackend


@dataclass(frozen=True, slots=True)
class Opening:
    """One turn's opening; see `Toolbox.open`."""

    box: Toolbox
    thread: str
    definition: AgentDefinition
    values: Mapping[str, str]
    backend: SandboxBackend | None

    async def tools(self) -> Tools:
        """Connect to all servers side by side; see `Toolbox.open`."""
        keep, definition = _keeping(self.backend), self.definition
        opened = await asyncio.gather(*(self._opened(server, keep) for server in definition.mcp_servers))
        web = (WebFetch(self.box.outbound, self.box.settings.web, keep),) if definition.web_fetch else ()
        found = {each.server.name: each for each in opened}

        def of_sub_agent(servers: tuple[str, ...], selections: Mapping[str, tuple[str, ...]]) -> tuple[BaseTool, ...]:
            own = [found[name].wanted(selections.get(name) or found[name].server.enabled) for name in servers]
            return (*web, *(tool for tools in own for tool in tools))

        return Tools(
            main=(*web, *(tool for each in opened for tool in each.wanted(each.server.enabled))),
            of_sub_agents={
                each.name: of_sub_agent(each.mcp_servers, each.selections) for each in definition.sub_agents
            },
            effects={WEB_FETCH: Effect.PURE} | {tool: one for each in opened for tool, one in each.effects.items()},
            origins={tool: origin for each in opened for tool, origin in each.origins.items()},
            notices={key: text for each in opened for key, text in each.notices.items()},
        )

    async def _opened(self, server: McpServer, keep: Keep) -> _Opened:
        try:
            link = Link(box=self.box, thread=self.thread, server=filled(server, self.values), backend=self.backend)
            listed = (await link.connection()).tools
        except (ServerError, ResourceError) as error:
            if not self.definition.can_miss(server.name):
                raise error if isinstance(error, ResourceError) else McpServerError(str(error)) from None
            logger.warning("an agent goes on without MCP server {}", server.name)
            notices = {f"mcp:{server.name}": f"{error}. The run goes on without its tools."}
            return _Opened(server=server, notices=notices, missing=True)
        named = naming.names((server.name, tool.name) for tool in listed)
        return _Opened(
            server=server,
            tools={
                tool.name: McpTool(named[server.name, tool.name], tool, call=link.calling(tool.name), keep=keep)
                for tool in listed
            },
            effects={named[server.name, tool.name]: effect(tool) for tool in listed},
            origins={named[server.name, tool.name]: Origin(server=server.name, tool=tool.name) for tool in listed},
            notices=await self._notices(server, listed),
        )

    async def _notices(self, server: McpServer, listed: tuple[Tool, ...]) -> dict[str, str]:
        notices = {f"mcp:{server.name}": f"MCP server {server.name!r} {server.described()}."}
        changed = await self.box.pins.pin(self.thread, server.name, {tool.name: fingerprint(tool) for tool in listed})
        if changed:
            notices[f"mcp-changed:{server.name}"] = (
                f"MCP server {server.name!r} describes {', '.join(sorted(changed))} otherwise than before in this "
                "session. Make sure that you trust it."
            )
        return notices


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What became of one server; tools by the names that the server gives them, the rest by those for the model."""

    server: McpServer
    tools: Mapping[str, McpTool] = field(default_factory=dict[str, McpTool])
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    origins: Mapping[str, Origin] = field(default_factory=dict[str, Origin])
    notices: Mapping[str, str] = field(default_factory=dict[str, str])
    missing: bool = False

    def wanted(self, names: tuple[str, ...]) -> tuple[McpTool, ...]:
        """The tools of these names; all when there are none. Raises: ResourceError."""
        if self.missing:
            return ()
        if unknown := sorted(set(names) - set(self.tools)):
            raise ResourceError(
                f"MCP server {self.server.name!r} has no tool {', '.join(unknown)}, which the agent wants of it; "
                f"it has {', '.join(sorted(self.tools)) or 'none'}"
            )
        return tuple(self.tools[name] for name in dict.fromkeys(names or self.tools))


def _keeping(backend: SandboxBackend | None) -> Keep:
    async def keep(path: str, content: bytes) -> str:
        if backend is None:
            return "not kept, because there is no workspace"
        (response,) = await backend.aupload_files([(path, content)])
        return f"not kept: {response.error}" if response.error else f"kept in {response.path}"

    return keep
