"""Expressions that run away: each fails within a bound, and the next one works."""

import time

import pytest
from stigmer_dsl import ExpressionError, InvalidDocumentError, parse
from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import SchemaError, WorkflowError
from stigmer_dsl.expressions import evaluate_bare
from stigmer_dsl.expressions.analysis import analyse
from stigmer_dsl.model import Schema

HOSTILE = [
    "[range(1e12)]",
    "last(repeat(1))",
    "[limit(1e9; repeat(1))]",
    "def f: f; f",
    "def f: 1, f; [f]",
    '"x" * 1000000000',
    '[range(100000)] | map("x" * 100000)',
    ".[536870000] = 1",
    "[.,.]" + " | [.,.]" * 30 + " | flatten | length",
    "last(range(1e5) as $a | range(1e5) as $b | $a)",
    "[recurse(. + 1)] | length",
    "0 | until(. > 1e12; . + 1)",
    "[while(true; . + 1)]",
    "reduce range(60) as $i (1; [., .]) | tojson",
    '("a" * 40 + "b") | test("^(a|aa|a?)*$")',
    "[{" + ", ".join(f"k{n}: (1, 2)" for n in range(40)) + "}] | length",
    "[" + " + ".join(["(1, 2)"] * 40) + "] | length",
    '"\\"" ' + "| tojson" * 40 + " | length",
]


@pytest.mark.requirement("expression.bounded")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_runaway_expression_fails_and_the_next_one_works(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"took more than|needed more than|retry-limit|Regex failure"):
        evaluate_bare(text, [] if text.startswith(".[") else 1)
    assert evaluate_bare("[range(3)]", None) == [0, 1, 2]


def test_an_expression_whose_result_is_nested_too_deep_fails() -> None:
    assert evaluate_bare("reduce range(150) as $i (0; [.])", None) is not None
    for depth in (300, 9000):
        with pytest.raises(ExpressionError, match="nested more than 200 deep"):
            evaluate_bare(f"reduce range({depth}) as $i (0; [.])", None)


def test_a_check_by_a_schema_takes_no_more_than_so_many_steps() -> None:
    schema = Schema.model_validate({"document": {"items": {"type": "integer", "minimum": 0}}})
    check("the data", [1, 2, 3], schema)
    with pytest.raises(WorkflowError, match="takes more than 1000000 steps"):
        check("the data", [1] * 600_000, schema)


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([{"a": 1, "b": [2]}, {"b": [2], "a": 1.0}], False),
        ([[1], [True]], True),
        ([1, 1.0], False),
        ([0, False, None, "0", [0], {"0": 0}], True),
        ([{"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}], True),
    ],
)
def test_items_are_unique_as_json_and_many_are_compared_at_once(items: list[object], unique: bool) -> None:
    schema = Schema.model_validate({"document": {"uniqueItems": True}})
    many: list[object] = [{"number": number} for number in range(20_000)]
    check("the data", many, schema)
    if unique:
        check("the data", items, schema)
        return
    with pytest.raises(SchemaError, match="has non-unique elements"):
        check("the data", items, schema)


def test_a_runaway_constant_fails_when_the_document_is_parsed() -> None:
    # jq calculates constants when it compiles.
    text = """document: { dsl: '1.0.3', namespace: a, name: b, version: 1.0.0 }
do: [ { a: { set: { x: '${ "x" * 2000000000 }' } } } ]
"""
    with pytest.raises(InvalidDocumentError, match="cannot be compiled"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "size", "inline"),
    [
        (".a + 1", 10_000_000, True),
        (".items | map(.x)", 4_000, True),
        (".items | map(.x)", 4_000_000, False),
        (".a * 2", 10, False),
        ("[.a[] | .b[] | .c[]]", 50, True),
        ("[.a[] | .b[] | .c[]]", 10_000, False),
        ("[.,.]" + "|[.,.]" * 40, 10, False),
        ("[{" + ", ".join(f"k{n}: (1, 2)" for n in range(40)) + "}] | length", 10, False),
        ("[" + " + ".join(["(1, 2)"] * 40) + "] | length", 10, False),
        ('["' + "\\(1, 2)" * 40 + '"] | length', 10, False),
        ("[.x" + "[0, 1]" * 40 + "] | length", 10, False),
        (".x" + " | tojson" * 30, 10, False),
        (".x" + " | @sh" * 30, 10, False),
        (".x" + " | . + ." * 40, 10, False),
        ("[" + ", ".join(["."] * 100) + "]", 1_000, True),
        ("{" + ", ".join(f"k{n}: .k{n}" for n in range(100)) + "}", 1_000, True),
        ('"\\(.a) and \\(.b)"', 100_000, True),
        ('.a | test("x")', 10, False),
        ('.a | split(",")', 1_000, True),
        ('.a | split(",";"g")', 1_000, False),
    ],
)
def test_only_work_that_its_data_bounds_is_done_beside_the_caller(text: str, size: int, inline: bool) -> None:
    assert analyse(text).fits(size) is inline


@pytest.mark.requirement("source.limits")
def test_a_document_with_very_many_problems_is_answered_soon() -> None:
    header = "document: { dsl: '1.0.3', namespace: a, name: b, version: 1.0.0 }\ndo:\n"
    for task in (
        "{ wait: PT1S, then: nowhere }",
        "{ wait: PT1S, unknwn: 1 }",
        "{ set: { x: '${ .a | nope }' } }",
        "{ set: { x: '${ [range(1)] | nope }' } }",
    ):
        text = header + "".join(f"  - task{n}: {task}\n" for n in range(1500))
        with pytest.raises(InvalidDocumentError) as caught:
            parse(text)
        assert 10 <= len(caught.value.problems) <= 201


def test_a_long_expression_is_compiled_by_the_guard() -> None:
    text = (
        "document: { dsl: '1.0.3', namespace: a, name: b, version: 1.0.0 }\ndo: [ { a: { if: '%s', wait: PT1S } } ]\n"
    )
    assert parse(text % ("." + " + ." * 600))
    with pytest.raises(InvalidDocumentError, match="cannot be compiled"):
        parse(text % ("." + "+." * 9_900))


def test_brackets_nest_up_to_a_fixed_depth() -> None:
    assert evaluate_bare("(" * 90 + "1" + ")" * 90, None) == 1
    with pytest.raises(ExpressionError, match="nested deeper"):
        evaluate_bare("(" * 120 + "1" + ")" * 120, None)


def test_large_data_is_processed_within_the_bound() -> None:
    data = {"items": [{"id": n, "price": n / 2} for n in range(5_000)]}
    assert evaluate_bare(".items | map(select(.id >= 4990)) | length", data) == 10
    assert evaluate_bare("[.items[] | .price * 2] | max", data) == 4999


def test_a_dead_evaluating_process_is_replaced() -> None:
    assert evaluate_bare("[range(2)]", None) == [0, 1]
    with pytest.raises(ExpressionError):
        evaluate_bare("[range(1e12)]", None)
    started = time.monotonic()
    assert evaluate_bare("[range(2)]", None) == [0, 1]
    assert time.monotonic() - started < 60
