# ruff: noqa: PT017 - tables, one row to a line; a result and an error are both right for any input

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_dsl import ExpressionError, SecretAccessError, Secrets, WorkflowError, descriptors
from stigmer_dsl.errors import STANDARD
from stigmer_dsl.expressions import (
    FORBIDDEN,
    compile_expression,
    evaluate,
    evaluate_bare,
    evaluate_condition,
    is_expression,
)
from stigmer_dsl.expressions.analysis import analyse

DATA: dict[str, Any] = {
    "name": "Ada",
    "n": 3,
    "nested": {"a-b": {"c": [10, 20, 30]}, "null": None},
    "items": [{"id": 1, "price": 2.5}, {"id": 2, "price": 4}],
}


@pytest.mark.requirement("expression.strict")
@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("${ .name }", "Ada"),
        ("${.name}", "Ada"),
        ("  ${ .name }\n", "Ada"),
        ("${ .\n  name }", None),
        ("Hello ${ .name }", "Hello ${ .name }"),
        ("${ .name } and more", "${ .name } and more"),
        (".name", ".name"),
        ("$name", "$name"),
        ({"a": ["${ .n }", 1, None, True, {"b": "${ .items[1].price }"}]}, {"a": [3, 1, None, True, {"b": 4}]}),
        ({"${ .name }": 1}, {"${ .name }": 1}),
        ("${ {a: 1} | {a, b: .a} }", {"a": 1, "b": 1}),
        ('${ "}" + "{" }', "}{"),
    ],
)
def test_strict_mode_evaluates_whole_texts(value: Any, result: Any) -> None:
    if value == "${ .\n  name }":
        with pytest.raises(ExpressionError):
            evaluate(value, DATA)
    else:
        assert evaluate(value, DATA) == result


@pytest.mark.requirement("expression.loose")
@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${ .name }", "Ada"),
        (".name", "Ada"),
        ("Hello ${ .name }, ${ .n } ${ .items[0] }!", 'Hello Ada, 3 {"id": 1, "price": 2.5}!'),
        ("${ .name }-${ .n }", "Ada-3"),
        ("red", "red"),
        ("two words", "two words"),
        ("now", "now"),
        ("${ .name | nope }", "${ .name | nope }"),
        ("a ${ .name", "a ${ .name"),
        (".name.x", ".name.x"),
    ],
)
def test_loose_mode_evaluates_every_text_that_can_be(text: str, result: Any) -> None:
    assert evaluate(text, DATA, mode="loose") == result


# What jq gives; the first group takes the way without jq, so it must agree with the second.
PATHS = [
    (".", DATA),
    (".name", "Ada"),
    (".nested.null", None),
    (".nested.null.deeper.still", None),
    ('.nested["a-b"].c[1]', 20),
    ('.nested."a-b".c[9]', None),
    (".missing", None),
    (".items[0].id", 1),
    ("$context.x.y", 5),
    ("$input", DATA),
    ("$output", None),
]


@pytest.mark.parametrize(("expression", "result"), PATHS)
@pytest.mark.parametrize("form", ["{}", "{} | .", "({})"])
def test_paths_give_what_jq_gives(expression: str, result: Any, form: str) -> None:
    variables = {"context": {"x": {"y": 5}}, "input": DATA}
    assert evaluate_bare(form.format(expression), DATA, variables) == result


@pytest.mark.parametrize("expression", [".name.x", ".n[0]", ".items.id", ".nested[0]", "$context.x"])
@pytest.mark.parametrize("form", ["{}", "{} | ."])
def test_paths_fail_where_jq_fails(expression: str, form: str) -> None:
    with pytest.raises(ExpressionError, match="Cannot index"):
        evaluate_bare(form.format(expression), DATA, {"context": [1]})


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        (".n + 1", 4),
        ("[.items[].price] | add", 6.5),
        (".items | map(select(.price > 3)) | length", 1),
        ('"\\(.name) has \\(.n)"', "Ada has 3"),
        (".items | sort_by(-.price) | .[0].id", 2),
        ("reduce .items[] as $i (0; . + $i.price)", 6.5),
        ("[range(5)]", [0, 1, 2, 3, 4]),
        ("def f(x): x * 2; f(.n)", 6),
        ('.name | test("^A")', True),
        ('.name | sub("A"; "I")', "Ida"),
        ("[limit(3; repeat(1))]", [1, 1, 1]),
        ("[.[]?] | length", 4),
        ("try error(\"x\") catch .", "x"),
        ("if .n > 2 then \"many\" else \"few\" end", "many"),
        (".items[0] as {id: $i} | $i", 1),
        ("{n, name: .name, (\"k\"): $context.k}", {"n": 3, "name": "Ada", "k": "v"}),
        ("$context | keys", ["k"]),
        ("@base64 \"a\\(.name)\"", "aQWRh"),
        (". # a comment\n | .n", 3),
        ("[paths] | length", 16),
        ("[1]", [1]),
        ("[\"name\"]", ["name"]),
        ("1704067200 | todate", "2024-01-01T00:00:00Z"),
        ("\"2024-01-01T00:00:00Z\" | fromdate", 1704067200),
        ("$__loc__.line", 1),
        (".now?, .env", None),
        ("{now: .n, env: 1} | .now", 3),
    ],
)  # fmt: skip
def test_ordinary_jq_works(expression: str, result: Any) -> None:
    if expression == "$__loc__.line":
        assert isinstance(evaluate_bare(expression, DATA), int)
    else:
        assert evaluate_bare(expression, DATA, {"context": {"k": "v"}}) == result


def test_the_first_result_counts_and_none_is_null() -> None:
    assert evaluate_bare(".items[].id", DATA) == 1
    assert evaluate_bare("empty", DATA) is None
    assert evaluate_bare(".items[] | select(.id == 7)", DATA) is None
    assert evaluate_bare("[range(0)] | .[]", DATA) is None


@pytest.mark.requirement("expression.bare")
def test_bare_fields_take_both_forms() -> None:
    assert evaluate_bare(".n > 2", DATA) is True
    assert evaluate_bare("${ .n > 2 }", DATA) is True


@pytest.mark.parametrize(("text", "holds"), [(".n == 3", True), ("${ .n == 4 }", False), (".missing", False)])
def test_conditions_are_true_or_not(text: str, holds: bool) -> None:
    assert evaluate_condition(text, DATA) is holds


@pytest.mark.parametrize("text", [".n", ".name", ".items"])
def test_a_condition_that_is_no_truth_value_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError, match="must give true or false"):
        evaluate_condition(text, DATA)


@pytest.mark.requirement("expression.arguments")
@pytest.mark.parametrize("name", ["context", "input", "output", "task", "workflow", "runtime", "authorization"])
def test_every_argument_exists_and_is_null_without_a_value(name: str) -> None:
    assert evaluate_bare(f"${name}", 1) is None
    assert evaluate_bare(f"[${name}]", 1) == [None]
    assert evaluate_bare(f"${name} | .a", 1, {name: {"a": 5}}) == 5


def test_an_unknown_variable_is_an_error_with_advice() -> None:
    for text in ("$contxt", "[$contxt]"):
        with pytest.raises(ExpressionError, match=r"\$contxt is not defined \(did you mean '\$context'\?\)"):
            evaluate_bare(text, 1)


def test_variables_of_loops_are_variables_like_others() -> None:
    assert evaluate("${ $pet.name + (.n | tostring) }", {"n": 1}, {"pet": {"name": "Rex"}}) == "Rex1"


def test_only_the_parts_of_a_variable_that_are_read_are_handed_to_jq() -> None:
    # What is no JSON would fail if it were.
    variables = {"workflow": {"id": "w", "definition": object()}}
    assert evaluate_bare('$workflow.id + "!"', None, variables) == "w!"
    with pytest.raises(ExpressionError, match="no JSON"):
        evaluate_bare("$workflow | length", None, variables)


def test_variables_that_an_expression_binds_shadow_those_given() -> None:
    assert evaluate_bare(". as $context | $context", 1, {"context": 2}) == 1
    assert evaluate_bare("[.[] as [$a, $context] | $context]", [[1, 2]], {"context": 9}) == [2]


@pytest.mark.requirement("expression.error")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('error("boom")', "boom"),
        (".name + 1", "cannot be added"),
        (".name | nope", "nope/0 is not defined at column 9"),
        (".name |", "ends too early"),
        (".a b", "syntax error"),
        ("", "empty"),
        ("map(", r"no '\)' closes"),
        ("1 # \\\n + 1", "comment"),
    ],
)
def test_a_failing_expression_says_which_and_why(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason) as caught:
        evaluate_bare(text, DATA)
    error = caught.value
    assert isinstance(error, WorkflowError)
    assert (error.type, error.status) == (STANDARD["expression"].type, 400)
    assert f"${{ {text} }}" in error.detail


def test_a_failing_expression_shows_its_input_shortened() -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate_bare(".x + 1", {"x": "y" * 10_000})
    assert caught.value.on.startswith('{"x": "yyy')
    assert len(caught.value.on) == 200


@pytest.mark.requirement("expression.no-injection")
def test_what_comes_out_of_an_expression_is_not_evaluated_again() -> None:
    hostile = {"x": "${ .secret }", "secret": "s", "y": "${.secrets.TOKEN}"}
    run = Secrets(names=frozenset({"TOKEN"}), nonce="n")
    for mode in ("strict", "loose"):
        assert evaluate({"a": "${ .x }", "b": "${ .y }"}, hostile, secrets=run, mode=mode) == {
            "a": "${ .secret }",
            "b": "${.secrets.TOKEN}",
        }


def test_evaluation_changes_nothing_that_it_is_given() -> None:
    definition = {"a": ["${ .n }", {"b": "${ .items }"}]}
    before = repr((definition, DATA))
    evaluate(definition, DATA, {"context": {}})
    assert repr((definition, DATA)) == before


@pytest.mark.requirement("expression.deterministic")
@pytest.mark.parametrize(
    "text",
    [
        *(name for name in FORBIDDEN if name not in ("import", "include", "module")),
        'import "x" as x; .',
        'include "x"; .',
        "now - 5",
        "[.[] | now]",
        '"\\(now)"',
        '@text "\\("\\(input)")"',
        "{a: now}",
        "{(now | tostring): 1}",
        "def f: now; f",
        "def f(now): now; f(1)",
        "$ENV.PATH",
        "env.PATH",
        "$ENV",
        '"a" | debug("x")',
        "reduce inputs as $x (0; .)",
        "halt_error(1)",
        "# x\nnow",
    ],
)
def test_what_is_not_the_same_at_every_replay_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="not allowed"):
        compile_expression(text)


@pytest.mark.parametrize(
    "text", [".now", ".env", "$context.input", "{now, env}", '"now"', '."now"', "# now\n.", ".input?"]
)
def test_keys_and_texts_that_look_like_refused_functions_are_allowed(text: str) -> None:
    evaluate_bare(text, {"now": 1, "env": 2, "input": 3}, {"context": {"input": 1}})


BIG = [2**53 + 1, 2**63 - 1, -(2**63), 2**64 + 3, 10**30 + 7]


@pytest.mark.requirement("expression.numbers")
@pytest.mark.parametrize("number", BIG)
@pytest.mark.parametrize(
    "text",
    [
        ".a",
        ".a | .",
        "[.a][0]",
        "{x: .a}.x",
        "[.l[]] | .[0]",
        "$context.n | .",
        ".l | map(.)[0]",
        "[limit(1; .l[])][0]",
    ],
)
def test_whole_numbers_of_any_size_pass_unchanged(number: int, text: str) -> None:
    assert evaluate_bare(text, {"a": number, "l": [number]}, {"context": {"n": number}}) == number


@pytest.mark.requirement("expression.numbers")
@pytest.mark.parametrize(
    "text",
    [
        ". + 1",
        ". - 1",
        "[.] | add + 1",
        ". * 3",
        "pow(2; 60)",
        "[., .] | add",
        ". % 10",
        "{x: (. / 2)}",
        "-.",
        "if . > 5 then . + 1 else . end",
        ". as $x | 9007199254740993 - 1",
    ],
)
def test_a_large_number_that_jq_calculated_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"beyond 2\^53"):
        evaluate_bare(text, 2**53 + 1)


def test_numbers_that_doubles_count_exactly_are_calculated() -> None:
    assert evaluate_bare(". + 1", 2**53 - 2) == 2**53 - 1
    assert evaluate_bare("9007199254740993", None) == 9007199254740993
    assert evaluate_bare('"x\\(.)"', 2**63 - 1) == "x9223372036854775807"
    assert evaluate_bare("[.id, .n + 1]", {"id": 2**63 - 1, "n": 1}) == [2**63 - 1, 2]
    assert evaluate_bare('. + "0"', "1234567890123456789") == "12345678901234567890"
    tweet = {"id": 2**63 - 1, "id_str": str(2**63 - 1), "n": 1, "other": 2**53 + 5}
    assert evaluate_bare("{id, id_str, n: (.n + 1)}", tweet) == {"id": 2**63 - 1, "id_str": str(2**63 - 1), "n": 2}
    assert evaluate_bare(
        "[.id == 9223372036854775807, .id > .other, (.id | tostring) == .id_str, (.id | type)]", tweet
    ) == [True, True, True, "number"]
    assert evaluate_bare("[.id, .other] | sort", tweet) == [2**53 + 5, 2**63 - 1]


def test_whole_numbers_and_fractions_keep_their_kind() -> None:
    result = evaluate_bare("[., .]", 3)
    assert result == [3, 3]
    assert type(result[0]) is int
    assert type(evaluate_bare(". + 0.5", 1)) is float


@pytest.mark.parametrize(
    ("value", "yes"),
    [
        ("${ . }", True),
        (" ${.}\n", True),
        ("a ${ . }", False),
        ("${ . ", False),
        (".", False),
        (5, False),
        (None, False),
    ],
)
def test_is_expression_knows_whole_texts(value: Any, yes: bool) -> None:
    assert is_expression(value) is yes


def test_an_expression_tells_what_it_uses() -> None:
    expression = compile_expression("${ $context.a + $item + $secrets.TOKEN + (. as $x | $x) }")
    assert expression.variables == {"context", "item"}
    assert expression.secrets == {"TOKEN"}
    assert compile_expression("$context.a + $item + $secrets.TOKEN + (. as $x | $x)") is expression


def test_expressions_may_be_evaluated_on_many_threads() -> None:
    wrong: list[object] = []

    def work(n: int) -> None:
        results = [evaluate_bare("[.a, ([range(.a)] | length)]", {"a": n}) for _ in range(50)]
        wrong.extend(result for result in results if result != [n, n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


@pytest.mark.parametrize("value", [float("nan"), object(), {"a": {1, 2}}])
def test_data_that_is_no_json_is_an_expression_error(value: Any) -> None:
    with pytest.raises(ExpressionError, match="no JSON"):
        evaluate_bare("[.]", value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.requirement("expression.numbers")
@given(json_values)
def test_any_json_passes_through_jq_unchanged(value: Any) -> None:
    assert evaluate_bare("[.] | .[0]", value) == value
    assert evaluate("${ $input | . }", None, {"input": value}) == value


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        evaluate_bare(text, {"a": [1, {"b": 2}]}, secrets=Secrets(names=frozenset({"S"}), nonce="n"))
    except WorkflowError as error:
        assert error.status in (400, 403)


words = st.lists(
    st.sampled_from(
        [".a", ".", "|", "[", "]", "(", ")", "{", "}", ",", "+", "-", "map(", "select(", "$input", "$secrets.S", "as",
         "$x", '"t"', '"\\(', "1", "..", "[]", "?", "//", "length", "add", "==", "if", "then", "else", "end", ":", ";"]
    ),
    max_size=14,
)  # fmt: skip


@given(words)
def test_any_sequence_of_words_is_an_expression_or_an_error(parts: list[str]) -> None:
    try:
        evaluate_bare(" ".join(parts), {"a": [1, {"b": 2}]}, secrets=Secrets(names=frozenset({"S"}), nonce="n"))
    except WorkflowError as error:
        assert error.status in (400, 403)


@given(st.recursive(st.text(max_size=12), lambda inner: st.lists(inner, max_size=3), max_leaves=5))
def test_evaluating_any_value_keeps_its_shape(value: Any) -> None:
    def shape(part: Any) -> Any:
        return [shape(item) for item in cast("list[Any]", part)] if isinstance(part, list) else "text"

    try:
        result = evaluate(value, "x")
    except (ExpressionError, SecretAccessError):
        return
    assert shape(value) == shape(result) or "${" in repr(value)


@pytest.mark.requirement("expression.dates", "expression.descriptors")
def test_descriptors_have_the_form_of_the_specification() -> None:
    moment = datetime(2022, 1, 1, 13, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    task = descriptors.describe_task(
        name="t", reference="/do/0/t", definition={"call": "http", "input": 1}, input={"a": 1}, started_at=moment
    )
    expected: Mapping[str, Any] = {
        "$task.name": "t",
        "$task.reference": "/do/0/t",
        "$task.definition.call": "http",
        "$task.call": "http",
        "$task.input.a": 1,
        "$task.output": None,
        "$task.startedAt.iso8601": "2022-01-01T12:00:00.123Z",
        "$task.startedAt.epoch.seconds": 1641038400,
        "$task.startedAt.epoch.milliseconds": 1641038400123,
        "$workflow.id": "w1",
        "$workflow.definition.document.name": "n",
        "$workflow.input": [1],
        "$runtime.name": "stigmer",
        "$runtime.metadata.region": "eu",
        "$authorization.scheme": "Bearer",
    }
    variables = {
        "task": task,
        "workflow": descriptors.describe_workflow(
            id="w1", definition={"document": {"name": "n"}}, input=[1], started_at=datetime(2022, 1, 1, tzinfo=UTC)
        ),
        "runtime": descriptors.describe_runtime(name="stigmer", version="1", metadata={"region": "eu"}),
        "authorization": descriptors.describe_authorization(scheme="Bearer", parameter="x"),
    }
    assert {text: evaluate_bare(text, None, variables) for text in expected} == expected
    with pytest.raises(ValueError, match="time zone"):
        descriptors.describe_time(datetime(2022, 1, 1))


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("[1, 2]", False),
        ("[range($n; 5)]", False),
        ("$context.items[0].x | length", False),
        ('"x \\($a) y"', False),
        ("{a: 1, b: $x}", False),
        (".a", True),
        ("..", True),
        ("{a}", True),
        ('"x \\(.a) y"', True),
        ("1 as $x | .a", True),
        ("[$x | length, .b]", True),
        ("$x[.a]", True),
        ("$a == .b", True),
    ],
)
def test_an_expression_that_plainly_does_not_look_at_its_input_is_known(text: str, reads: bool) -> None:
    assert analyse(text).reads_input is reads
    variables = {"n": 3, "context": {"items": [{"x": "abc"}]}, "a": 1, "x": [1]}
    assert reads or evaluate_bare(text, {"some": "input"}, variables) == evaluate_bare(text, None, variables)
