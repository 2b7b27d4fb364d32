# ruff: noqa: E501 - tables of documents, one to a line

import re
from collections.abc import Callable

import pytest
from pydantic import ValidationError
from stigmer_dsl import InvalidDocumentError, load_trusted, parse
from stigmer_dsl.model import (
    CallAgentTask,
    CallHttpTask,
    ForTask,
    ListenTask,
    RunTask,
    TryTask,
    WaitTask,
    describe,
    inner_lists,
)

# A task of every kind, with every field that the specification gives it.
TASKS: dict[str, str] = {
    "set": "set: { a: '${ .x }', b: { c: [ 1, null ] } }",
    "set expression": "set: ${ .x }",
    "do": "do: [ { x: { set: { a: 1 } } }, { y: { set: { a: 2 } } } ]",
    "call http": """call: http
with:
  method: POST
  endpoint: { uri: 'https://x.y/{id}', authentication: { use: policy } }
  headers: { Accept: application/json }
  body: [ 1, '${ .x }' ]
  query: { page: 1 }
  output: response
  redirect: true""",
    "call http expressions": "call: http\nwith: { method: '${ .m }', endpoint: '${ .url }', headers: '${ .h }', query: '${ .q }' }",
    "call grpc": """call: grpc
with:
  proto: { endpoint: file://app/greet.proto }
  service: { name: pkg.Greeter, host: localhost, port: 5011, authentication: { basic: { use: mySecret } } }
  method: SayHello
  arguments: { name: '${ .user }' }""",
    "call openapi": """call: openapi
with:
  document: { name: petstore, endpoint: https://x.y/swagger.json }
  operationId: find
  parameters: { status: available }
  authentication: policy
  output: raw""",
    "call asyncapi": """call: asyncapi
with:
  document: { endpoint: https://x.y/asyncapi.json }
  operation: greet
  server: { name: s, variables: { env: dev } }
  protocol: kafka
  message: { payload: { a: b }, headers: { foo: bar } }""",
    "call asyncapi subscribe": """call: asyncapi
with:
  document: { endpoint: https://x.y/asyncapi.json }
  channel: inbox
  subscription:
    filter: ${ .room == $context.room }
    consume: { amount: 5, for: { seconds: 10 } }
    foreach: { item: message, at: n, do: [ { z: { set: { m: '${ $message }', n: '${ $n }' } } } ] }""",
    "call a2a": "call: a2a\nwith: { method: message/send, agentCard: { endpoint: https://x.y/card.json }, parameters: { message: { parts: [] } } }",
    "call mcp": """call: mcp
with:
  method: tools/call
  parameters: { name: t, arguments: { x: 1 } }
  timeout: PT5S
  transport: { stdio: { command: npx, arguments: [ server ], environment: { A: b } }, options: { x: y } }
  client: { name: c, version: '1' }""",
    "call agent": """call: agent
with:
  agent: reviewer
  scope: platform
  message: ${ "Review \\(.pr)" }
  env: { TOKEN: '${.secrets.TOKEN}' }
  config: { model: m, timeout: 60, temperature: 0.5 }
  files: [ { path: in/rows.json, content: '${ .rows }' }, { path: logo.png, content: iVBORw==, encoding: base64 } ]
  collect: [ sums.json, 'charts/*' ]
  output: execution""",
    "call activity": "call: activity\nwith: { name: Charge, arguments: [ '${ .order }' ], taskQueue: billing }",
    "call human_input": "call: human_input\nwith: { message: Go?, outcomes: [ 'yes', 'no' ], form: { document: { type: object } }, assignees: [ a@b.c ] }",
    "call function": "call: getPet\nwith: { petId: 69 }",
    "emit": "emit: { event: { with: { source: https://x.y, type: a.b, data: { x: '${ . }' }, traceparent: abc } } }",
    "for": "for: { each: pet, in: .pets, at: i }\nwhile: $pet.ok and $i < 5\ndo: [ { x: { set: { n: '${ $pet.name }' } } } ]",
    "for inline": "for: { in: [ { a: 1 }, { a: 2 } ] }\ndo: [ { x: { set: { n: '${ $item.a + $index }' } } } ]",
    "fork": "fork: { compete: true, branches: [ { x: { set: { a: 1 } } }, { y: { do: [ { z: { set: { a: 2 } } } ] } } ] }",
    "listen one": "listen: { to: { one: { with: { type: a.b }, correlate: { room: { from: .room, expect: '${ $context.room }' } } } }, read: envelope }",
    "listen all": "listen: { to: { all: [ { with: { type: a } }, { with: { type: b } } ] } }",
    "listen any": """listen: { to: { any: [ { with: { type: a, data: '${ .t > 38 }' } } ], until: { one: { with: { type: done } } } } }
foreach: { item: event, at: i, do: [ { z: { set: { e: '${ $event }' } } } ], output: { as: '$event.x' }, export: { as: '. + $i' } }""",
    "listen until": "listen: { to: { any: [], until: '( . | length ) > 3' } }",
    "raise": "raise: { error: { type: https://x.y/e, status: 400, title: T, detail: '${ .d }', instance: /do/0 } }",
    "raise reference": "raise: { error: bad }",
    "run container": """run:
  container:
    image: alpine
    name: ${ "c-\\($task.name)" }
    command: echo
    ports: { '80': 8080 }
    volumes: { /a: /b }
    environment: { A: '${ .a }' }
    stdin: ${ . }
    arguments: [ a ]
    lifetime: { cleanup: eventually, after: { minutes: 30 } }
    pullPolicy: always
  await: false
  return: all""",
    "run script": "run: { script: { language: python, code: 'print(1)', stdin: '${ . }', arguments: [ a ], environment: { A: 1 } } }",
    "run script source": "run: { script: { language: js, source: { endpoint: https://x.y/s.js } } }",
    "run shell": "run: { shell: { command: 'echo $1', arguments: [ a ], stdin: x, environment: { A: b } }, return: code }",
    "run workflow": "run: { workflow: { namespace: n, name: w, version: '0.1.0', input: { a: '${ .a }' } } }",
    "switch": "switch: [ { a: { when: .x == 1, then: exit } }, { b: { then: continue } } ]",
    "try": """try: [ { x: { raise: { error: bad } } } ]
catch:
  errors: { with: { type: https://x.y/bad, status: 400 } }
  as: problem
  when: $problem.status == 400
  exceptWhen: $problem.title == "no"
  retry:
    when: $problem.status > 1
    exceptWhen: 'false'
    delay: { seconds: 3 }
    backoff: { exponential: {} }
    limit: { attempt: { count: 5, duration: PT1M }, duration: PT5M }
    jitter: { from: { milliseconds: 1 }, to: PT1S }
  do: [ { y: { set: { e: '${ $problem }' } } } ]
  then: end""",
    "try retry reference": "try: [ { x: { set: { a: 1 } } } ]\ncatch: { retry: often }",
    "wait": "wait: { days: 1, hours: 2, minutes: 3, seconds: 4, milliseconds: 5 }",
    "wait text": "wait: P3DT4H5M6S",
    "wait expression": "wait: ${ .delay }",
}  # fmt: skip

USE = """use:
  authentications: { policy: { bearer: { token: '${ $secrets.TOKEN }' } } }
  errors: { bad: { type: https://x.y/bad, status: 400 } }
  retries: { often: { delay: PT1S, backoff: { constant: {} } } }
  functions: { getPet: { call: http, with: { method: get, endpoint: 'https://x.y/{petId}' } } }
  timeouts: { short: { after: PT5S } }
  secrets: [ mySecret, TOKEN ]
"""


def indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())


def workflow_of(text: str) -> str:
    return f"{USE}do:\n  - task:\n{indented(text, 6)}\n"


@pytest.mark.requirement(
    "task.kinds", "call.http", "call.grpc", "call.openapi", "call.asyncapi", "call.a2a", "call.mcp"
)
@pytest.mark.requirement(
    "call.own", "for.inline", "fork", "listen", "emit", "raise", "run.processes", "set", "try.retry", "wait"
)
@pytest.mark.requirement("trusted", "endpoint", "use.functions")
@pytest.mark.parametrize("name", TASKS)
def test_every_kind_of_task_is_read_and_written_back(document: Callable[[str], str], name: str) -> None:
    workflow = parse(document(workflow_of(TASKS[name])))
    kind = describe(workflow.do[0].task)
    assert name == kind or name.startswith(kind + " ")
    written = workflow.to_dict()
    again = load_trusted(written)
    assert again == workflow
    assert again.to_dict() == written


def test_a_workflow_is_written_as_it_was_read(document: Callable[[str], str]) -> None:
    body = """do:
  - a:
      if: .ok
      call: http
      with: { method: get, endpoint: https://x.y }
      export: { as: $context + . }
      then: b
  - b: { switch: [ { x: { when: .a, then: end } } ] }
"""
    written = parse(document(body)).to_dict()["do"]
    assert written == [
        {
            "a": {
                "if": ".ok",
                "call": "http",
                "with": {"method": "get", "endpoint": "https://x.y"},
                "export": {"as": "$context + ."},
                "then": "b",
            }
        },
        {"b": {"switch": [{"x": {"when": ".a", "then": "end"}}]}},
    ]


@pytest.mark.requirement("task.common", "document.header")
def test_common_fields_of_tasks_and_workflows_are_read(document: Callable[[str], str]) -> None:
    body = """input: { schema: { document: { type: object } }, from: .order }
output: { as: { id: '${ .id }' }, schema: { format: json, document: true } }
timeout: { after: { minutes: 1 } }
evaluate: { mode: loose }
use: { timeouts: { short: { after: PT5S } } }
do:
  - a:
      if: ${ .ok }
      input: { from: { x: '${ .y }' } }
      output: { as: .z }
      export: { as: '$context + .', schema: { resource: { endpoint: https://x.y/s.json } } }
      timeout: short
      then: end
      metadata: { anything: [ 1 ] }
      set: { a: 1 }
"""
    workflow = parse(document(body))
    task = workflow.do[0].task
    assert (task.if_, task.timeout, task.then, task.metadata) == ("${ .ok }", "short", "end", {"anything": [1]})
    assert workflow.evaluate.mode == "loose"
    assert workflow.input is not None
    assert workflow.input.from_ == ".order"


@pytest.mark.requirement("for.variables", "try.catch", "run.processes", "fork")
def test_defaults_are_those_of_the_specification(document: Callable[[str], str]) -> None:
    workflow = parse(
        document(
            """do:
  - a: { for: { in: .x }, do: [ { b: { set: { n: '${ [$item, $index] }' } } } ] }
  - c: { try: [ { d: { set: { n: 1 } } } ], catch: {} }
  - e: { run: { shell: { command: ls } } }
  - f: { listen: { to: { any: [] } } }
  - g: { call: http, with: { method: get, endpoint: https://x.y } }
"""
        )
    )
    loop, attempt, run, listen, call = (item.task for item in workflow.do)
    assert isinstance(loop, ForTask)
    assert (loop.for_.each, loop.for_.at) == ("item", "index")
    assert isinstance(attempt, TryTask)
    assert attempt.catch.as_ == "error"
    assert isinstance(run, RunTask)
    assert (run.run.await_, run.run.return_) == (True, "stdout")
    assert isinstance(listen, ListenTask)
    assert (listen.listen.read, listen.listen.to.strategy, listen.listen.to.filters) == ("data", "any", ())
    assert isinstance(call, CallHttpTask)
    assert (call.with_.output, call.with_.redirect) == ("content", False)


@pytest.mark.requirement("for.variables", "try.catch")
@pytest.mark.parametrize(
    ("task", "right"),
    [
        ("for: { each: x, in: .a }\ndo: [ { b: { set: { n: '${ $x }' } } } ]", True),
        ("for: { each: x, in: .a }\nwhile: $x > 1\ndo: [ { b: { set: { n: 1 } } } ]", True),
        ("for: { each: x, in: .a }\noutput: { as: $x }\ndo: [ { b: { set: { n: 1 } } } ]", False),
        ("try: [ { a: { set: { n: '${ $error }' } } } ]\ncatch: {}", False),
        ("try: [ { a: { set: { n: 1 } } } ]\ncatch: { do: [ { b: { do: [ { c: { set: { n: '${ $error }' } } } ] } } ] }", True),
        ("try: [ { a: { set: { n: 1 } } } ]\ncatch: { as: e, retry: { when: $e.status == 503 } }", True),
        ("listen: { to: { any: [] } }\nforeach: { item: e, do: [ { a: { set: { n: '${ $e }' } } } ] }", True),
        ("listen: { to: { any: [] } }\noutput: { as: $item }\nforeach: { do: [ { a: { set: { n: 1 } } } ] }", False),
    ],
)  # fmt: skip
def test_variables_exist_where_the_specification_says(document: Callable[[str], str], task: str, right: bool) -> None:
    text = document(f"do:\n  - task:\n{indented(task, 6)}\n")
    if right:
        assert parse(text)
    else:
        with pytest.raises(InvalidDocumentError) as caught:
            parse(text)
        assert [problem.code for problem in caught.value.problems] == ["expression.unknown-variable"]


@pytest.mark.requirement("use.extensions")
def test_extensions_are_read_and_checked(document: Callable[[str], str]) -> None:
    body = """use:
  extensions:
    - log:
        extend: all
        when: $task.call == "http"
        before: [ { a: { set: { m: '${ "Executing \\($task.reference)" }' }, then: exit } } ]
        after: [ { b: { set: { m: 1 } } } ]
do: [ { a: { wait: PT1S } } ]
"""
    extension = parse(document(body)).use.extensions[0]
    assert (extension.name, extension.extension.extend) == ("log", "all")
    with pytest.raises(InvalidDocumentError, match="/use/extensions/0/log/before/0/a/then: no task named 'b'"):
        parse(document(body.replace("exit", "b")))


@pytest.mark.requirement("schedule")
@pytest.mark.parametrize(
    "schedule",
    [
        "every: { minutes: 5 }",
        "cron: '*/5 0-12 1,15 jan-mar MON'",
        "cron: '@daily'",
        "after: PT1H",
        "on: { one: { with: { type: a } } }\n  read: envelope",
        "on: { any: [] }",
    ],
)
def test_every_schedule_is_read(document: Callable[[str], str], schedule: str) -> None:
    assert parse(document(f"schedule:\n  {schedule}\ndo: [ {{ a: {{ wait: PT1S }} }} ]\n")).schedule is not None


@pytest.mark.requirement("authentication", "use.secrets")
@pytest.mark.parametrize(
    ("policy", "right"),
    [
        ("basic: { username: u, password: p }", True),
        ("basic: { use: mySecret }", True),
        ("bearer: { token: '${ .t }' }", True),
        ("digest: { use: mySecret }", True),
        ("oauth2: { authority: https://x.y, grant: client_credentials, client: { id: i, secret: s }, scopes: [ a ], endpoints: { token: /t } }", True),
        ("oauth2: { use: mySecret }", True),
        ("oidc: { authority: https://x.y, grant: password, username: u, password: p, request: { encoding: application/json } }", True),
        ("use: policy", True),
        ("basic: { username: u }", False),
        ("bearer: {}", False),
        ("basic: { use: mySecret }, bearer: { token: t }", False),
        ("oauth2: { authority: https://x.y, grant: implicit }", False),
        ("oidc: { authority: https://x.y, grant: password, endpoints: {} }", False),
        ("use: nope", False),
        ("bearer: { use: notDeclared }", False),
    ],
)  # fmt: skip
def test_authentication_is_one_complete_scheme(document: Callable[[str], str], policy: str, right: bool) -> None:
    endpoint = f"{{ uri: https://x.y, authentication: {{ {policy} }} }}"
    text = document(f"{USE}do:\n  - a: {{ call: http, with: {{ method: get, endpoint: {endpoint} }} }}\n")
    if right:
        assert parse(text)
    else:
        with pytest.raises(InvalidDocumentError):
            parse(text)


@pytest.mark.requirement("run.lifetime", "event.filter")
@pytest.mark.parametrize(
    ("task", "right"),
    [
        ("run: { container: { image: a, lifetime: { cleanup: eventually, after: PT1M } } }", True),
        ("run: { container: { image: a, lifetime: { cleanup: always } } }", True),
        ("run: { container: { image: a, lifetime: { cleanup: eventually } } }", False),
        ("run: { container: { image: a, lifetime: { cleanup: never, after: PT1M } } }", False),
        ("listen: { to: { one: { with: { mine: x } } } }", True),
        ("listen: { to: { one: { with: {} } } }", False),
        ("call: asyncapi\nwith: { document: { endpoint: x }, operation: o }", False),
        ("call: a2a\nwith: { method: message/send }", False),
        ("try: [ { x: { set: { a: 1 } } } ]\ncatch: { retry: { backoff: { linear: {}, constant: {} } } }", False),
    ],
)
def test_fields_that_depend_on_each_other_are_checked(document: Callable[[str], str], task: str, right: bool) -> None:
    text = document(f"do:\n  - task:\n{indented(task, 6)}\n")
    if right:
        assert parse(text)
    else:
        with pytest.raises(InvalidDocumentError):
            parse(text)


@pytest.mark.requirement("use.functions")
@pytest.mark.parametrize("call", ["getPet", "'log:0.5.2@global'", "'f:1@default'", "https://x.y/function.yaml"])
def test_functions_come_from_the_document_a_catalog_or_a_uri(document: Callable[[str], str], call: str) -> None:
    use = USE + "  catalogs: { global: { endpoint: https://x.y } }\n"
    assert parse(document(f"{use}do: [ {{ a: {{ call: {call} }} }} ]\n"))


@pytest.mark.requirement("model.frozen")
def test_a_workflow_cannot_be_changed(document: Callable[[str], str]) -> None:
    workflow = parse(document("do: [ { a: { wait: PT1S } } ]\n"))
    with pytest.raises(ValidationError, match="frozen"):
        workflow.do = ()
    task = next(iter(workflow.do)).task
    assert isinstance(task, WaitTask)
    with pytest.raises(ValidationError, match="frozen"):
        task.wait = "PT2S"


def test_inner_lists_are_found_with_their_pointers(document: Callable[[str], str]) -> None:
    found = {
        name: [pointer for pointer, _ in inner_lists(parse(document(workflow_of(text))).do[0].task)]
        for name, text in TASKS.items()
    }
    assert {name: pointers for name, pointers in found.items() if pointers} == {
        "do": ["/do"],
        "for": ["/do"],
        "for inline": ["/do"],
        "fork": ["/fork/branches"],
        "try": ["/try", "/catch/do"],
        "try retry reference": ["/try"],
        "listen any": ["/foreach/do"],
        "call asyncapi subscribe": ["/with/subscription/foreach/do"],
    }


def test_an_agent_call_has_the_limits_of_the_contract(document: Callable[[str], str]) -> None:
    text = document(f"{USE}do:\n  - a:\n{indented(TASKS['call agent'], 6)}\n")
    task = parse(text).do[0].task
    assert isinstance(task, CallAgentTask)
    assert task.with_.scope == "platform"
    for change in (("agent: reviewer", f"agent: {'a' * 64}"), ("0.5", "1.5"), ("timeout: 60", "timeout: 3601")):
        with pytest.raises(InvalidDocumentError):
            parse(text.replace(*change))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("in/rows.json", "../rows.json", "leads to no file of a workspace"),
        ("in/rows.json", "/rows.json", "leads to no file of a workspace"),
        ("in/rows.json", ".Stigmer/rows.json", "leads to no file of a workspace"),
        ("in/rows.json", "in//rows.json", "leads to no file of a workspace"),
        ("encoding: base64", "encoding: zip", "must be one of text, json, base64"),
        (", content: iVBORw==", "", "needs `content`"),
        ("output: execution", "output: content", "goes with `output: execution` only"),
        ("[ sums.json, 'charts/*' ]", "[]", "needs at least one entry"),
        (
            "[ { path: in/rows.json, content: '${ .rows }' }",
            "some text #",
            "must be one expression, ${ … }, if it is a text",
        ),
    ],
)
def test_files_of_an_agent_call_lead_into_its_workspace(
    document: Callable[[str], str], old: str, new: str, said: str
) -> None:
    text = document(f"{USE}do:\n  - a:\n{indented(TASKS['call agent'], 6)}\n")
    assert old in text
    with pytest.raises(InvalidDocumentError, match=re.escape(said)):
        parse(text.replace(old, new))


def test_the_default_of_a_question_is_one_of_its_outcomes(document: Callable[[str], str]) -> None:
    text = document(f"do:\n  - a:\n{indented(TASKS['call human_input'], 6)}\n")
    given = "outcomes: [ 'yes', 'no' ]"
    assert given in text
    for outcome in ("'no'", "'${ .fallback }'"):
        parse(text.replace(given, f"{given}, deadline: PT1H, default: {outcome}"))
    with pytest.raises(InvalidDocumentError, match="'maybe' is none of the outcomes: yes, no"):
        parse(text.replace(given, f"{given}, deadline: PT1H, default: maybe"))
    with pytest.raises(InvalidDocumentError, match="which goes with `deadline` only"):
        parse(text.replace(given, f"{given}, default: 'no'"))


def test_trusted_loading_checks_structure() -> None:
    with pytest.raises(ValidationError):
        load_trusted({"document": {}, "do": []})
