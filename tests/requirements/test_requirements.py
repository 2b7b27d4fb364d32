"""The requirements of the language against the tests of all members, both ways.

The manifest is the TOML files beside this one: `reference.toml` and `dsl.toml` by the headings of the specification's
two documents, `own.toml` by what we promise beyond it, `features.toml` by what runtimes are compared by, and
`gaps.toml` for what is not met. Tests name requirements by `@pytest.mark.requirement("…")`; these marks are read from
the sources, so no member's tests are imported from here.
"""

from __future__ import annotations

import ast
import functools
import sys
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = ("reference", "dsl", "own")
MARK = "pytest.mark.requirement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    name: str
    document: str
    section: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    requirement: str
    test: str
    """The file and the function that carry it; the function is empty where a mark stands on no test."""


def _read(name: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))


def _requirements() -> list[Requirement]:
    return [
        Requirement(name=name, document=document, section=section, sentence=sentence)
        for document in DOCUMENTS
        for section, entries in _read(document).items()
        for name, sentence in entries.items()
    ]


def _files() -> Iterator[Path]:
    for layer in ("packages", "services", "client-apps"):
        yield from sorted((ROOT / layer).glob("*/tests/**/test_*.py"))
    yield from sorted((ROOT / "tests").rglob("test_*.py"))


@functools.cache
def _marks() -> list[Mark]:
    return list(_found())


def _found() -> Iterator[Mark]:
    for path in _files():
        text = path.read_text(encoding="utf-8")
        if MARK not in text:
            continue
        tree = ast.parse(text)
        place = path.relative_to(ROOT).as_posix()
        left = [call for call in ast.walk(tree) if _is_mark(call)]
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                calls = [call for decorator in node.decorator_list for call in ast.walk(decorator) if _is_mark(call)]
                left = [call for call in left if call not in calls]
                yield from _named(calls, "" if _is_skipped(node) else f"{place}::{node.name}")
        yield from _named(left, "")


def _is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == MARK


def _is_skipped(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a test never runs. Those that a machine can lack something for run elsewhere."""
    return any(ast.unparse(decorator).startswith("pytest.mark.skip(") for decorator in node.decorator_list)


def _named(calls: list[ast.AST], test: str) -> Iterator[Mark]:
    for call in calls:
        assert isinstance(call, ast.Call)
        assert call.args, "a mark names no requirement"
        for argument in call.args:
            assert isinstance(argument, ast.Constant), f"line {call.lineno}: a mark names its requirement as a text"
            yield Mark(requirement=str(argument.value), test=test)


def _gaps() -> dict[str, str]:
    return tomllib.loads((HERE / "gaps.toml").read_text(encoding="utf-8"))


def _features() -> dict[str, list[str]]:
    return tomllib.loads((HERE / "features.toml").read_text(encoding="utf-8"))


def test_every_requirement_is_held_by_a_test_or_is_a_gap_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    held = {mark.requirement for mark in _marks() if mark.test}
    gaps = _gaps()
    assert sorted(one.name for one in _requirements() if one.name not in held | set(gaps)) == []
    assert sorted(held & set(gaps)) == [], "held by tests, and so no gaps any more"
    assert all(reason.strip() for reason in gaps.values())
    with capsys.disabled():
        sys.stdout.write("\n" + _account())


def test_tests_and_gaps_name_no_requirement_that_does_not_exist() -> None:
    known = {one.name for one in _requirements()}
    assert sorted({(mark.requirement, mark.test) for mark in _marks() if mark.requirement not in known}) == []
    assert sorted(set(_gaps()) - known) == []


def test_every_mark_stands_on_a_test_that_is_run() -> None:
    assert [mark for mark in _marks() if not mark.test] == []


def test_every_section_asks_for_something_and_every_requirement_once() -> None:
    sections = [(f"{document}#{name}", found) for document in DOCUMENTS for name, found in _read(document).items()]
    assert [name for name, found in sections if not found] == []
    names = Counter(one.name for one in _requirements())
    assert [name for name, count in names.items() if count > 1] == []
    assert all(one.sentence.strip() for one in _requirements())


def test_every_feature_is_made_up_of_requirements() -> None:
    known = {one.name for one in _requirements()}
    assert [feature for feature, names in _features().items() if not names] == []
    assert sorted({name for names in _features().values() for name in names} - known) == []


def _account() -> str:
    """The counts that the check prints: by document and section, of features and of gaps."""
    requirements, gaps = _requirements(), _gaps()
    tests = {mark.test for mark in _marks()}
    lines = [f"{len(requirements)} requirements of the language, held by {len(tests)} tests of all members"]
    for document in DOCUMENTS:
        sections = Counter(one.section for one in requirements if one.document == document)
        lines.append(f"{document}: {sections.total()} requirements in {len(sections)} sections")
        counted = ", ".join(f"{section}\N{NO-BREAK SPACE}{count}" for section, count in sections.items())
        lines += textwrap.wrap(counted, 116, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    partial = [feature for feature, names in _features().items() if set(names) & set(gaps)]
    lines.append(f"features: {len(_features())}, of them in part only: {len(partial)}")
    lines.append(f"gaps: {len(gaps)}")
    lines += [f"  {name}: {reason}" for name, reason in gaps.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    # Workers of pytest print nothing; nox runs this file for its counts.
    sys.stdout.write(_account())
