# ruff: noqa: E501 - tables of documents, one to a line

from collections.abc import Callable

import pytest
from stigmer_dsl import InvalidDocumentError, Source, parse, parse_function, validate
from stigmer_dsl.problems import Problem


def problems(text: str, *, secrets: tuple[str, ...] = ()) -> list[Problem]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse(text, name="w.yaml", secrets=secrets)
    return list(caught.value.problems)


# Each body stands below a header of one line; ▸ marks the place of its only problem.
WRONG: list[tuple[str, str, str]] = [
    ("dsl.type", 'do: ▸5\n', "/do"),
    ("dsl.type", 'do:\n  - a: { wait: ▸5 }\n', "/do/0/a/wait"),
    ("dsl.type", 'do:\n  - a: { set: ▸[1] }\n', "/do/0/a/set"),
    ("dsl.type", 'do:\n  - a: { if: ▸true, set: { x: 1 } }\n', "/do/0/a/if"),
    ("dsl.value", 'do: ▸[]\n', "/do"),
    ("dsl.value", 'do:\n  - a: { set: ▸{} }\n', "/do/0/a/set"),
    ("dsl.value", "do:\n  - a: { call: http, with: { method: ▸'a b', endpoint: https://x.y } }\n", "/do/0/a/with/method"),
    ("dsl.value", 'do:\n  - a: { listen: { to: { one: ▸{ with: {} } } } }\n', "/do/0/a/listen/to/one"),
    ("dsl.value", 'schedule: ▸{}\ndo: [ { a: { wait: PT1S } } ]\n', "/schedule"),
    ("dsl.missing-field", 'do:\n  - a: { call: http, with: ▸{ method: get } }\n', "/do/0/a/with"),
    ("dsl.missing-field", 'do:\n  - a:\n      call: grpc\n      with: ▸{ service: { name: S, host: h }, method: M }\n', "/do/0/a/with"),
    ("dsl.missing-field", 'do:\n  - a: { call: http, with: { method: get, endpoint: { uri: https://x.y, authentication: { basic: ▸{ username: u } } } } }\n', "/do/0/a/with/endpoint/authentication/basic"),
    ("dsl.unknown-field", 'do:\n  - a: { ▸sett: 1, set: { x: 1 } }\n', "/do/0/a/sett"),
    ("dsl.unknown-field", '▸extra: 1\ndo: [ { a: { wait: PT1S } } ]\n', "/extra"),
    ("dsl.one-of", 'do:\n  - a: { run: ▸{ shell: { command: ls }, script: { language: js, code: x } } }\n', "/do/0/a/run"),
    ("dsl.one-of", 'do:\n  - a: { listen: { to: ▸{} } }\n', "/do/0/a/listen/to"),
    ("dsl.task-kind", 'do:\n  - a: ▸{ then: end }\n', "/do/0/a"),
    ("dsl.task-kind", 'do:\n  - a: { set: { x: 1 }, ▸wait: PT1S }\n', "/do/0/a/wait"),
    ("dsl.entry", 'do:\n  - ▸a: { wait: PT1S }\n    b: { wait: PT1S }\n', "/do/0"),
    ("dsl.entry", 'do:\n  - ▸wait\n', "/do/0"),
    ("dsl.language", 'evaluate: { language: ▸js }\ndo: [ { a: { wait: PT1S } } ]\n', "/evaluate/language"),
    ("dsl.duplicate-task", 'do:\n  - a: { wait: PT1S }\n  - ▸a: { wait: PT2S }\n', "/do/1/a"),
    ("dsl.duplicate-task", 'do:\n  - s:\n      switch:\n        - a: { when: .x, then: end }\n        - ▸a: { then: exit }\n', "/do/0/s/switch/1/a"),
    ("dsl.reserved-name", 'do:\n  - ▸exit: { wait: PT1S }\n', "/do/0/exit"),
    ("dsl.reserved-name", 'use: { functions: { ▸agent: { wait: PT1S } } }\ndo: [ { a: { wait: PT1S } } ]\n', "/use/functions/agent"),
    ("dsl.then-target", 'do:\n  - a: { wait: PT1S, then: ▸zzz }\n', "/do/0/a/then"),
    ("dsl.then-target", 'do:\n  - a: { do: [ { b: { wait: PT1S, then: ▸a } } ] }\n', "/do/0/a/do/0/b/then"),
    ("dsl.then-target", 'do:\n  - s: { switch: [ { x: { then: ▸gone } } ] }\n', "/do/0/s/switch/0/x/then"),
    ("dsl.then-target", 'do:\n  - t: { try: [ { x: { wait: PT1S } } ], catch: { then: ▸x } }\n', "/do/0/t/catch/then"),
    ("dsl.then-target", 'do:\n  - f: { fork: { branches: [ { x: { wait: PT1S, then: ▸y } }, { y: { wait: PT1S } } ] } }\n', "/do/0/f/fork/branches/0/x/then"),
    ("dsl.switch-default", 'do:\n  - s: { switch: [ { x: { then: end } }, { ▸y: { then: exit } } ] }\n', "/do/0/s/switch/1/y"),
    ("dsl.unknown-reference", 'do:\n  - a: { raise: { error: ▸nope } }\n', "/do/0/a/raise/error"),
    ("dsl.unknown-reference", 'do:\n  - a: { wait: PT1S, timeout: ▸nope }\n', "/do/0/a/timeout"),
    ("dsl.unknown-reference", 'timeout: ▸nope\ndo: [ { a: { wait: PT1S } } ]\n', "/timeout"),
    ("dsl.unknown-reference", 'do:\n  - a: { try: [ { b: { wait: PT1S } } ], catch: { retry: ▸nope } }\n', "/do/0/a/catch/retry"),
    ("dsl.unknown-reference", 'do:\n  - a: { call: ▸nope }\n', "/do/0/a/call"),
    ("dsl.unknown-reference", "do:\n  - a: { call: ▸'f:1.0.0@nope' }\n", "/do/0/a/call"),
    ("dsl.unknown-reference", 'do:\n  - a: { call: http, with: { method: get, endpoint: { uri: https://x.y, authentication: { use: ▸nope } } } }\n', "/do/0/a/with/endpoint/authentication/use"),
    ("dsl.variable-name", 'do:\n  - a: { for: { each: ▸my-item, in: .x }, do: [ { b: { wait: PT1S } } ] }\n', "/do/0/a/for/each"),
    ("dsl.variable-name", 'do:\n  - a: { for: { each: ▸input, in: .x }, do: [ { b: { wait: PT1S } } ] }\n', "/do/0/a/for/each"),
    ("dsl.variable-name", 'do:\n  - a: { for: { each: x, at: ▸x, in: .x }, do: [ { b: { wait: PT1S } } ] }\n', "/do/0/a/for/at"),
    ("dsl.duration", 'do:\n  - a: { wait: ▸P1 }\n', "/do/0/a/wait"),
    ("dsl.duration", 'do:\n  - a: { wait: { seconds: ▸-1 } }\n', "/do/0/a/wait/seconds"),
    ("dsl.uri", "do:\n  - a: { call: http, with: { method: get, endpoint: ▸'https://x.y/${ .id }' } }\n", "/do/0/a/with/endpoint/uri"),
    ("dsl.uri", "do:\n  - a: { call: http, with: { method: get, endpoint: ▸'https://x.y/{+id}' } }\n", "/do/0/a/with/endpoint/uri"),
    ("dsl.schema", 'input: { schema: { document: { type: ▸5 } } }\ndo: [ { a: { wait: PT1S } } ]\n', "/input/schema/document/type"),
    ("dsl.schema", 'input: { schema: { format: ▸avro, document: {} } }\ndo: [ { a: { wait: PT1S } } ]\n', "/input/schema/format"),
    ("dsl.cron", "schedule: { cron: ▸'* * 32 * *' }\ndo: [ { a: { wait: PT1S } } ]\n", "/schedule/cron"),
    ("expression.syntax", "do:\n  - a: { set: { x: '${ .a | ▸foo }' } }\n", "/do/0/a/set/x"),
    ("expression.syntax", "do:\n  - a: { if: '.a | map(▸', set: { x: 1 } }\n", "/do/0/a/if"),
    ("expression.syntax", "do:\n  - a: { if: ▸'.a ==', set: { x: 1 } }\n", "/do/0/a/if"),
    ("expression.syntax", "do:\n  - a: { set: { x: '${ .a ▸}-${ .b }' } }\n", "/do/0/a/set/x"),
    ("expression.limit", "do:\n  - a: { if: ▸'" + "." * 20_001 + "', set: { x: 1 } }\n", "/do/0/a/if"),
    ("expression.number", "do:\n  - a: { if: ▸'. > 9007199254740993 + 1', set: { x: 1 } }\n", "/do/0/a/if"),
    ("expression.forbidden", "do:\n  - a: { if: ▸'now > 5', set: { x: 1 } }\n", "/do/0/a/if"),
    ("expression.unknown-variable", 'do:\n  - a: { if: ▸$contxt.x, set: { x: 1 } }\n', "/do/0/a/if"),
    ("expression.unknown-variable", "do:\n  - a: { for: { in: ▸'$item' }, do: [ { b: { wait: PT1S } } ] }\n", "/do/0/a/for/in"),
    ("expression.unknown-secret", "do:\n  - a: { set: { x: ▸'${ $secrets.NOPE }' } }\n", "/do/0/a/set/x"),
    ("expression.unknown-secret", "do:\n  - a: { set: { x: ▸'Bearer ${.secrets.NOPE}' } }\n", "/do/0/a/set/x"),
    ("expression.unknown-secret", 'do:\n  - a: { call: http, with: { method: get, endpoint: { uri: https://x.y, authentication: { bearer: { use: ▸nope } } } } }\n', "/do/0/a/with/endpoint/authentication/bearer/use"),
    ("expression.secret-use", "use: { secrets: [ S ] }\ndo:\n  - a: { set: { x: ▸'${ $secrets.S | @base64 }' } }\n", "/do/0/a/set/x"),
    ("dsl.secret-use", "use: { secrets: [ S ] }\ndo:\n  - a: { call: activity, with: { name: A, arguments: [ { k: ▸'${ $secrets.S }' } ] } }\n", "/do/0/a/with/arguments/0/k"),
    ("dsl.function-cycle", 'use: { functions: { f: ▸{ do: [ { a: { for: { in: .x }, do: [ { b: { call: f } } ] } } ] } } }\ndo: [ { a: { call: f } } ]\n', "/use/functions/f"),
    ("dsl.function-cycle", 'use: { functions: { f: ▸{ call: f } } }\ndo: [ { a: { call: f } } ]\n', "/use/functions/f"),
]  # fmt: skip


@pytest.mark.requirement("document.closed", "task.one-kind", "task.names", "flow.targets", "switch", "use.references")
@pytest.mark.requirement("expression.located", "uri-template", "schema", "evaluate.language", "document.tasks")
@pytest.mark.parametrize(("code", "body", "pointer"), WRONG)
def test_a_problem_is_found_with_its_code_pointer_and_place(
    document: Callable[[str], str], code: str, body: str, pointer: str
) -> None:
    before = document(body).partition("▸")[0]
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    found = problems(document(body).replace("▸", ""))
    assert [(problem.code, problem.pointer, problem.position) for problem in found] == [(code, pointer, place)]
    assert found[0].source == "w.yaml"
    assert str(found[0]).startswith(f"w.yaml:{place[0]}:{place[1]}: {pointer}: ")


@pytest.mark.requirement("problems.all")
def test_all_problems_of_structure_and_meaning_come_at_once_in_the_order_of_the_text(
    document: Callable[[str], str],
) -> None:
    found = problems(
        document(
            """do:
  - first: { sett: 1 }
  - second:
      wait: P1
      then: nowhere
  - third:
      call: http
      with: { metod: get, endpoint: https://x.y }
  - second: { set: { x: '${ .a | nope }' } }
schedule: { cron: daily }
zzz: 1
"""
        )
    )
    assert [(problem.code, problem.position and problem.position.line) for problem in found] == [
        ("dsl.task-kind", 3),
        ("dsl.duration", 5),
        ("dsl.then-target", 6),
        ("dsl.missing-field", 9),
        ("dsl.unknown-field", 9),
        ("dsl.duplicate-task", 10),
        ("expression.syntax", 10),
        ("dsl.cron", 11),
        ("dsl.unknown-field", 12),
    ]


@pytest.mark.requirement("problems.all")
def test_what_is_empty_without_its_unknown_keys_hides_no_other_problem(document: Callable[[str], str]) -> None:
    found = problems(
        document(
            """use: { authentications: { a: { oauth: {} } }, retries: { often: { delay: soon } } }
input: { schema: { type: object } }
do:
  - first: { wait: { second: 5 } }
  - second: { wait: 5s }
  - third:
      try: [ { it: { wait: PT1S } } ]
      catch: { errors: { with: { code: 5 } } }
  - fourth: { set: { x: '${ .a | nope }' }, then: nowhere }
"""
        )
    )
    assert [(problem.code, problem.position and problem.position.line) for problem in found] == [
        ("dsl.unknown-field", 2),
        ("dsl.duration", 2),
        ("dsl.unknown-field", 3),
        ("dsl.unknown-field", 5),
        ("dsl.duration", 6),
        ("dsl.unknown-field", 9),
        ("expression.syntax", 10),
        ("dsl.then-target", 10),
    ]


def test_a_broken_task_is_still_a_target_and_a_broken_component_still_has_its_name(
    document: Callable[[str], str],
) -> None:
    found = problems(
        document(
            """use:
  errors: { bad: { type: https://x.y } }
do:
  - a: { wait: PT1S, then: b }
  - b: { wait: 5 }
  - c: { raise: { error: bad } }
"""
        )
    )
    assert [problem.code for problem in found] == ["dsl.missing-field", "dsl.type"]


@pytest.mark.requirement("problems.advice")
@pytest.mark.parametrize(
    ("body", "advice"),
    [
        ("do:\n  - a: { cal: http, with: {} }\n", "('cal': did you mean 'call'?)"),
        ("do:\n  - a: { wait: PT1S, then: en }\n", "did you mean 'end'?"),
        ("do:\n  - a: { if: $contxt, wait: PT1S }\n", "did you mean '$context'?"),
        ("do:\n  - a: { call: mcp, with: { method: tools/cal, transport: { stdio: { command: x } } } }\n", "'tools/call'"),
        ("use: { retries: { often: {} } }\ndo:\n  - a: { try: [ { b: { wait: PT1S } } ], catch: { retry: oftn } }\n", "'often'"),
        ("use: { secrets: [ TOKEN ] }\ndo:\n  - a: { set: { x: '${ $secrets.TOKN }' } }\n", "'TOKEN'"),
        ("do:\n  - a: { if: \".a == 'x'\", wait: PT1S }\n", "double quotes"),
        ("do:\n  - a: { call: http, with: { metod: get, endpoint: https://x } }\n", "it has 'metod'"),
        ("do:\n  a: { wait: PT1S }\n", "begin each entry with a dash"),
        ("do:\n  - a: { wait: PT1S }\n    b: { wait: PT1S }\n", "begin each entry with a dash"),
        ("do:\n  - name: a\n    wait: PT1S\n", "the name is the key: `- a: …`"),
        ("do:\n  - a: { for: { in: items }, do: [ { b: { wait: PT1S } } ] }\n", "write .items for a field of the data"),
        ("do:\n  - a: { set: { x: '${ $secrets.A }' } }\n", "(add it to use.secrets)"),
        ("do:\n  - a: { set: { x: '${.secrets.A}' } }\n", "write ${ .secrets… } with a space"),
    ],
)  # fmt: skip
def test_advice_names_what_was_probably_meant(document: Callable[[str], str], body: str, advice: str) -> None:
    assert advice in str(problems(document(body))[0])


@pytest.mark.requirement("document.version")
@pytest.mark.parametrize("version", ["1.0.0", "1.0.3", "1.0.0-alpha5"])
def test_versions_1_0_are_read(version: str) -> None:
    text = f"document: {{ dsl: {version}, namespace: a, name: b, version: 1.0.0 }}\ndo: [ {{ a: {{ wait: PT1S }} }} ]\n"
    assert parse(text).document.dsl == version


@pytest.mark.requirement("document.version")
@pytest.mark.parametrize(
    ("version", "code"), [("1.1.0", "dsl.version"), ("0.8.0", "dsl.version"), ("'1'", "dsl.value")]
)
def test_other_versions_are_refused(version: str, code: str) -> None:
    text = f"document: {{ dsl: {version}, namespace: a, name: b, version: 1.0.0 }}\ndo: [ {{ a: {{ wait: PT1S }} }} ]\n"
    assert [problem.code for problem in problems(text)] == [code]


@pytest.mark.requirement("document.header")
def test_a_header_says_everything_that_it_lacks() -> None:
    found = problems("document: { description: x }\ndo: [ { a: { wait: PT1S } } ]\n")
    assert [problem.message for problem in found if problem.code == "dsl.missing-field"] == [
        "needs `dsl`",
        "needs `namespace`",
        "needs `name`",
        "needs `version`",
    ]
    assert "it is called 'summary' here" in [problem.hint for problem in found]


def test_a_version_without_quotes_gets_advice() -> None:
    found = problems("document: { dsl: 1.0, namespace: a, name: b, version: 1.0.0 }\ndo: [ { a: { wait: PT1S } } ]\n")
    assert str(found[0]) == "w.yaml:1:18: /document/dsl: must be a text, not 1.0 (put it in quotes)"


@pytest.mark.parametrize("text", ["5", "- a", "text", "null"])
def test_what_is_no_object_is_no_workflow(text: str) -> None:
    assert [problem.code for problem in problems(text)] == ["dsl.type"]


def test_several_documents_are_parsed_one_at_a_time(document: Callable[[str], str]) -> None:
    text = document("do: [ { a: { wait: PT1S } } ]\n")
    two = f"{text}---\n{text}"
    assert [problem.code for problem in problems(two)] == ["dsl.documents"]
    assert [parse(part).document.name for part in Source.load(two, name="w.yaml").documents] == ["example"] * 2


def test_names_given_beside_the_document_may_be_used_as_secrets(document: Callable[[str], str]) -> None:
    text = document("do: [ { a: { set: { x: '${.env_vars.BASE_URL}/x', y: '${ $secrets.TOKEN }' } } } ]\n")
    assert parse(text, secrets=["BASE_URL", "TOKEN"])
    assert [problem.code for problem in problems(text, secrets=("TOKEN",))] == ["expression.unknown-secret"]


def test_a_plain_value_is_validated_without_positions() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        validate({"document": {}, "do": []})
    assert all(problem.position is None for problem in caught.value.problems)
    assert str(caught.value.problems[0]) == "/document: needs `dsl`"


@pytest.mark.requirement("expression.located")
def test_a_mistake_in_a_long_expression_is_reported_at_its_column(document: Callable[[str], str]) -> None:
    found = problems(document("do:\n  - a:\n      set:\n        total: ${ .items | map(.price) | ad }\n"))
    assert found[0].position == (5, 16 + len("${ .items | map(.price) | "))
    assert found[0].message == "ad/0 is not defined at column 24"


def test_one_wrong_expression_among_many_is_the_only_one_reported(document: Callable[[str], str]) -> None:
    tasks = "".join(f"  - t{n}: {{ set: {{ x: '${{ .a + {n} }}', y: '${{ [range({n})] }}' }} }}\n" for n in range(40))
    wrong = tasks.replace(".a + 17", ".a + ").replace("range(23)", "rnge(23)")
    assert [problem.pointer for problem in problems(document("do:\n" + wrong))] == [
        "/do/17/t17/set/x",
        "/do/23/t23/set/y",
    ]


def test_texts_of_scripts_and_metadata_are_not_taken_for_expressions(document: Callable[[str], str]) -> None:
    body = """do:
  - a:
      run: { shell: { command: 'echo ${HOME} ${X:-y}' } }
      metadata: { note: '${ not jq' , other: '${ | }' }
"""
    assert parse(document(body))


def test_a_function_of_a_catalog_is_read_as_one_task() -> None:
    text = "input: { schema: { document: { type: object } } }\nset: { n: '${ .n }' }\n"
    assert parse_function(text) == {"input": {"schema": {"document": {"type": "object"}}}, "set": {"n": "${ .n }"}}
    assert parse_function("call: 'f:1.0.0@ours'", catalogs=["ours"]) == {"call": "f:1.0.0@ours"}


@pytest.mark.parametrize(
    ("text", "pointer", "place"),
    [
        ("set: { n: '${ .a | }' }", "/set/n", (1, 11)),
        ("set:\n  n: '${ $secrets.S }'", "/set/n", (2, 6)),
        ("set: { n: 1 }\nthen: there", "/then", (2, 7)),
        ("call: helper", "/call", (1, 7)),
        ("wait: PT1S\nfoo: 1", "/foo", (2, 1)),
    ],
)
def test_problems_of_a_function_have_their_places_in_its_text(text: str, pointer: str, place: tuple[int, int]) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_function(text, name="f.yaml")
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.position, problem.source) == (pointer, place, "f.yaml")
