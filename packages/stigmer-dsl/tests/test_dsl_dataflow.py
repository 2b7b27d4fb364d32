# ruff: noqa: E501 - tables, one row to a line

from typing import Any

import pytest
from stigmer_dsl import ExpressionError, SchemaError, WorkflowError
from stigmer_dsl.dataflow import apply_export, check, transform_input, transform_output
from stigmer_dsl.errors import STANDARD
from stigmer_dsl.model import Export, Input, Output, Schema


def input_of(**fields: Any) -> Input:
    return Input.model_validate(fields)


def output_of(**fields: Any) -> Output:
    return Output.model_validate(fields)


def export_of(**fields: Any) -> Export:
    return Export.model_validate(fields)


OBJECT = {"document": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}}


@pytest.mark.parametrize("value", [None, 5, {"a": [1]}, "x"])
def test_without_a_specification_data_passes_through(value: Any) -> None:
    assert transform_input(None, value) is value
    assert transform_output(None, value) is value
    assert transform_input(input_of(), value) is value
    assert transform_output(output_of(), value) is value


@pytest.mark.requirement("flow.input")
def test_raw_input_is_checked_before_it_is_transformed() -> None:
    spec = input_of(schema=OBJECT, **{"from": ".id + $context.n"})
    assert transform_input(spec, {"id": 1}, {"context": {"n": 2}}) == 3
    with pytest.raises(SchemaError, match="the input does not match"):
        transform_input(spec, {"id": "x"}, {"context": {"n": 2}})


@pytest.mark.requirement("flow.input", "expression.bare")
@pytest.mark.parametrize(
    ("from_", "result"),
    [(".a.b", 1), ("${ .a.b }", 1), ({"x": "${ .a.b }", "y": [1, ".a"]}, {"x": 1, "y": [1, ".a"]})],
)
def test_a_transformation_is_an_expression_or_an_object_of_them(from_: Any, result: Any) -> None:
    assert transform_input(input_of(**{"from": from_}), {"a": {"b": 1}}) == result
    assert transform_output(output_of(**{"as": from_}), {"a": {"b": 1}}) == result


@pytest.mark.requirement("flow.output")
def test_output_is_transformed_before_it_is_checked() -> None:
    spec = output_of(schema=OBJECT, **{"as": {"id": "${ .raw + $input }"}})
    assert transform_output(spec, {"raw": 1}, {"input": 2}) == {"id": 3}
    with pytest.raises(SchemaError, match=r"/id: 1\.5 is not of type 'integer'"):
        transform_output(spec, {"raw": 1}, {"input": 0.5})


@pytest.mark.requirement("flow.export")
def test_export_sees_the_transformed_output_and_replaces_the_context() -> None:
    assert apply_export(export_of(**{"as": "."}), {"a": 1}, {"old": 1}) == {"a": 1}
    assert apply_export(export_of(**{"as": "$context + ."}), {"a": 1}, {"old": 1}) == {"old": 1, "a": 1}
    assert apply_export(export_of(**{"as": {"o": "${ $output.a }", "t": "${ $task.name }"}}), {"a": 1}, {}, {"task": {"name": "t"}}) == {"o": 1, "t": "t"}  # fmt: skip
    assert apply_export(None, {"a": 1}, {"old": 1}) == {"old": 1}
    assert apply_export(export_of(), {"a": 1}, {"old": 1}) == {"old": 1}


@pytest.mark.requirement("flow.export")
def test_the_exported_context_is_checked() -> None:
    with pytest.raises(SchemaError, match="the context does not match"):
        apply_export(export_of(schema=OBJECT, **{"as": "."}), {"id": "x"}, {})


@pytest.mark.requirement("flow.validation-error")
def test_every_violation_is_listed_with_its_place() -> None:
    schema = Schema.model_validate(
        {
            "document": {
                "type": "object",
                "required": ["a"],
                "properties": {"b": {"items": {"type": "integer"}}, "c/d": {"minimum": 3}},
            }
        }
    )
    with pytest.raises(SchemaError) as caught:
        check("the input", {"b": [1, "x", None], "c/d": 1}, schema)
    error = caught.value
    assert (error.type, error.status) == (STANDARD["validation"].type, 400)
    assert sorted(pointer for pointer, _ in error.violations) == ["", "/b/1", "/b/2", "/c~1d"]


def test_a_flood_of_violations_is_cut() -> None:
    schema = Schema.model_validate({"document": {"items": {"type": "integer"}}})
    with pytest.raises(SchemaError) as caught:
        check("the input", ["x"] * 50, schema)
    assert caught.value.violations[-1] == ("", "and 30 more")


@pytest.mark.requirement("schema")
@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"document": {"type": 5}}, "no JSON Schema"),
        ({"document": "x"}, "no JSON Schema"),
        ({"document": {"pattern": "("}}, "no regular expression"),
        ({"document": {"patternProperties": {"^(a|aa)+b+$": {}}}}, "more than one part"),
        ({"document": {"$ref": "#"}}, "without end"),
        ({"document": {"$ref": "#/nope"}}, "refers to"),
        ({"document": {"$ref": "https://x.y/schema.json"}}, "refers to"),
        ({"format": "avro", "document": {}}, "not supported"),
        ({"resource": {"endpoint": "https://x.y"}}, "stands elsewhere"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_configuration_error(schema: Any, message: str) -> None:
    with pytest.raises(WorkflowError, match=message) as caught:
        check("the input", {}, Schema.model_validate(schema))
    assert caught.value.type == STANDARD["configuration"].type


@pytest.mark.requirement("schema")
def test_a_schema_that_stands_elsewhere_is_loaded_by_the_caller() -> None:
    schema = Schema.model_validate({"format": "json:2020-12", "resource": {"endpoint": "https://x.y/s.json"}})
    with pytest.raises(SchemaError):
        check("the input", 5, schema, load=lambda asked: {"type": "string"} if asked is schema else {})


def test_older_drafts_of_json_schema_are_known_by_their_uri() -> None:
    draft = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True}
    with pytest.raises(SchemaError):
        check("the input", 3, Schema.model_validate({"document": draft}))


def test_a_pattern_that_runs_away_fails_within_a_bound() -> None:
    schema = Schema.model_validate({"document": {"pattern": "^(a|aa)+(a|aa)+$"}})
    with pytest.raises(WorkflowError):
        check("the input", "a" * 60 + "!", schema)
    check("the input", "aaaa", schema)


def test_a_schema_that_unfolds_without_bound_fails_within_one() -> None:
    levels = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(40)}
    schema = Schema.model_validate({"document": {"$ref": "#/$defs/l0", "$defs": {**levels, "l40": {}}}})
    with pytest.raises(WorkflowError, match="references"):
        check("the input", 1, schema)


@pytest.mark.parametrize(("text", "right"), [("a@b.cd", True), ("a@b", False), ("x" * 20_000, False)])
def test_patterns_match_as_they_say(text: str, right: bool) -> None:
    schema = Schema.model_validate({"document": {"pattern": r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"}})
    if right:
        check("the input", text, schema)
    else:
        with pytest.raises(SchemaError, match="does not match"):
            check("the input", text, schema)


def test_a_failing_transformation_is_an_expression_error() -> None:
    with pytest.raises(ExpressionError):
        transform_output(output_of(**{"as": ".a.b"}), {"a": 1})
