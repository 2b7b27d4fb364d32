import re
from pathlib import Path
from typing import Any

import pytest
import stigmer_dsl
from stigmer_dsl import expressions, model

MEMBER = Path(__file__).parent.parent
SOURCES = MEMBER / "src" / "stigmer_dsl"
CODE = re.compile(r'"((?:file|yaml|dsl|expression|stored|doubt)\.[a-z-]+)"')


def _raised() -> set[str]:
    return {code for path in SOURCES.rglob("*.py") for code in CODE.findall(path.read_text())}


@pytest.mark.requirement("problems.codes")
def test_every_code_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `([a-z.-]+)` \|", (MEMBER / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(set(documented))
    assert set(documented) == _raised()


@pytest.mark.requirement("problems.codes")
def test_every_code_is_produced_by_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert _raised() - set(CODE.findall(tests)) == set()


@pytest.mark.parametrize("page", ["README.md", "docs/graph.md"])
def test_the_examples_of_a_page_work(page: str) -> None:
    examples = re.findall(r"```python\n(.*?)```", (MEMBER / page).read_text(), re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {})  # noqa: S102 - our own text


@pytest.mark.parametrize("module", [stigmer_dsl, expressions, model])
def test_public_names_exist(module: Any) -> None:
    assert len(module.__all__) == len(set(module.__all__))
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_every_public_name_says_what_it_is() -> None:
    undocumented = [name for name in stigmer_dsl.__all__ if not getattr(stigmer_dsl, name).__doc__]
    assert undocumented == []


def test_the_readme_names_what_is_exported() -> None:
    text = (MEMBER / "README.md").read_text()
    unnamed = [name for name in stigmer_dsl.__all__ if name not in text]
    assert [name for name in unnamed if name not in {"DslError", "Position", "DurationError"}] == []
