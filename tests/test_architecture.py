"""The direction of dependencies and the outfit of every member, as docs/architecture.md tells them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_runner.models.providers import PROVIDERS
from agent_runner.turn.notices import BUILT_IN_TOOLS
from stigmer_server import agents

ROOT = Path(__file__).parent.parent
FREE = {"stigmer_protos", "stigmer_sqlite", "stigmer_grpc", "stigmer_dsl", "stigmer_sandbox"}
"""Libraries that stand on none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    folder: Path
    project: dict[str, Any]

    @property
    def layer(self) -> str:
        return self.folder.parent.name

    @property
    def package(self) -> str:
        return self.folder.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.package


def _members() -> list[Member]:
    files = sorted(
        path for layer in ("packages", "services", "client-apps") for path in (ROOT / layer).glob("*/pyproject.toml")
    )
    return [Member(folder=path.parent, project=tomllib.loads(path.read_text())["project"]) for path in files]


MEMBERS = _members()
OURS = {member.package: member for member in MEMBERS}
each_member = pytest.mark.parametrize("member", MEMBERS, ids=[member.folder.name for member in MEMBERS])


def _allowed(member: Member) -> set[str]:
    """The packages of ours that a member may import, by the layer it stands in."""
    if member.package in FREE:
        return set()
    if member.package == "stigmer_runner":
        return {"stigmer_protos", "stigmer_grpc", "stigmer_sandbox"}
    packages = {other.package for other in MEMBERS if other.layer == "packages"}
    if member.layer == "services":
        return packages if member.package == "stigmer_server" else packages - {"stigmer_sqlite"}
    services = {other.package for other in MEMBERS if other.layer == "services"}
    return (packages | services) - {"stigmer_sqlite"}


def _imports(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Yield every import of the folder's modules, wherever in them it stands: (file, line, top package)."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    yield from ((path, node.lineno, name.name.partition(".")[0]) for name in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield path, node.lineno, module.partition(".")[0]
                case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(module)), *_]):
                    yield path, node.lineno, module.partition(".")[0]
                case _:
                    pass


@each_member
def test_imports_point_one_way(member: Member) -> None:
    allowed = _allowed(member) | {member.package}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {package}"
        for path, line, package in _imports(member.source)
        if package in OURS and package not in allowed
    ]
    assert wrong == []


@each_member
def test_what_is_imported_of_ours_is_declared(member: Member) -> None:
    declared = {re.split(r"[<>=!~\[; ]", text)[0].replace("-", "_") for text in member.project["dependencies"]}
    imported = {package for _, _, package in _imports(member.source)} & set(OURS) - {member.package}
    assert imported <= declared


@each_member
def test_a_member_is_whole(member: Member) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", member.project["version"])
    for name in ("README.md", "LICENSE"):
        assert (member.folder / name).read_text().strip(), name
    assert (member.source / "py.typed").is_file()
    assert list((member.folder / "tests").glob("test_*.py")), "no tests"
    assert (member.folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_every_folder_of_a_layer_is_a_member() -> None:
    folders = {path for layer in ("packages", "services", "client-apps") for path in (ROOT / layer).iterdir()}
    assert {path for path in folders if path.is_dir()} == {member.folder for member in MEMBERS}


def test_the_server_knows_the_tools_and_providers_that_the_runner_of_agents_has() -> None:
    assert agents.BUILT_IN == BUILT_IN_TOOLS
    assert set(PROVIDERS) <= set(agents.PROVIDERS)


def test_no_file_names_a_place_on_a_developers_machine() -> None:
    # The home of the one user of Daytona's images is nobody's.
    machine = re.compile(
        rf"(?<![\w.-])/(?:home|Users)/(?!daytona\b)\w+|{re.escape(str(ROOT))}|{re.escape(str(Path.home()))}/"
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in _texts()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if machine.search(line)
    ]
    assert wrong == []


def _texts() -> Iterator[Path]:
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".proto", ".txt", ".sh", ".lock", ""}
    skipped = {".git", ".venv", ".nox", "__pycache__", "node_modules", "dist", "build"}
    for path in sorted(ROOT.rglob("*")):
        parts = set(path.relative_to(ROOT).parts)
        hidden = any(part.startswith(".") and part != ".ci" for part in parts)
        if path.is_file() and path.suffix in suffixes and not parts & skipped and not hidden:
            yield path


_FIRST_GRPC = """
import importlib, os, sys

class Watch:
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_ENABLE_FORK_SUPPORT"))

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize("program", ["stigmer_server", "workflow_runner", "agent_runner"])
def test_grpc_is_kept_out_of_forks_before_anything_of_a_program_loads_it(program: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [sys.executable, "-c", _FIRST_GRPC, f"{program}.__main__"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout in ("", "0\n"), done.stdout
