from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from stigmer_cli.__main__ import execute
from stigmer_cli.environment import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(root=tmp_path / "home")
    made.create()
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    code: int
    out: str
    err: str


Stigmer = Callable[..., Result]


@pytest.fixture
def stigmer(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stigmer:
    """The command, run inside this process on an empty home."""
    for name in ("STIGMER_SERVER_ADDRESS", "STIGMER_SERVER_ADDR", "STIGMER_TEMPORAL_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STIGMER_HOME", str(home.root))

    def run(*arguments: str | Path, stdin: str = "") -> Result:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        code = execute([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Result(code=code, out=told.out, err=told.err)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file of the given name and text, and returns its path."""

    def made(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return made
