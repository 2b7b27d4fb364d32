# ruff: noqa: PT017 - a workflow and problems are both right for any input
"""Whatever text comes in, the answer is a workflow or problems with places in that text."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stigmer_dsl import DocumentError, Source, parse, validate
from stigmer_dsl.model import TASK_KEYS

HEADER = "document: { dsl: '1.0.3', namespace: test, name: example, version: '0.1.0' }\n"

KEYS = [*TASK_KEYS, "with", "if", "then", "in", "each", "catch", "errors", "branches", "document", "use", "input", "x"]
SCALARS = ["get", "http", "${ .x }", "${ .x | }", "${ $y }", ".a", "PT1S", "end", "x", ""]

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(SCALARS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


def check(text: str) -> None:
    lines = text.split("\n")
    try:
        parse(text, name="t")
    except DocumentError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.position is not None
            assert 1 <= problem.position.line <= len(lines) + 1
            assert problem.message
            assert str(problem).startswith(f"t:{problem.position.line}:{problem.position.column}: /")


@given(st.text())
def test_any_text(text: str) -> None:
    check(text)
    check(HEADER + text)


@given(st.text(alphabet="{}[]:,-&*!|>'\"%@`#? \n\tab1.~<"))
def test_any_text_that_looks_like_yaml(text: str) -> None:
    check(text)
    check(HEADER + text)


@given(documents)
def test_any_document(value: Any) -> None:
    try:
        validate(value)
    except DocumentError as error:
        assert error.problems


@given(documents)
def test_any_tasks(value: Any) -> None:
    header = Source.load(HEADER, name="t").documents[0].value
    for body in ({"do": value}, {"do": [{"t": value}]}, {"do": [{"t": {"wait": "PT1S"}}], "use": value}):
        try:
            validate({**header, **body})
        except DocumentError as error:
            assert error.problems
