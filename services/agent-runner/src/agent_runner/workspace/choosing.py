"""Which of the places where sessions can work is taken: the one that the operator names, or the first that works."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
from loguru import logger
from stigmer_sandbox import (
    CommandError,
    ContainerOptions,
    ContainerSandbox,
    HostSandbox,
    LocalSandbox,
    Sandbox,
    SandboxUnavailableError,
    find_engine,
)

from agent_runner.settings import Settings
from agent_runner.workspace.daytona.api import DaytonaApi
from agent_runner.workspace.daytona.workspaces import DaytonaWorkspaces
from agent_runner.workspace.folders import FolderWorkspaces
from agent_runner.workspace.port import Workspaces

_ENGINES = ("docker", "podman")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Where sessions work.

    Attributes:
        workspaces: Their workspaces; None: nowhere, and agents have files in the conversation and no shell.
        sandbox: Where programs of this machine run for them, as MCP servers do; None: nowhere.
    """

    workspaces: Workspaces | None = None
    sandbox: Sandbox | None = None


async def choose(settings: Settings, client: httpx2.AsyncClient) -> Chosen:
    """Take the first place that works; says in the log why others do not. `client` reaches what is elsewhere."""
    reasons: list[str] = []
    for chosen in _candidates(settings, client):
        if chosen.workspaces is None:
            return chosen
        reason = await chosen.workspaces.unusable()
        if not reason:
            logger.info("agents work in {}", chosen.workspaces.name)
            return chosen if chosen.sandbox else replace(chosen, sandbox=await _beside())
        reasons.append(f"{chosen.workspaces.name}: {reason}")
    logger.warning("agents get no workspace and no shell: {}", "; ".join(reasons))
    return Chosen()


async def _beside() -> Sandbox | None:
    """Where programs of this machine run when sessions work elsewhere."""
    sandbox = LocalSandbox()
    try:
        await sandbox.check()
    except (SandboxUnavailableError, CommandError) as error:
        logger.warning("MCP servers that are programs cannot be run: {}", error)
        return None
    return sandbox


def _candidates(settings: Settings, client: httpx2.AsyncClient) -> Iterator[Chosen]:
    match settings.sandbox:
        case "off":
            yield Chosen()
        case "host":
            yield _here(settings, HostSandbox())
        case "local":
            yield _here(settings, LocalSandbox())
        case "auto":
            yield _here(settings, LocalSandbox())
            if program := _program(settings, *_ENGINES):
                yield _here(settings, _containers(settings, program))
        case "daytona":
            api = DaytonaApi(client, settings.daytona)
            yield Chosen(workspaces=DaytonaWorkspaces(api, settings.daytona, settings.workspace_limits))
        case engine:
            yield _here(settings, _containers(settings, _program(settings, engine)))


def _here(settings: Settings, sandbox: Sandbox) -> Chosen:
    workspaces = FolderWorkspaces(settings.workspaces, sandbox, settings.workspace_limits)
    return Chosen(workspaces=workspaces, sandbox=sandbox)


def _containers(settings: Settings, program: str) -> ContainerSandbox:
    return ContainerSandbox(
        ContainerOptions(
            program=program,
            # Another installation on this machine has its own containers.
            owner=hashlib.sha256(str(settings.workspaces.resolve()).encode()).hexdigest()[:16],
            image=settings.sandbox_image,
            pull=settings.sandbox_pull,
            idle_seconds=settings.sandbox_idle_seconds,
        )
    )


def _program(settings: Settings, *engines: str) -> str:
    """The command line of one of these engines: the one that the operator names, or the one that is found."""
    given = settings.container_program
    if given is not None and any(engine in Path(given).name for engine in engines):
        return str(given)
    return find_engine(*engines)
