"""The examples of docs/language, run: each gives what the page says beneath it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from workflow_runner.testing import Runs, StartRunner
from workflow_runner.testing.runs import HEADER

PAGES = Path(__file__).parents[3] / "docs" / "language"
FENCE = re.compile(r"```yaml\n(?P<text>.*?)```\n(?P<below>.*?)(?=```|\n#|\Z)", re.DOTALL)
SAID = re.compile(r"(?:Given `(?P<data>.+?)`, it|It) (?P<how>gives|fails with) `(?P<result>.+?)`[.:]")
PEERS = re.compile(r"://|file:|\bcall: (?!greet)|\blisten:|\bcontainer:|\bworkflow:")
"""What an example has that needs a peer: nothing has to stand beneath it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    place: str
    text: str
    data: Any
    fails: bool
    result: Any


def _fences() -> Iterator[tuple[str, str, str]]:
    """Yield every example: its place, its text, and what stands beneath it."""
    for page in sorted(PAGES.glob("*.md")):
        content = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(content):
            yield f"{page.name}:{content.count(chr(10), 0, found.start()) + 1}", found["text"], found["below"]


def _examples() -> Iterator[Example]:
    for place, text, below in _fences():
        for said in SAID.finditer(below):
            yield Example(
                place=place,
                text=text if text.startswith("document:") else HEADER + text,
                data=json.loads(said["data"] or "{}"),
                fails=said["how"] == "fails with",
                result=json.loads(said["result"]),
            )


@pytest.fixture
async def any_runs(start_runner: StartRunner) -> Runs:
    """A worker that runs processes on a machine without a sandbox, too."""
    return await start_runner(sandbox="host")


@pytest.mark.requirement("reference.run")
@pytest.mark.parametrize("example", list(_examples()), ids=lambda example: example.place)
async def test_an_example_gives_what_stands_beneath_it(any_runs: Runs, example: Example) -> None:
    if example.fails:
        error = await any_runs.error(example.text, example.data)
        assert {key: error.get(key) for key in example.result} == example.result
    else:
        assert await any_runs.output(example.text, example.data) == example.result


@pytest.mark.requirement("reference.run")
def test_every_example_that_needs_no_peer_says_what_it_gives() -> None:
    assert [place for place, text, below in _fences() if not SAID.search(below) and not PEERS.search(text)] == []
