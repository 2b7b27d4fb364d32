"""What a contributor runs: `uv run nox` for everything that must pass, `uv run nox -l` for the list.

Sessions use the environment that `uv run` made from uv.lock, and add the tools to it, so nothing is installed twice;
only `build` makes environments of its own, to prove that each library stands alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
MEMBERS = {
    path.parent.name: path.parent
    for folder in ("packages", "services", "client-apps")
    for path in sorted((ROOT / folder).glob("*/pyproject.toml"))
}
LIBRARIES = [name for name, path in MEMBERS.items() if path.parent.name == "packages"]
PROTOS = MEMBERS["stigmer-protos"]
# One more than there are cores: many tests wait for other processes.
WORKERS = os.environ.get("STIGMER_TEST_WORKERS", str(min(os.cpu_count() or 2, 4) + 1))
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
NO_TESTS = 5  # pytest's exit code for a folder where no test was selected

# Tests start hundreds of processes, and half of what a start costs is compiling, unless what is compiled is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests", "build", "e2e"]


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff over our code, buf over the contract, generated code against its sources, uv.lock against the members."""
    _add_tools(session)
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")
    session.run(sys.executable, str(PROTOS / "scripts" / "lint.py"))
    session.run(sys.executable, str(PROTOS / "scripts" / "generate.py"), "--check")
    session.run("uv", "lock", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Pyright, strict, over sources, tests and benchmarks; `-- FOLDER` narrows it."""
    _add_tools(session)
    session.run(sys.executable, "-m", "basedpyright", "--level", "error", *session.posargs)


@nox.session
def protos(session: nox.Session) -> None:
    """Regenerate what the contract's sources generate; `-- --check` fails on a difference instead."""
    _add_tools(session)
    session.run(sys.executable, str(PROTOS / "scripts" / "generate.py"), *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of every member and the cross-package ones; `-- stigmer-dsl -k jq` narrows it."""
    _add_tools(session)
    picked = [word for word in session.posargs if word in MEMBERS]
    options = [word for word in session.posargs if word not in MEMBERS]
    folders = [MEMBERS[name] / "tests" for name in picked or MEMBERS] + ([] if picked else [ROOT / "tests"])
    passed = _pytest(*folders, "-m", "not slow", *options)
    if not picked:
        session.run(sys.executable, str(ROOT / "tests" / "requirements" / "test_requirements.py"))
    if not passed:
        session.error("failed")


@nox.session
def e2e(session: nox.Session) -> None:
    """Run what starts the whole product as real processes, and every example."""
    _add_tools(session)
    if not _pytest(*(path / "tests" for path in MEMBERS.values()), ROOT / "tests", "-m", "slow", *session.posargs):
        session.error("failed")


@nox.session
def faults(session: nox.Session) -> None:
    """Run the fault campaigns at full length; `-- -k killed` picks, `-- --rounds 20` shortens."""
    _add_tools(session)
    length = () if any(word.startswith("--rounds") for word in session.posargs) else ("--full",)
    # One after another, and as long as they take: they measure, and load the machine by themselves.
    command = (sys.executable, "-m", "pytest", "-q", "--timeout", "0", str(ROOT / "tests" / "faults"), *length)
    session.run(*command, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build a wheel and an sdist of every member; install each library alone from its wheel and import it."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("uv", "build", "--quiet", "--all-packages", "--out-dir", str(dist))
    # Ours by path: the index may know other packages by these names, or older ones.
    ours = Path(session.create_tmp()) / "ours.txt"
    wheels = (wheel.resolve() for wheel in dist.glob("*.whl"))
    ours.write_text("".join(f"{wheel.name.partition('-')[0]} @ {wheel.as_uri()}\n" for wheel in wheels))
    for name, path in MEMBERS.items():
        project = tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        stem = f"{name.replace('-', '_')}-{project['version']}"
        wheel, sdist = dist / f"{stem}-py3-none-any.whl", dist / f"{stem}.tar.gz"
        if not (wheel.exists() and sdist.exists()):
            session.error(f"{name}: the build left no {wheel.name} or no {sdist.name}")
        if name in LIBRARIES:
            extras = project.get("optional-dependencies", {}).values()
            _import_alone(session, wheel, [needed for extra in extras for needed in extra], ours)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against a named peer or limit in the same run; `-- store rpc` picks, `-- --quick` shortens."""
    _add_tools(session)
    names = [word for word in session.posargs if not word.startswith("-")]
    options = [word for word in session.posargs if word.startswith("-")]
    for script in sorted((ROOT / "benchmarks").glob("*.py")):
        if not script.stem.startswith("_") and (not names or script.stem in names):
            session.run(sys.executable, str(script), *options)


def _add_tools(session: nox.Session) -> None:
    """Install what only contributors need beside the members."""
    session.run("uv", "sync", "--quiet", "--frozen", "--inexact", "--group", "tools")


def _pytest(*arguments: Path | str) -> bool:
    """Run pytest over the folders; whether nothing failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", WORKERS, "--dist", "worksteal", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode in (0, NO_TESTS)


def _import_alone(session: nox.Session, wheel: Path, extras: list[str], ours: Path) -> None:
    """Install one wheel, with nothing of ours but what it depends on, and import it; then every module in it."""
    module = wheel.name.partition("-")[0]
    where = Path(session.create_tmp()) / module
    python = str(where / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    install = ("uv", "pip", "install", "--quiet", "--python", python, "--overrides", str(ours))
    session.run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(where))
    session.run(*install, str(wheel))
    session.run(python, "-c", f"import {module}", external=True)
    if extras:
        session.run(*install, *extras)
    session.run(python, "-c", IMPORT_ALL, module, external=True)
