"""The language reference: its examples are valid, and it leaves nothing out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from stigmer_dsl import format_text, parse
from stigmer_dsl.graph import build_graph
from stigmer_dsl.model import TASK_KEYS, Workflow
from stigmer_dsl.model.element import Element, wire_name
from stigmer_dsl.model.tasks import CALLS

PAGES = sorted((Path(__file__).parents[3] / "docs" / "language").glob("*.md"))
HEADER = "document: { dsl: '1.0.3', namespace: docs, name: example, version: 0.1.0 }\n"


def _examples() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for match in re.finditer(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            line = page.read_text().count("\n", 0, match.start()) + 1
            text = match[1] if match[1].startswith("document:") else HEADER + match[1]
            found.append((f"{page.name}:{line}", text))
    return found


@pytest.mark.requirement("reference")
@pytest.mark.parametrize(("place", "text"), _examples(), ids=[place for place, _ in _examples()])
def test_an_example_is_valid_and_can_be_formatted_and_drawn(place: str, text: str) -> None:
    workflow = parse(text, name=place)
    assert parse(format_text(text)).to_dict() == workflow.to_dict()
    assert build_graph(workflow).nodes


@pytest.mark.requirement("reference")
def test_every_kind_of_task_and_every_call_has_an_example() -> None:
    examples = "\n".join(text for _, text in _examples())
    assert [key for key in TASK_KEYS if not re.search(rf"[\s{{]{key}:", examples)] == []
    assert [name for name in CALLS if not re.search(rf"call: {name}\b", examples)] == []


@pytest.mark.requirement("reference")
def test_every_key_of_the_language_is_told() -> None:
    told = set(re.findall(r"\w+", "\n".join(page.read_text() for page in PAGES)))
    # An entry is `{name: content}` in a document, whatever the model calls the content.
    assert sorted(set(_keys()) - told - {"task", "case", "extension"}) == []


def _keys() -> Iterator[str]:
    seen: set[type[Element]] = set()
    todo: list[object] = [Workflow]
    while todo:
        at = todo.pop()
        if isinstance(at, type) and issubclass(at, Element) and at not in seen:
            seen.add(at)
            todo += [info.annotation for info in at.model_fields.values()]
            yield from (wire_name(name) for name in at.model_fields)
        todo += get_args(at)
