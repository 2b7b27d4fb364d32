# ruff: noqa: E501, PT017 - tables, one row to a line; a result and an error are both right for any input

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_dsl import DocumentError, InvalidDocumentError, Workflow, compile_spec, compile_tasks, parse, to_stored
from stigmer_dsl.stored import kind_name

HEADER = {"dsl": "1.0.0", "namespace": "ns", "name": "n", "version": "1.0.0"}


def task(name: str, kind: Any, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "task_config": config, **more}


def spec(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"document": HEADER, "tasks": list(tasks), **more}


WAIT = task("w", "WORKFLOW_TASK_KIND_WAIT", {"seconds": 1.0})
COMPILED_WAIT = {"w": {"wait": {"seconds": 1}}}

KINDS: list[tuple[int | str, tuple[str, ...], dict[str, Any], dict[str, Any]]] = [
    (1, ("SET", "set", "set_vars"), {"variables": {"a": "${ .x }", "n": 3.0}}, {"set": {"a": "${ .x }", "n": 3}}),
    (
        2,
        ("HTTP_CALL", "http_call"),
        {
            "method": "POST",
            "endpoint": {"uri": "https://x.y/{id}"},
            "headers": {"A": "b"},
            "body": {"n": 1.0},
            "timeout_seconds": 30.0,
        },
        {
            "call": "http",
            "with": {
                "method": "POST",
                "endpoint": {"uri": "https://x.y/{id}"},
                "headers": {"A": "b"},
                "body": {"n": 1},
            },
            "timeout": {"after": {"seconds": 30}},
        },
    ),
    (
        3,
        ("GRPC_CALL", "grpc_call"),
        {"service": "pkg.Greeter", "method": "Hi", "request": {"a": 1.0}},
        {
            "call": "grpc",
            "with": {
                "service": {"name": "pkg.Greeter", "host": "localhost", "port": 50051},
                "method": "Hi",
                "arguments": {"a": 1},
            },
        },
    ),
    (
        4,
        ("CALL_ACTIVITY", "call_activity", "activity_call"),
        {"activity": "Charge", "input": {"a": 1.0}},
        {"call": "activity", "with": {"name": "Charge", "arguments": [{"a": 1}]}},
    ),
    (
        5,
        ("SWITCH", "switch", "switch_case"),
        {"cases": [{"name": "a", "when": ".x == 1", "then": "end"}, {"name": "b", "then": "continue"}]},
        {"switch": [{"a": {"when": ".x == 1", "then": "end"}}, {"b": {"then": "continue"}}]},
    ),
    (
        6,
        ("FOR", "for", "for_each"),
        {"each": "pet", "in": "${ .pets }", "do": [WAIT]},
        {"for": {"each": "pet", "in": "${ .pets }"}, "do": [COMPILED_WAIT]},
    ),
    (
        7,
        ("FORK", "fork"),
        {"branches": [{"name": "a", "do": [WAIT]}, {"name": "b", "do": [WAIT]}], "compete": True},
        {"fork": {"branches": [{"a": {"do": [COMPILED_WAIT]}}, {"b": {"do": [COMPILED_WAIT]}}], "compete": True}},
    ),
    (
        8,
        ("TRY", "try", "try_catch"),
        {"try": [WAIT], "catch": {"as": "e", "do": [task("s", 1, {"variables": {"x": "${ $e.status }"}})]}},
        {"try": [COMPILED_WAIT], "catch": {"as": "e", "do": [{"s": {"set": {"x": "${ $e.status }"}}}]}},
    ),
    (
        9,
        ("LISTEN", "listen"),
        {"to": {"mode": "one", "signals": [{"id": "go", "type": "signal"}]}},
        {"listen": {"to": {"one": {"with": {"id": "go", "type": "signal"}}}}},
    ),
    (10, ("WAIT", "wait"), {"seconds": 5.0}, {"wait": {"seconds": 5}}),
    (
        11,
        ("RAISE", "raise", "raise_error"),
        {"error": "validation", "message": "${ .why }"},
        {
            "raise": {
                "error": {
                    "type": "https://serverlessworkflow.io/spec/1.0.0/errors/validation",
                    "status": 400,
                    "title": "Validation Error",
                    "detail": "${ .why }",
                }
            }
        },
    ),
    (
        12,
        ("RUN", "run", "run_workflow"),
        {"workflow": "other", "input": {"a": 1.0}},
        {"run": {"workflow": {"namespace": "ns", "name": "other", "version": "latest", "input": {"a": 1}}}},
    ),
    (
        13,
        ("AGENT_CALL", "agent_call"),
        {
            "agent": "bob",
            "scope": "platform",
            "message": "${ .m }",
            "env": {"A": "b"},
            "config": {"model": "m", "timeout": 60.0, "temperature": 0.5},
            "files": [{"path": "a", "content": 1}],
            "collect": ["b"],
            "output": "execution",
        },
        {
            "call": "agent",
            "with": {
                "agent": "bob",
                "scope": "platform",
                "message": "${ .m }",
                "env": {"A": "b"},
                "config": {"model": "m", "timeout": 60, "temperature": 0.5},
                "files": [{"path": "a", "content": 1}],
                "collect": ["b"],
                "output": "execution",
            },
        },
    ),
    (1000, ("DO", "do"), {"do": [WAIT]}, {"do": [COMPILED_WAIT]}),
    (
        1001,
        ("EMIT", "emit", "emit_event"),
        {"event": {"type": "a.b", "data": {"x": "${ . }"}}},
        {"emit": {"event": {"with": {"type": "a.b", "data": {"x": "${ . }"}}}}},
    ),
    (
        1002,
        ("HUMAN_INPUT", "human_input"),
        {"message": "Go?", "outcomes": ["yes", "no"]},
        {"call": "human_input", "with": {"message": "Go?", "outcomes": ["yes", "no"]}},
    ),
    (
        1003,
        ("LLM_CALL", "llm_call"),
        {"prompt": "${ .q }", "system": "s", "max_tokens": 100.0, "temperature": 0.5, "response": {"document": {}}},
        {
            "call": "llm_call",
            "with": {
                "prompt": "${ .q }",
                "system": "s",
                "maxTokens": 100,
                "temperature": 0.5,
                "response": {"document": {}},
            },
        },
    ),
    (
        1004,
        ("TRANSFORM", "transform"),
        {"as": {"n": "${ .x }"}},
        {"call": "transform", "with": {"as": {"n": "${ .x }"}}},
    ),
    (
        1005,
        ("VALIDATE", "validate"),
        {"input": "${ .x }", "schema": {"document": {"type": "object"}}},
        {"call": "validate", "with": {"input": "${ .x }", "schema": {"document": {"type": "object"}}}},
    ),
    (
        1006,
        ("NOTIFICATION", "notification"),
        {"message": "m", "level": "error", "recipients": ["a"], "endpoint": {"uri": "https://x.y"}},
        {
            "call": "notification",
            "with": {"message": "m", "level": "error", "recipients": ["a"], "endpoint": {"uri": "https://x.y"}},
        },
    ),
    (
        1007,
        ("EVAL", "eval"),
        {"input": "${ .answer }", "criteria": ["short", "true"], "threshold": 0.5},
        {"call": "eval", "with": {"input": "${ .answer }", "criteria": ["short", "true"], "threshold": 0.5}},
    ),
]


def only_task(workflow: Workflow) -> Any:
    return workflow.to_dict()["do"][0]["t"]


@pytest.mark.requirement("stored.kinds", "stored.numbers")
@pytest.mark.parametrize(("number", "names", "config", "compiled"), KINDS)
def test_every_kind_compiles_however_it_is_written(
    number: int | str, names: tuple[str, ...], config: dict[str, Any], compiled: dict[str, Any]
) -> None:
    spellings: list[Any] = [number, *names]
    if isinstance(number, int):
        spellings += [float(number), str(number), f"WORKFLOW_TASK_KIND_{names[0]}"]
    for kind in spellings:
        assert only_task(compile_tasks(spec(task("t", kind, config)))) == compiled, kind


@pytest.mark.requirement("stored.written")
@pytest.mark.parametrize(("number", "names", "config", "compiled"), KINDS)
def test_every_kind_is_written_back_so_that_it_compiles_to_the_same(
    number: int | str, names: tuple[str, ...], config: dict[str, Any], compiled: dict[str, Any]
) -> None:
    stored = spec(
        task("t", number, config, export={"as": "${ . }"}, flow={"then": "end"}),
        task("deep", "do", {"do": [task("t", number, config)]}),
        envSpec={"data": {"TOKEN": {}}},
    )
    workflow = compile_tasks(stored)
    written = to_stored(workflow)
    assert written["tasks"][0]["kind"] in (f"WORKFLOW_TASK_KIND_{names[0]}" if names else "", number)
    assert compile_tasks(written).to_dict() == workflow.to_dict()


@pytest.mark.requirement("stored.written")
@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ("timeout: { after: PT1S }\ndo: [ { a: { wait: PT1S } } ]", ["/timeout"]),
        ("do: [ { a: { wait: PT1S, if: .x, metadata: { b: 1 } } } ]", ["/do/0/a/if", "/do/0/a/metadata"]),
        ("do: [ { a: { wait: PT1.5S } } ]", ["/do/0/a/wait"]),
        ("do: [ { a: { wait: '${ .x }' } } ]", ["/do/0/a/wait"]),
        ("do: [ { a: { set: '${ . }' } } ]", ["/do/0/a/set"]),
        (
            "do: [ { a: { call: http, with: { method: get, endpoint: https://x.y, query: { a: b } } } } ]",
            ["/do/0/a/with/query"],
        ),
        (
            "do: [ { a: { call: http, with: { method: head, endpoint: { uri: https://x.y, authentication: { bearer: { token: t } } } } } } ]",
            ["/do/0/a/with/method", "/do/0/a/with/endpoint/authentication"],
        ),
        (
            "do: [ { a: { for: { in: [1], at: n }, while: .x, do: [ { b: { wait: PT1S } } ] } } ]",
            ["/do/0/a/for/in", "/do/0/a/for/at", "/do/0/a/while"],
        ),
        ("do: [ { a: { fork: { branches: [ { b: { wait: PT1S } } ] } } } ]", ["/do/0/a/fork/branches/0/b"]),
        (
            "do: [ { a: { try: [ { b: { wait: PT1S } } ], catch: { retry: { delay: PT1S } } } } ]",
            ["/do/0/a/catch", "/do/0/a/catch/retry"],
        ),
        (
            "do: [ { a: { raise: { error: { type: https://x.y/z, status: 418, detail: d } } } } ]",
            ["/do/0/a/raise/error"],
        ),
        (
            "do: [ { a: { listen: { to: { one: { with: { type: order.placed } } } } } } ]",
            ["/do/0/a/listen/to/one/with"],
        ),
        ("do: [ { a: { run: { shell: { command: ls } } } } ]", ["/do/0/a/run/shell"]),
        ("do: [ { a: { call: 'f:1.0.0@default' } } ]", ["/do/0/a/call"]),
    ],
)
def test_what_the_stored_form_cannot_say_is_told(body: str, pointers: list[str]) -> None:
    workflow = parse("document: { dsl: 1.0.0, namespace: ns, name: n, version: 1.0.0 }\n" + body)
    with pytest.raises(InvalidDocumentError) as caught:
        to_stored(workflow)
    assert {problem.code for problem in caught.value.problems} == {"stored.form"}
    assert sorted(problem.pointer for problem in caught.value.problems) == sorted(pointers)


def test_other_spellings_of_the_same_are_written_too() -> None:
    text = """document: { dsl: 1.0.0, namespace: ns, name: n, version: 1.0.0, summary: s }
do:
  - a: { call: http, with: { method: get, endpoint: https://x.y }, timeout: { after: PT1M } }
  - b: { wait: PT2M }
  - c: { try: [ { d: { wait: { seconds: 1 } } } ], catch: { do: [ { e: { raise: { error: { type: https://x.y/z, status: 500, detail: m } } } } ] } }
"""
    a, b, c = to_stored(parse(text))["tasks"]
    assert a["task_config"] == {"method": "GET", "endpoint": {"uri": "https://x.y"}, "timeout_seconds": 60}
    assert b["task_config"] == {"seconds": 120}
    assert c["task_config"]["catch"]["do"][0]["task_config"] == {"error": "https://x.y/z", "message": "m"}


def test_a_kind_that_is_none_has_no_name() -> None:
    assert [kind_name(kind) for kind in (0, 99, 1.5, True, None, "x", "")] == [None] * 7


@pytest.mark.requirement("stored.kinds")
def test_camel_case_is_read_like_snake_case() -> None:
    stored = {
        "name": "t",
        "kind": "WORKFLOW_TASK_KIND_HTTP_CALL",
        "taskConfig": {"method": "GET", "endpoint": {"uri": "https://x.y"}, "timeoutSeconds": 5},
    }
    compiled = only_task(compile_tasks({"document": HEADER, "tasks": [stored], "envSpec": {"data": {}}}))
    assert compiled["timeout"] == {"after": {"seconds": 5}}


def test_export_flow_and_the_header_are_taken_over() -> None:
    workflow = compile_tasks(
        {
            "document": {**HEADER, "description": "What it does"},
            "tasks": [
                task("a", 10, {"seconds": 1}, export={"as": "${ . }"}, flow={"then": "c"}),
                task("b", 10, {"seconds": 1}, export={"as": ""}, flow={"then": ""}),
                task("c", 10, {"seconds": 1}, flow={}),
            ],
        }
    )
    assert workflow.document.summary == "What it does"
    first, second, _ = workflow.to_dict()["do"]
    assert first["a"] == {"export": {"as": "${ . }"}, "then": "c", "wait": {"seconds": 1}}
    assert second["b"] == {"wait": {"seconds": 1}}


def test_secrets_are_those_declared_and_those_used() -> None:
    workflow = compile_tasks(
        spec(
            task("a", "set", {"variables": {"x": "Bearer ${.secrets.USED}", "y": "${.env_vars.URL}"}}),
            env_spec={"data": {"DECLARED": {"is_secret": True}}},
        )
    )
    assert workflow.use.secrets == ("DECLARED", "URL", "USED")


@pytest.mark.parametrize(
    ("service", "host", "port", "name"),
    [
        ("pkg.S", "localhost", 50051, "pkg.S"),
        ("x.y:99/pkg.S", "x.y", 99, "pkg.S"),
        ("x.y/pkg.S", "x.y", 443, "pkg.S"),
    ],
)
def test_a_grpc_service_may_name_its_address(service: str, host: str, port: int, name: str) -> None:
    compiled = only_task(compile_tasks(spec(task("t", 3, {"service": service, "method": "M"}))))
    assert compiled["with"]["service"] == {"name": name, "host": host, "port": port}


@pytest.mark.parametrize(
    ("error", "type_", "status"),
    [
        ("timeout", "https://serverlessworkflow.io/spec/1.0.0/errors/timeout", 408),
        ("ValidationError", "https://serverlessworkflow.io/spec/1.0.0/errors/validation", 400),
        ("https://x.y/errors/e", "https://x.y/errors/e", 500),
        ("Payment declined", "https://serverlessworkflow.io/spec/1.0.0/errors/runtime#Payment-declined", 500),
        ("${ .type }", "${ .type }", 500),
    ],
)
def test_a_raised_error_gets_a_type(error: str, type_: str, status: int) -> None:
    compiled = only_task(compile_tasks(spec(task("t", 11, {"error": error, "message": "m"}))))
    raised = compiled["raise"]["error"]
    assert (raised["type"], raised["status"], raised["detail"]) == (type_, status, "m")


@pytest.mark.parametrize(
    ("to", "compiled"),
    [
        ({"mode": "all", "signals": [{"id": "a", "type": "signal"}, {"id": "b", "type": "update"}]}, "all"),
        ({"mode": "one", "signals": [{"id": "a", "type": "signal"}, {"id": "b", "type": "query"}]}, "any"),
    ],
)
def test_listening_for_several_signals(to: dict[str, Any], compiled: str) -> None:
    found = only_task(compile_tasks(spec(task("t", 9, {"to": to}))))["listen"]["to"]
    assert list(found) == [compiled]
    assert [part["with"]["id"] for part in found[compiled]] == ["a", "b"]


def test_trying_without_a_catch_is_doing() -> None:
    assert only_task(compile_tasks(spec(task("t", 8, {"try": [WAIT]})))) == {"do": [COMPILED_WAIT]}


@pytest.mark.requirement("stored.nested")
def test_tasks_compile_at_any_depth() -> None:
    inner = task("leaf", "set", {"variables": {"x": "${ $v3 }"}})
    for depth in range(20):
        inner = task(f"l{depth}", "for_each", {"each": f"v{depth}", "in": ".x", "do": [inner]})
    compiled: Any = compile_tasks(spec(inner)).to_dict()["do"][0]
    for depth in reversed(range(20)):
        compiled = compiled[f"l{depth}"]["do"][0]
    assert compiled == {"leaf": {"set": {"x": "${ $v3 }"}}}


def test_endless_nesting_is_refused() -> None:
    inner = WAIT
    for depth in range(200):
        inner = task(f"d{depth}", "do", {"do": [inner]})
    with pytest.raises(InvalidDocumentError, match="nested deeper"):
        compile_tasks(spec(inner))


@pytest.mark.requirement("stored.pointers")
@pytest.mark.parametrize(
    ("stored", "code", "pointer"),
    [
        (task("t", "sett", {}), "stored.kind", "/tasks/0/kind"),
        (task("t", "llm_call", {}), "dsl.one-of", "/tasks/0/task_config"),
        (task("t", "llm_call", {"prompt": "x", "max_tokens": 0}), "dsl.value", "/tasks/0/task_config/max_tokens"),
        (task("t", "transform", {"as": "..["}), "expression.syntax", "/tasks/0/task_config/as"),
        (task("t", "eval", {"criteria": []}), "dsl.value", "/tasks/0/task_config/criteria"),
        (task("t", 0, {}), "dsl.missing-field", "/tasks/0"),
        ({"kind": 10, "task_config": {"seconds": 1}}, "dsl.missing-field", "/tasks/0"),
        ({"name": "t", "kind": 10}, "dsl.missing-field", "/tasks/0"),
        (task("t", 10, {"seconds": 0}), "dsl.value", "/tasks/0/task_config/seconds"),
        (task("t", 10, {"seconds": "5"}), "dsl.type", "/tasks/0/task_config/seconds"),
        (task("t", 10, {"seconds": 1, "secnds": 1}), "dsl.unknown-field", "/tasks/0/task_config/secnds"),
        (task("t", 10, {"seconds": 1}, fow={}), "dsl.unknown-field", "/tasks/0/fow"),
        (task("t", 10, {"seconds": 1}, flow={"then": "x"}), "dsl.then-target", "/tasks/0/flow/then"),
        (task("t", 10, {"seconds": 1}, export={"as": "${ nope }"}), "expression.syntax", "/tasks/0/export/as"),
        (task("t", 1, {"variables": {"a": "${ . | nope }"}}), "expression.syntax", "/tasks/0/task_config/variables/a"),
        (task("t", 2, {"method": "GET", "endpoint": {"uri": "a b"}}), "dsl.uri", "/tasks/0/task_config/endpoint/uri"),
        (task("t", 5, {"cases": [{"name": "a", "when": "..[", "then": "end"}]}), "expression.syntax", "/tasks/0/task_config/cases/0/when"),
        (task("t", 5, {"cases": [{"name": "a", "then": "zz"}]}), "dsl.then-target", "/tasks/0/task_config/cases/0/then"),
        (task("t", 6, {"each": "x", "in": "nope", "do": [WAIT]}), "expression.syntax", "/tasks/0/task_config/in"),
        (task("t", 6, {"each": "x", "in": ".", "do": [WAIT, WAIT]}), "dsl.duplicate-task", "/tasks/0/task_config/do/1"),
        (task("t", 7, {"branches": [{"name": "a", "do": [task("x", 10, {"seconds": 0})]}]}), "dsl.value", "/tasks/0/task_config/branches/0/do/0/task_config/seconds"),
        (task("t", 8, {"try": [WAIT], "catch": {"do": [task("x", 1, {"variables": {"a": "${ $e }"}})]}}), "expression.unknown-variable", "/tasks/0/task_config/catch/do/0/task_config/variables/a"),
        (task("t", 9, {"to": {"mode": "two", "signals": [{"id": "a", "type": "signal"}]}}), "dsl.value", "/tasks/0/task_config/to/mode"),
        (task("t", 13, {"agent": "a" * 64, "message": "m"}), "dsl.value", "/tasks/0/task_config/agent"),
        (task("t", 13, {"agent": "a", "message": "m", "files": 3}), "dsl.type", "/tasks/0/task_config/files"),
        (task("t", 13, {"agent": "a", "message": "m", "scope": "x"}), "dsl.value", "/tasks/0/task_config/scope"),
        (task("t", 13, {"agent": "a", "message": "m", "config": {"timeout": 4000}}), "dsl.value", "/tasks/0/task_config/config/timeout"),
    ],
)  # fmt: skip
def test_problems_point_into_the_stored_form(stored: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        compile_tasks(spec(stored))
    assert [(problem.code, problem.pointer) for problem in caught.value.problems] == [(code, pointer)]


def test_all_problems_of_a_stored_spec_come_at_once() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        compile_tasks({"document": {"dsl": "1.0.0"}, "tasks": [task("a", "x", {}), task("b", 10, {"seconds": 0})]})
    assert {problem.pointer for problem in caught.value.problems} == {
        "/document",
        "/tasks/0/kind",
        "/tasks/1/task_config/seconds",
    }


@pytest.mark.parametrize(
    "stored", [{}, {"document": HEADER}, {"document": HEADER, "tasks": []}, {"document": HEADER, "tasks": {}}]
)
def test_a_spec_without_tasks_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocumentError):
        compile_tasks(stored)


def test_a_spec_holds_a_definition_or_tasks() -> None:
    definition = "document: { dsl: 1.0.3, namespace: a, name: b, version: 1.0.0 }\ndo: [ { x: { set: { a: '${.secrets.T}' } } } ]\n"
    found = compile_spec({"definition": definition, "envSpec": {"data": {"T": {}}}})
    assert found.document.name == "b"
    assert compile_spec(spec(WAIT)).document.name == "n"
    with pytest.raises(InvalidDocumentError, match=r"definition:2:24: /do/0/x/set/a: secret 'T' is not declared"):
        compile_spec({"definition": definition})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1007) | st.floats(allow_nan=False) | st.sampled_from(["set", "for", "a", ""]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["name", "kind", "task_config", "do", "try", "catch", "cases", "branches", "to", "signals", "in", "each", "endpoint", "uri", "config", "event"]),
        inner,
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_any_stored_form_compiles_or_has_problems(value: Any) -> None:
    for stored in ({"document": value, "tasks": value}, {"document": HEADER, "tasks": [value]}):
        try:
            compile_tasks(stored)
        except DocumentError as error:
            assert error.problems
