import ast
import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def _manifest() -> dict[str, tuple[str, str]]:
    spec = importlib.util.spec_from_file_location("dsl_requirements", TESTS / "requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.REQUIREMENTS


def _named_by_tests() -> dict[str, list[str]]:
    """Every requirement that a marker names, with the tests that carry it."""
    named: dict[str, list[str]] = {}
    for path in TESTS.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.requirement":
                    for argument in decorator.args:
                        assert isinstance(argument, ast.Constant)
                        named.setdefault(str(argument.value), []).append(node.name)
    return named


def test_every_requirement_has_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    named = _named_by_tests()
    assert sorted(set(_manifest()) - set(named)) == []
    with capsys.disabled():
        tests = {test for tests in named.values() for test in tests}
        sys.stdout.write(f"\n{len(_manifest())} requirements of the language, held by {len(tests)} tests\n")


def test_tests_name_no_requirement_that_does_not_exist() -> None:
    assert sorted(set(_named_by_tests()) - set(_manifest())) == []


def test_every_requirement_names_its_section() -> None:
    for section, sentence in _manifest().values():
        assert section.partition("#")[0] in ("reference", "dsl", "own")
        assert sentence
