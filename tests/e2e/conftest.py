"""A real stack in an empty home."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from stigmer_cli.testing import Cli, CountingSite


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command in an empty home; whatever it started must be gone in the end."""
    made = Cli(home=tmp_path / "home")
    yield made
    made.run("down")
    left = made.processes()
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A stack that runs in the background for all tests that do it no harm."""
    made = Cli(home=tmp_path_factory.mktemp("stack") / "home")
    up = made.run("up", "--detach")
    assert up.code == 0, up.err
    yield made
    down = made.run("down")
    assert down.code == 0, down.err
    made.until_gone()


@pytest.fixture
def site() -> Iterator[CountingSite]:
    made = CountingSite()
    yield made
    made.close()
