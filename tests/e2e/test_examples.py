"""Every file in examples/ is run, and gives the output that stands beside it. New ones need no registration here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stigmer_cli.testing import Cli

EXAMPLES = sorted(path for path in (Path(__file__).parents[2] / "examples").glob("*.yaml"))
TEMPORAL_PAGE = "http://127.0.0.1:8233"
"""What examples call the page of the stack's Temporal, which is elsewhere when that port is taken."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_gives_the_output_that_stands_beside_it(example: Path, stack: Cli, tmp_path: Path) -> None:
    expected = json.loads(example.with_suffix(".expected.json").read_text(encoding="utf-8"))
    text = example.read_text(encoding="utf-8").replace(TEMPORAL_PAGE, stack.status()["temporal_page"])
    copy = tmp_path / example.name
    copy.write_text(text, encoding="utf-8")
    given = example.with_suffix(".input.json")
    done = stack.run("run", str(copy), *(["--input", f"@{given}"] if given.exists() else []))
    assert done.code == 0, done.err
    assert json.loads(done.out) == expected


def test_there_are_examples() -> None:
    assert EXAMPLES
