"""What is committed is what the sources give, and the sources are laid out and commented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent
SCRIPTS = PACKAGE / "scripts"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_the_generated_files_are_current() -> None:
    done = run("generate.py", "--check")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_the_sources_keep_to_the_lint_rules() -> None:
    done = run("lint.py")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_generated_file_says_that_it_is() -> None:
    generated = PACKAGE / "src" / "stigmer_protos" / "_gen"
    files = [*generated.rglob("*.py")]
    assert files
    assert all(file.read_text(encoding="utf-8").startswith("# DO NOT EDIT: ") for file in files)


def test_every_source_opens_by_saying_what_it_holds() -> None:
    sources = [*(PACKAGE / "proto").rglob("*.proto")]
    assert len(sources) > 100
    assert not [path for path in sources if not re.match(r"// [A-Z]", path.read_text(encoding="utf-8"))]
