from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from stigmer_cli.manifests import Manifest, load
from stigmer_cli.manifests.files import File

AGENT = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: release-notes}
spec:
  instructions: Read the merged changes and write short notes.
"""
PLAIN = """\
document: {dsl: 1.0.0, namespace: docs, name: greet, version: 1.0.0}
do:
  - hello:
      set: {greeting: hello}
"""


def read(text: str, *, name: str = "file.yaml", org: str = "") -> tuple[list[Manifest], list[str]]:
    manifests, problems = load([File(name=name, text=dedent(text))], org=org)
    return manifests, [str(problem) for problem in problems]


def sound(text: str, **options: Any) -> Manifest:
    manifests, problems = read(text, **options)
    assert problems == []
    assert len(manifests) == 1
    return manifests[0]


def test_a_manifest_becomes_a_message_with_its_defaults() -> None:
    message = sound(AGENT).message
    assert message.metadata.name == "release-notes"
    assert message.metadata.org == "local"
    assert message.metadata.owner_scope == 2
    assert message.api_version == "agentic.stigmer.ai/v1"


def test_the_organization_can_be_given_and_the_manifests_own_wins() -> None:
    assert sound(AGENT, org="acme").org == "acme"
    assert sound(AGENT.replace("{name: ", "{org: mine, name: "), org="acme").org == "mine"


def test_camel_case_and_snake_case_mean_the_same() -> None:
    camel = AGENT + "  mcpServers: [{name: files, stdio: {command: cat, envPlaceholders: {A: b}}}]\n"
    snake = AGENT + "  mcp_servers: [{name: files, stdio: {command: cat, env_placeholders: {A: b}}}]\n"
    assert sound(camel).message == sound(snake).message


@pytest.mark.parametrize("spelling", ["Workflow", "workflow", "wf", "workflows"])
def test_the_kind_may_be_spelt_short(spelling: str) -> None:
    text = f"kind: {spelling}\nmetadata: {{name: x}}\nspec:\n  definition: |\n" + "".join(
        f"    {line}\n" for line in PLAIN.splitlines()
    )
    assert sound(text).kind.name == "Workflow"


def test_a_plain_document_becomes_a_workflow_with_its_exact_text() -> None:
    text = "# a comment\n" + PLAIN + "\n# the end\n"
    manifest = sound(text)
    assert (manifest.kind.name, manifest.name, manifest.org) == ("Workflow", "greet", "local")
    assert manifest.message.spec.definition == text
    assert manifest.definition is not None


def test_each_document_of_a_file_keeps_its_own_text() -> None:
    second = PLAIN.replace("greet", "part")
    manifests, problems = read(f"# first\n{PLAIN}--- # second\n{second}---\n{AGENT}---\n")
    assert problems == []
    texts = {
        manifest.name: manifest.message.spec.definition for manifest in manifests if manifest.kind.name == "Workflow"
    }
    assert texts == {"greet": f"# first\n{PLAIN}", "part": f"# second\n{second}"}


def test_what_others_refer_to_comes_first() -> None:
    environment = "kind: Environment\nmetadata: {name: staging}\nspec: {data: {REGION: {value: eu}}}\n"
    manifests, problems = read(f"{PLAIN}---\n{AGENT}---\n{environment}")
    assert problems == []
    assert [manifest.kind.name for manifest in manifests] == ["Environment", "Agent", "Workflow"]


def test_every_problem_is_told_at_once_with_its_place() -> None:
    _, problems = read(
        """\
        kind: Agent
        metadata:
          name: 7
          owner_scope: everyone
        spec:
          instruction: Read the merged changes.
          mcp_servers: [{name: a, stdio: [1]}]
        ---
        kind: Agnet
        metadata: {name: x}
        ---
        metadata: {name: y}
        ---
        just a text
        """
    )
    assert problems == [
        'file.yaml:3:3: /metadata/name: expected a text, got the number 7 (write it in quotes: "7")',
        "file.yaml:4:3: /metadata/owner_scope: ApiResourceOwnerScope has no value 'everyone'"
        " (values: platform, organization, identity_account)",
        "file.yaml:6:3: /spec/instruction: AgentSpec has no field 'instruction' (did you mean `instructions`?)",
        "file.yaml:7:27: /spec/mcp_servers/0/stdio: expected an object, got a list",
        "file.yaml:9:1: /kind: there is no kind of resource called 'Agnet' (did you mean `Agent`?)",
        "file.yaml:12:1: /kind: it does not say what it is"
        " (write `kind: Workflow`, `kind: Agent` …, or `document: {dsl: …}` for a plain workflow)",
        "file.yaml:14:1: /: a resource is an object, with `kind:` or `document:`",
    ]


def test_rules_of_the_contract_are_told_at_the_field_that_breaks_them() -> None:
    _, problems = read(
        """\
        apiVersion: v1
        kind: Agent
        metadata: {name: x}
        spec:
          instructions: too short
          subAgents:
            - name: helper
              instructions: short
        """
    )
    places = [problem.split(": ")[:2] for problem in problems]
    assert ["file.yaml:1:1", "/apiVersion"] in places
    assert ["file.yaml:5:3", "/spec/instructions"] in places
    assert ["file.yaml:8:7", "/spec/subAgents/0/instructions"] in places


def test_what_an_agent_says_by_itself_is_held_against_all_of_it() -> None:
    _, problems = read(
        """\
        kind: Agent
        metadata: {name: x}
        spec:
          instructions: You answer questions.
          model: opnai:gpt-5
          approvalPolicies:
            - {tool: exceute}
          subAgents:
            - {name: helper, instructions: You are a helper., mcpServers: [shop]}
            - {name: helper, instructions: You are another one.}
        """
    )
    told = sorted(problem.rpartition(": ")[0].split(":")[1] + problem.split(": ")[1] for problem in problems)
    assert told == [
        "10/spec/subAgents/1/name",
        "5/spec/model",
        "7/spec/approvalPolicies/0/tool",
        "9/spec/subAgents/0/mcpServers/0",
    ]


def test_a_missing_field_is_named_at_what_should_hold_it() -> None:
    _, problems = read("kind: WorkflowInstance\nmetadata: {name: x}\nspec: {description: y}\n")
    assert problems == [f"file.yaml:3:1: /spec: workflow_id: {problems[0].rpartition(': ')[2]}"]


def test_a_problem_of_a_plain_document_is_told_at_its_place() -> None:
    _, problems = read(AGENT + "---\n" + PLAIN.replace("hello}", '"${ .a + }"}'))
    assert len(problems) == 1
    assert problems[0].startswith("file.yaml:10:23:")
    assert "/do/0/hello/set/greeting" in problems[0]


def test_a_problem_inside_a_definition_is_told_at_its_place_in_the_manifest() -> None:
    inner = "".join(f"    {line}\n" for line in PLAIN.replace("set:", "sett:").splitlines())
    _, problems = read(f"kind: Workflow\nmetadata: {{name: x}}\nspec:\n  definition: |\n{inner}")
    assert problems
    assert all(problem.startswith(("file.yaml:7:", "file.yaml:8:")) for problem in problems)


def test_tasks_of_a_manifest_are_compiled_and_their_problems_placed() -> None:
    text = """\
        kind: Workflow
        metadata: {name: x}
        spec:
          document: {dsl: 1.0.0, namespace: docs, name: x, version: 1.0.0}
          tasks:
            - name: choose
              kind: switch
              task_config: {cases: [{name: a, when: "${ .a + }", then: end}]}
        """
    _, problems = read(text)
    assert len(problems) == 1
    assert problems[0].startswith("file.yaml:8:")
    assert sound(text.replace(" + }", " }")).definition is not None


@pytest.mark.parametrize("spelling", ["switch_case", "switch", "SWITCH", "WORKFLOW_TASK_KIND_SWITCH"])
def test_the_kind_of_a_task_may_be_spelt_short(spelling: str) -> None:
    manifest = sound(
        f"""\
        kind: Workflow
        metadata: {{name: x}}
        spec:
          document: {{dsl: 1.0.0, namespace: docs, name: x, version: 1.0.0}}
          tasks:
            - name: choose
              kind: {spelling}
              task_config: {{cases: [{{name: a, then: end}}]}}
        """
    )
    assert manifest.message.spec.tasks[0].kind == 5


@pytest.mark.parametrize("kind", ["transform", "TRANSFORM", "WORKFLOW_TASK_KIND_TRANSFORM", "1004"])
def test_a_function_of_the_language_is_a_kind_of_task(kind: str) -> None:
    _, problems = read(
        f"""\
        kind: Workflow
        metadata: {{name: x}}
        spec:
          document: {{dsl: 1.0.0, namespace: docs, name: x, version: 1.0.0}}
          tasks:
            - name: shape
              kind: {kind}
              task_config: {{as: 5}}
        """
    )
    assert [problem.partition(": must")[0] for problem in problems] == ["file.yaml:8:21: /spec/tasks/0/task_config/as"]


def test_a_field_that_is_unknown_is_told_once() -> None:
    text = """\
        kind: Workflow
        metadata: {name: x}
        spec:
          document: {dsl: 1.0.0, namespace: docs, name: x, version: 1.0.0}
          tasks:
            - name: choose
              kind: switch
              task_config: {cases: []}
              flw: {then: end}
        """
    _, problems = read(text)
    assert [problem.partition(": /")[2].partition(":")[0] for problem in problems] == [
        "spec/tasks/0/flw",
        "spec/tasks/0/task_config/cases",
    ]


def test_a_definition_in_a_manifest_may_use_the_secrets_that_the_manifest_declares() -> None:
    text = """\
        kind: Workflow
        metadata: {name: x}
        spec:
          env_spec: {data: {TOKEN: {is_secret: true}}}
          definition: |
            document: {dsl: 1.0.0, namespace: docs, name: x, version: 1.0.0}
            do:
              - ask:
                  set: {token: "${ $secrets.TOKEN }"}
        """
    assert sound(text).definition is not None


@pytest.mark.requirement("problems.unsupported")
def test_what_the_runner_cannot_run_is_refused_at_its_place() -> None:
    endpoint = "{uri: 'http://x/', authentication: {oauth2: {authority: 'http://x', grant: authorization_code}}}"
    _, problems = read(f"{PLAIN}  - ask:\n      call: http\n      with: {{method: get, endpoint: {endpoint}}}\n")
    assert [problem.partition(" (")[0].partition(";")[0] for problem in problems] == [
        "file.yaml:7:105: /do/1/ask/with/endpoint/authentication/oauth2/grant: "
        "the grant authorization_code needs a person at a browser"
    ]
    _, problems = read(
        f"""\
        kind: Workflow
        metadata: {{name: x}}
        spec:
          document: {{dsl: 1.0.0, namespace: docs, name: x, version: 1.0.0}}
          tasks:
            - {{name: pause, kind: wait, task_config: {{seconds: 1}}}}
            - name: ask
              kind: http_call
              task_config: {{method: GET, endpoint: {endpoint}}}
        """
    )
    assert [problem.partition(";")[0] for problem in problems] == [
        "file.yaml:9:112: /spec/tasks/1/task_config/endpoint/authentication/oauth2/grant: "
        "the grant authorization_code needs a person at a browser"
    ]


def test_two_declarations_of_one_resource_are_refused() -> None:
    _, problems = read(f"{AGENT}---\n{AGENT}")
    assert problems == ["file.yaml:7:1: /: the agent 'release-notes' is declared twice (first at file.yaml:1)"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_a_file_without_a_resource_is_a_problem(text: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1


def test_status_of_a_resource_that_was_printed_is_ignored() -> None:
    assert sound(AGENT + "status: {default_instance_id: ain-1}\n").message.status.default_instance_id == ""
