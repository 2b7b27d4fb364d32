"""The example in the README works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example, str(README), "exec"), {})  # noqa: S102 - our own text
    assert '"apiVersion": "agentic.stigmer.ai/v1"' in capsys.readouterr().out


def test_there_is_an_example() -> None:
    assert EXAMPLES
