"""Fault campaigns: what must hold however often and wherever the product is hurt.

Ordinary runs do a few rounds of each; `uv run nox -s faults` does all of them, and prints what the campaigns found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_server.testing import ServerProcess

_HERE = Path(__file__).parent
_FIGURES = "figures"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fault campaigns")
    group.addoption("--full", action="store_true", help="as many rounds as each campaign asks for")
    group.addoption("--rounds", type=int, default=None, metavar="N", help="this many rounds of each campaign")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[..., int]:
    """How many rounds to do: `rounds(short=3, full=200)`."""

    def choose(*, short: int, full: int) -> int:
        # The options are unknown where pytest was not started on this folder.
        chosen: int | None = request.config.getoption("--rounds", None)
        if chosen is not None:
            return chosen
        return full if request.config.getoption("--full", default=False) else short

    return choose


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Tell what a campaign found, for the end of the run: `figures(kills=200, acknowledged=21_034)`."""

    def tell(**found: object) -> None:
        request.node.user_properties.append((_FIGURES, found))

    return tell


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Callable[..., ServerProcess]]:
    """Start servers on the files of one folder: `server(ENV="production")`; what still runs is killed at the end."""
    started: list[ServerProcess] = []

    def start(*arguments: str, folder: Path = tmp_path, port: int | None = None, **variables: str) -> ServerProcess:
        made = ServerProcess(folder, *arguments, port=port, **variables)
        started.append(made)
        return made

    yield start
    for process in started:
        await process.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, found in getattr(report, "user_properties", ()):
                if name == _FIGURES and report.when == "call":
                    told = ", ".join(f"{key} {value}" for key, value in found.items())
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {told}")
