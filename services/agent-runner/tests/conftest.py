"""The stacks that tests run against."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stack, Stigmer, client_of, run_stack
from stigmer_runner.testing import temporal_server


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
