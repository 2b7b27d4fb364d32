# ruff: noqa: E501 - tables of documents, one to a line

from collections.abc import Callable

import pytest
from stigmer_dsl import doubts_about, parse


def doubts(text: str) -> list[tuple[str, str, str]]:
    return [(doubt.code, doubt.pointer, doubt.hint) for doubt in doubts_about(parse(text))]


@pytest.mark.requirement("problems.doubts")
@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Hello ${ .name }!", r'${ "Hello \(.name)!" }'),
        ('a "b" ${ .a } c', r'${ "a \"b\" \(.a) c" }'),
        ("x${ {a: {b: 1}} | tojson }", r'${ "x\({a: {b: 1}} | tojson)" }'),
    ],
)
def test_a_text_with_an_expression_in_its_middle_is_doubted_and_told_as_one_expression(
    document: Callable[[str], str], text: str, whole: str
) -> None:
    escaped = text.replace("'", "''")
    body = document(f"do:\n  - a: {{ set: {{ x: [ {{ y: '{escaped}' }} ] }} }}\n")
    assert doubts(body) == [("doubt.text", "/do/0/a/set/x/0/y", f"as an expression it is {whole}")]
    expression = whole.replace("'", "''")
    assert doubts(document(f"do:\n  - a: {{ set: {{ x: '{expression}' }} }}\n")) == []


@pytest.mark.parametrize(
    "body",
    [
        "evaluate: { mode: loose }\ndo:\n  - a: { set: { x: 'Hello ${ .name }' } }\n",
        "do:\n  - a: { run: { shell: { command: 'echo ${HOME}/x' } } }\n",
        "do:\n  - a: { run: { script: { language: js, code: 'console.log(`a ${b}`)' } } }\n",
        "do:\n  - a: { set: { x: 1 }, metadata: { note: 'a ${ b } c' } }\n",
        "use: { secrets: [ TOKEN ] }\ndo:\n  - a: { set: { x: 'Bearer ${.secrets.TOKEN}' } }\n",
        "do:\n  - a: { set: { x: 'costs ${5' } }\n",
        "do:\n  - a: { set: { x: 1 }, output: { schema: { document: { description: 'a ${ b } c' } } } }\n",
    ],
)
def test_texts_that_are_meant_as_they_are_are_not_doubted(document: Callable[[str], str], body: str) -> None:
    assert doubts(document(body)) == []


@pytest.mark.parametrize(
    ("tasks", "unreached"),
    [
        ("[ { a: { set: { x: 1 }, then: end } }, { b: { wait: PT1S } }, { c: { wait: PT1S } } ]", ["/do/1/b"]),
        ("[ { a: { set: { x: 1 }, then: c } }, { b: { wait: PT1S } }, { c: { wait: PT1S } } ]", ["/do/1/b"]),
        ("[ { a: { if: .x, set: { x: 1 }, then: end } }, { b: { wait: PT1S } } ]", []),
        (
            "[ { a: { switch: [ { x: { when: .x, then: end } }, { y: { then: exit } } ] } }, { b: { wait: PT1S } } ]",
            ["/do/1/b"],
        ),
        ("[ { a: { switch: [ { x: { when: .x, then: end } } ] } }, { b: { wait: PT1S } } ]", []),
        (
            "[ { a: { switch: [ { x: { when: .x, then: c } }, { y: { then: end } } ] } }, { b: { wait: PT1S } }, { c: { wait: PT1S, then: b } } ]",
            [],
        ),
        ("[ { a: { raise: { error: { type: https://x.y, status: 400 } } } }, { b: { wait: PT1S } } ]", ["/do/1/b"]),
        (
            "[ { a: { try: [ { i: { wait: PT1S, then: exit } }, { j: { wait: PT1S } } ], catch: { then: end } } }, { b: { wait: PT1S } } ]",
            ["/do/0/a/try/1/j"],
        ),
        (
            "[ { a: { try: [ { i: { wait: PT1S } } ], catch: { then: c }, then: end } }, { b: { wait: PT1S } }, { c: { wait: PT1S } } ]",
            ["/do/1/b"],
        ),
        ("[ { a: { fork: { branches: [ { i: { wait: PT1S, then: end } }, { j: { wait: PT1S } } ] } } } ]", []),
        ("[ { a: { set: { x: 1 } } }, { b: { set: { x: 1 }, then: a } }, { c: { wait: PT1S } } ]", ["/do/2/c"]),
    ],
)
def test_tasks_that_nothing_leads_to_are_doubted(
    document: Callable[[str], str], tasks: str, unreached: list[str]
) -> None:
    found = doubts(document(f"do: {tasks}\n"))
    assert [(code, pointer) for code, pointer, _ in found] == [("doubt.unreachable", each) for each in unreached]


@pytest.mark.parametrize(
    ("filter_", "is_doubted"),
    [
        ("{ type: a.b }", True),
        ("{ type: a.c }", False),
        ("{ type: a.b, source: /elsewhere }", False),
    ],
)
def test_a_workflow_that_emits_what_it_starts_on_is_doubted(
    document: Callable[[str], str], filter_: str, is_doubted: bool
) -> None:
    body = f"schedule: {{ on: {{ one: {{ with: {filter_} }} }} }}\n"
    body += "do: [ { l: { do: [ { e: { emit: { event: { with: { type: a.b } } } } } ] } } ]\n"
    found = [(code, pointer) for code, pointer, _ in doubts(document(body))]
    assert found == ([("doubt.event-loop", "/do/0/l/do/0/e/emit/event/with/type")] if is_doubted else [])
