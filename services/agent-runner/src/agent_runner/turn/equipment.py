"""What an agent has at hand in a turn: a workspace with a shell, its skills, and tools from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent_runner.contract import ResolvedRun
from agent_runner.models.providers import variables_of
from agent_runner.skills.shelf import Shelf
from agent_runner.skills.skill import Skill
from agent_runner.tools.toolbox import Toolbox, Tools
from agent_runner.turn.agent import MAIN
from agent_runner.turn.definition import AgentDefinition, SkillReference
from agent_runner.turn.effects import IN_WORKSPACE, Effect
from agent_runner.turn.journal import Journal
from agent_runner.workspace.backend import SandboxBackend
from agent_runner.workspace.copying import copy_workspace
from agent_runner.workspace.port import Workspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What one turn has.

    Attributes:
        backend: The workspace; None: files live in the conversation.
        skills: The skills of each agent, by its name.
        tools: Tools of MCP servers and of the web.
        effects: What its tools do when run twice, where that is not as usual.
    """

    backend: SandboxBackend | None
    skills: Mapping[str, tuple[Skill, ...]]
    tools: Tools
    effects: Mapping[str, Effect]


class Equipper:
    """Gets ready what agents need.

    Args:
        workspaces: Where sessions work; None: nowhere.
        shelf: Skills.
        toolbox: Tools from elsewhere.
    """

    def __init__(self, workspaces: Workspaces | None, shelf: Shelf, toolbox: Toolbox) -> None:
        self._workspaces = workspaces
        self._shelf = shelf
        self._toolbox = toolbox

    async def equip_fork(self, run: ResolvedRun, journal: Journal) -> None:
        """Before the first turn of a forked session: give it what the other one has at hand.

        Raises:
            WorkspaceFileError: Its files are too many, or cannot be read.
        """
        if run.forked_from is None or await journal.has_begun(run.thread):
            return
        if self._workspaces is not None:
            await copy_workspace(self._workspaces, run.forked_from.thread, run.thread)
        await journal.copy_pins(run.forked_from.thread, run.thread)

    async def equip(self, thread: str, definition: AgentDefinition, environment: Mapping[str, str]) -> Equipment:
        """What the agent has in a turn of `thread`.

        Raises:
            ResourceError: A skill cannot be had, or an MCP server is not as the agent wants it.
            McpServerError: A server that it cannot do without is not to be had.
            RpcError: The server is away.
        """
        skills = {MAIN: await self._skills(definition.skills)}
        for each in definition.sub_agents:
            skills[each.name] = await self._skills(each.skills)
        backend = await self._backend(thread, definition, environment, skills)
        tools = await self._toolbox.open(thread, definition, environment, backend)
        effects = {**(IN_WORKSPACE if backend is not None else {}), **tools.effects}
        return Equipment(backend=backend, skills=_seen(skills, backend), tools=tools, effects=effects)

    async def _backend(
        self,
        thread: str,
        definition: AgentDefinition,
        environment: Mapping[str, str],
        skills: Mapping[str, tuple[Skill, ...]],
    ) -> SandboxBackend | None:
        if self._workspaces is None:
            return None
        of_models = variables_of(definition.models)
        readable = tuple(sorted({skill.folder for found in skills.values() for skill in found}))
        workspace = await self._workspaces.open(
            thread,
            environment={name: value for name, value in environment.items() if name not in of_models},
            readable=readable,
            network=definition.network,
        )
        return SandboxBackend(workspace, readable)

    async def _skills(self, references: tuple[SkillReference, ...]) -> tuple[Skill, ...]:
        return tuple(await asyncio.gather(*map(self._shelf.get, references)))


def _seen(skills: Mapping[str, tuple[Skill, ...]], backend: SandboxBackend | None) -> Mapping[str, tuple[Skill, ...]]:
    """The skills, where the agent finds them."""
    if backend is None:
        return skills
    seen = backend.workspace.seen
    return {name: tuple(replace(each, folder=Path(seen(each.folder))) for each in own) for name, own in skills.items()}
