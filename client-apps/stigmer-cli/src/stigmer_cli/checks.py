"""What `stigmer doctor` looks at: whether everything that a stack needs is here and sound. Nothing is changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from stigmer_cli import __version__, console
from stigmer_cli.connection import running_stack
from stigmer_cli.environment import Environment, Home
from stigmer_cli.errors import CliError
from stigmer_cli.server_state import ServerState, server_state
from stigmer_cli.stack.lock import find_holder
from stigmer_cli.stack.ports import LOOPBACK
from stigmer_cli.stack.state import ComponentState, StackStatus

_MEMBERS = ("stigmer-server", "workflow-runner", "agent-runner", "stigmer-protos", "stigmer-dsl", "stigmer-grpc")
_LITTLE_BYTES, _TOO_LITTLE_BYTES = 2 * 2**30, 200 * 2**20
_KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "OLLAMA_BASE_URL")
_PROGRAM_SECONDS = 10.0
_PORTS = {"server": 7234, "Temporal": 7233, "Temporal page": 8233}


class State(Enum):
    """What a look at something found."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; everything works."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, and what was found."""

    name: str
    state: State
    detail: str
    hint: str = ""
    """What to do about it."""


async def look(environment: Environment, server: str) -> AsyncIterator[Check]:
    """Yield what is found, one thing after the other. Nothing is started, written or waited for long."""
    stack = running_stack(environment)
    yield _python()
    yield _versions()
    for check in _home(environment.home):
        yield check
    if not environment.temporal_address:
        yield await _temporal_program()
    for check in _ports(stack):
        yield check
    yield _stack(environment, stack)
    address = server or environment.server_address or (stack.server if stack else "")
    if address:
        yield await _server(address, environment)
    if environment.temporal_address:
        yield await _external_temporal(environment.temporal_address)
    yield _models(environment)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", state=State.OK, detail=f"{version}, {sys.executable}")


def _versions() -> Check:
    found: dict[str, str] = {}
    for name in _MEMBERS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    other = [f"{name} {found.get(name, 'is missing')}" for name in _MEMBERS if found.get(name) != __version__]
    if other:
        told = f"stigmer-cli {__version__} beside {', '.join(other)}"
        return Check(name="packages", state=State.PROBLEM, detail=told, hint="install stigmer-cli again")
    return Check(name="packages", state=State.OK, detail=f"all {__version__}")


def _home(home: Home) -> Iterator[Check]:
    root = home.root
    there = root if root.exists() else _existing_parent(root)
    if not os.access(there, os.W_OK | os.X_OK):
        yield Check(
            name="home", state=State.PROBLEM, detail=f"{there} cannot be written",
            hint="set STIGMER_HOME to a folder that can",
        )  # fmt: skip
    elif not root.exists():
        yield Check(name="home", state=State.OK, detail=f"{root} is made when it is needed")
    elif root.stat().st_mode & 0o077:
        yield Check(
            name="home", state=State.NOTE, detail=f"others of this machine can look into {root}",
            hint=f"chmod 700 {root}",
        )  # fmt: skip
    else:
        yield Check(name="home", state=State.OK, detail=str(root))
    yield _disk(there)
    if home.database.exists():
        yield Check(name="database", state=State.OK, detail=f"{home.database}, {console.size(_size(home.database))}")
        yield _key(home)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    told = f"{console.size(free)} free at {folder}"
    if free < _TOO_LITTLE_BYTES:
        return Check(name="disk", state=State.PROBLEM, detail=told, hint="make room; what is stored needs it")
    return Check(name="disk", state=State.NOTE if free < _LITTLE_BYTES else State.OK, detail=told)


def _key(home: Home) -> Check:
    if os.environ.get("STIGMER_ENCRYPTION_KEY"):
        return Check(name="encryption key", state=State.OK, detail="from STIGMER_ENCRYPTION_KEY")
    path = home.encryption_key
    if not path.exists():
        told, hint = f"{path} is missing", "bring it back from a backup: without it no stored secret can be opened"
        return Check(name="encryption key", state=State.NOTE, detail=told, hint=hint)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        told = f"others of this machine may read {path}, and the server refuses that"
        return Check(name="encryption key", state=State.PROBLEM, detail=told, hint=f"chmod 600 {path}")
    return Check(name="encryption key", state=State.OK, detail=str(path))


async def _temporal_program() -> Check:
    from stigmer_cli.stack.temporal import find_program

    try:
        program = find_program()
        process = await asyncio.create_subprocess_exec(
            program, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    except (CliError, OSError) as error:
        return Check(name="temporal", state=State.PROBLEM, detail=str(error), hint="install stigmer-cli again")
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _PROGRAM_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return Check(name="temporal", state=State.PROBLEM, detail=f"{program} does not answer")
    if process.returncode:
        return Check(name="temporal", state=State.PROBLEM, detail=f"{program} does not run: {said.decode().strip()}")
    return Check(name="temporal", state=State.OK, detail=f"{said.decode().strip()}, {program}")


def _ports(stack: StackStatus | None) -> Iterator[Check]:
    ours = {_port(stack.server), _port(stack.temporal), _port(stack.temporal_page)} if stack else set[int]()
    for name, port in _PORTS.items():
        if port in ours:
            yield Check(name=f"port {port}", state=State.OK, detail=f"{name} of the stack that runs here")
        elif _is_free(port):
            yield Check(name=f"port {port}", state=State.OK, detail=f"free for the {name}")
        else:
            told = f"taken by another program; the {name} of a stack takes a free one instead"
            yield Check(name=f"port {port}", state=State.NOTE, detail=told)


def _stack(environment: Environment, stack: StackStatus | None) -> Check:
    if stack is None:
        holder = find_holder(environment.home.lock)
        if holder is not None:
            told = f"`{holder.command}`, process {holder.pid}, has the database and does not serve (yet)"
            return Check(name="stack", state=State.NOTE, detail=told, hint="`stigmer down` ends it")
        return Check(name="stack", state=State.OK, detail="none runs here", hint="`stigmer up --detach` starts one")
    broken = [item for item in stack.components if item.state is not ComponentState.RUNNING]
    if broken:
        told = ", ".join(f"{item.name} is {item.state.value}" for item in broken)
        return Check(name="stack", state=State.PROBLEM, detail=told, hint=f"`stigmer logs {broken[0].name}`")
    if stack.version != __version__:
        told = f"it is of version {stack.version}, and this command of {__version__}"
        return Check(name="stack", state=State.NOTE, detail=told, hint="`stigmer down`, then `stigmer up --detach`")
    return Check(name="stack", state=State.OK, detail=f"`{stack.command}`, process {stack.pid}, {stack.server}")


async def _server(address: str, environment: Environment) -> Check:
    try:
        found = await server_state(address, environment)
    except CliError as error:
        return Check(name="server", state=State.PROBLEM, detail=str(error), hint=error.hint)
    if isinstance(found, str):
        return Check(name="server", state=State.NOTE, detail=f"{address} answers, but does not tell how it is: {found}")
    return _judged(address, found)


def _judged(address: str, found: ServerState) -> Check:
    away = [f"{item.name} is away{f': {item.detail}' if item.detail else ''}" for item in found.away]
    if away:
        return Check(
            name="server", state=State.PROBLEM, detail=f"{address}: {', '.join(away)}",
            hint="runs wait until it is back; `stigmer status` shows more",
        )  # fmt: skip
    state = State.OK if found.version == __version__ else State.NOTE
    return Check(name="server", state=state, detail=f"{address}, version {found.version}")


async def _external_temporal(address: str) -> Check:
    from stigmer_cli.stack import temporal

    if await temporal.is_ready(address):
        return Check(name="temporal", state=State.OK, detail=f"{address} (STIGMER_TEMPORAL_ADDRESS)")
    told = f"nothing that is Temporal answers at {address}"
    return Check(name="temporal", state=State.PROBLEM, detail=told, hint="correct or unset STIGMER_TEMPORAL_ADDRESS")


def _models(environment: Environment) -> Check:
    found = [name for name in (*_KEYS, "STIGMER_LLM_PROVIDER", "STIGMER_LLM_MODEL") if environment.variables.get(name)]
    if found:
        return Check(name="models", state=State.OK, detail=f"{', '.join(found)} set")
    told = "no key of a model in the environment: the built-in scripted model answers for agents without one"
    return Check(
        name="models",
        state=State.NOTE,
        detail=told,
        hint="set ANTHROPIC_API_KEY, OPENAI_API_KEY, GOOGLE_API_KEY or OLLAMA_BASE_URL",
    )


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


def _size(database: Path) -> int:
    """Return the bytes of the database with what its journal has not yet put there."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _port(address: str) -> int:
    text = address.rpartition(":")[2]
    return int(text) if text.isdecimal() else 0


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True
