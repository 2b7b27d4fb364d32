"""Every file in examples/ is run, and gives the output that stands beside it. New ones need no registration here.

Beside `NAME.yaml` stands `NAME.expected.json`, and where they are needed `NAME.input.json`, `NAME.options.json` (more
options of `stigmer run`), `NAME.script.yaml` (what the scripted model says) and `NAME.steps.json`: commands to give
once the run waits, with RUN for its id.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import Cli, wait_until

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.endswith(".script.yaml"))
TEMPORAL_PAGE = "http://127.0.0.1:8233"
"""What examples call the page of the stack's Temporal, which is elsewhere when that port is taken."""
SITE = "http://127.0.0.1:8765"
"""Where `examples/peers/site.py` is, unless that port is taken."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def peer() -> Iterator[str]:
    """The site that examples talk with."""
    command = [sys.executable, str(FOLDER / "peers" / "site.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.mark.requirement("examples")
@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_gives_the_output_that_stands_beside_it(
    example: Path, stack: Cli, peer: str, tmp_path: Path
) -> None:
    text = example.read_text(encoding="utf-8").replace(SITE, peer)
    copy = tmp_path / example.name
    copy.write_text(text.replace(TEMPORAL_PAGE, stack.status()["temporal_page"]), encoding="utf-8")
    given, script = example.with_suffix(".input.json"), example.with_suffix(".script.yaml")
    more: list[str] = _beside(example, "options") or []
    options = [*(["--input", f"@{given}"] if given.exists() else []), *more]
    options += ["--script", str(script)] if script.exists() else []
    running = stack.start("run", str(copy), *options)
    if steps := _beside(example, "steps"):
        running.until_said("wex-")
        identifier = next(word for line in running.err for word in line.split() if word.startswith("wex-"))
        wait_until(lambda: _waits(stack, identifier), lambda: f"{identifier} waits for nothing")
        for step in steps:
            done = stack.run(*(word.replace("RUN", identifier) for word in step))
            assert done.code == 0, done.err
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == _beside(example, "expected")


def _beside(example: Path, what: str) -> Any:
    path = example.with_suffix(f".{what}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _waits(stack: Cli, identifier: str) -> bool:
    tasks = stack.run("get", identifier, "-o", "json").json["status"].get("tasks", ())
    return any(task["status"] != "WORKFLOW_TASK_COMPLETED" for task in tasks)


def test_there_is_an_example_for_everything() -> None:
    assert len(EXAMPLES) >= 25
