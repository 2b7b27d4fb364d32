"""Workflows: checked when they are stored, and their input and variables when they are run."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stigmer_grpc import FieldViolation, InvalidArgumentError

from stigmer_server.testing import Api, manifest, unchanged

Make = Callable[..., Awaitable[Any]]
VALID = 2
DOCUMENT = {"dsl": "1.0.0", "namespace": "tests", "name": "by-tasks", "version": "0.1.0"}
GREET = {"name": "greet", "kind": "WORKFLOW_TASK_KIND_SET", "taskConfig": {"variables": {"greeting": "hello"}}}


def text(*, schema: str = "", do: str = "- greet: {set: {greeting: hello}}") -> str:
    return f"""# A comment that must survive.
document: {{dsl: 1.0.0, namespace: tests, name: by-text, version: 0.2.0, summary: Greets}}
{schema}
do:
  {do}
"""


NOTHING: list[dict[str, Any]] = [{}, {"input": {}}]
SCHEMA = """
input:
  schema:
    format: json
    document:
      type: object
      required: [name]
      properties:
        name: {type: string, minLength: 2}
        ages: {type: array, items: {type: integer}}
"""


async def violations(call: Awaitable[Any]) -> tuple[FieldViolation, ...]:
    with pytest.raises(InvalidArgumentError) as caught:
        await call
    return caught.value.violations


async def create(api: Api, name: str = "Flow", **spec: Any) -> Any:
    return await api("workflow", "create", manifest("workflow", name, spec))


async def run(api: Api, workflow: Any, **spec: Any) -> Any:
    content = {"workflowId": workflow.metadata.id, **spec}
    name = f"run {os.urandom(4).hex()}"
    return await api("workflow_execution", "create", manifest("workflow_execution", name, content))


async def test_a_definition_is_kept_byte_for_byte_and_fills_the_document(local: Api) -> None:
    made = await create(local, definition=text())
    assert made.spec.definition == text()
    document = made.spec.document
    assert (document.dsl, document.namespace, document.name) == ("1.0.0", "tests", "by-text")
    assert (document.version, document.description) == ("0.2.0", "Greets")
    validation = made.status.serverless_workflow_validation
    assert (validation.state, validation.yaml) == (VALID, text())
    assert validation.validated_at.seconds > 0


@pytest.mark.requirement("problems.doubts")
async def test_what_is_hardly_meant_is_recorded_and_goes_with_the_definition(local: Api) -> None:
    made = await create(local, definition=text().replace("\ndo:", "\ndo:\n  - odd: {set: {x: 'Hello ${ .a }'}}", 1))
    (warning,) = made.status.serverless_workflow_validation.warnings
    assert warning.startswith("/do/0/odd/set/x: `${ }` inside a longer text is left as it is")
    made.spec.definition = text()
    changed = await local("workflow", "update", made)
    assert list(changed.status.serverless_workflow_validation.warnings) == []


@pytest.mark.requirement("problems.stored")
async def test_tasks_are_compiled_and_shown_as_a_document(local: Api) -> None:
    made = await create(local, document=DOCUMENT, tasks=[GREET])
    validation = made.status.serverless_workflow_validation
    assert validation.state == VALID
    assert "greeting: hello" in validation.yaml


@pytest.mark.requirement("problems.stored")
@pytest.mark.parametrize("verb", ["create", "apply", "update"])
async def test_every_problem_of_a_definition_is_told_with_its_place(local: Api, verb: str) -> None:
    await create(local, "Flow", definition=text())
    wrong = text(do="- jump: {set: {a: 1}, then: nowhere}\n  - call: {call: http, with: {method: GET}}")
    name = "Flow" if verb != "create" else "New"
    found = await violations(local("workflow", verb, manifest("workflow", name, {"definition": wrong})))
    assert len(found) >= 2
    assert {violation.field for violation in found} == {"spec.definition"}
    assert any("nowhere" in violation.message for violation in found)
    assert all(violation.message.startswith("spec.definition:") for violation in found)
    stored = await local("workflow", "getByReference", {"slug": "flow"})
    assert stored.spec.definition == text()


async def test_a_definition_that_is_no_yaml_is_told_with_its_place(local: Api) -> None:
    found = await violations(create(local, definition="document: [1"))
    assert found[0].field == "spec.definition"
    assert found[0].message.startswith("spec.definition:1:")


async def test_every_problem_of_tasks_is_told_with_its_field(local: Api) -> None:
    broken = {**GREET, "name": "broken", "taskConfig": {"variables": {"a": "${ .x | }"}}, "flow": {"then": "nowhere"}}
    call = {"name": "call", "kind": "WORKFLOW_TASK_KIND_HTTP_CALL", "taskConfig": {"method": "GET"}}
    found = await violations(create(local, document=DOCUMENT, tasks=[GREET, broken, call]))
    assert {violation.field: violation.rule_id for violation in found} == {
        "spec.tasks[1].flow.then": "dsl.then-target",
        "spec.tasks[1].task_config.variables.a": "expression.syntax",
        "spec.tasks[2].task_config": "dsl.missing-field",
    }


async def test_a_workflow_is_a_definition_or_a_document_with_tasks(local: Api) -> None:
    rules = {violation.rule_id for violation in await violations(create(local, description="nothing"))}
    assert rules == {"workflow_spec.document.required", "workflow_spec.tasks.required"}


async def test_an_input_schema_that_is_no_schema_is_invalid(local: Api) -> None:
    await violations(create(local, definition=text(schema="input: {schema: {document: {type: nonsense}}}")))


async def test_the_input_of_a_run_is_held_against_the_schema(local: Api) -> None:
    workflow = await create(local, definition=text(schema=SCHEMA))
    assert (await run(local, workflow, input={"name": "Ada", "ages": [3]})).metadata.id
    found = await violations(run(local, workflow, input={"name": "A", "ages": [1, "x", 2.5]}))
    assert {violation.field: violation.rule_id for violation in found} == {
        "spec.input.name": "input.minLength",
        "spec.input.ages[1]": "input.type",
        "spec.input.ages[2]": "input.type",
    }
    for nothing in NOTHING:
        found = await violations(run(local, workflow, **nothing))
        assert [(violation.field, violation.rule_id) for violation in found] == [("spec.input", "input.required")]


async def test_a_regular_expression_that_runs_away_ends_the_check_of_an_input(local: Api) -> None:
    from stigmer_grpc import FailedPreconditionError

    schema = "input: {schema: {document: {properties: {a: {type: string, pattern: '^(a+)+$'}}}}}"
    workflow = await create(local, definition=text(schema=schema))
    assert (await run(local, workflow, input={"a": "aaa"})).metadata.id
    with pytest.raises(FailedPreconditionError, match="matching a text against"):
        await run(local, workflow, input={"a": "a" * 50 + "!"})


async def test_the_trigger_is_part_of_the_input(local: Api) -> None:
    schema = "input: {schema: {document: {type: object, required: [message]}}}"
    workflow = await create(local, definition=text(schema=schema))
    assert (await run(local, workflow, triggerMessage="go")).metadata.id
    await violations(run(local, workflow))


async def test_a_schema_that_points_outside_is_not_fetched(local: Api) -> None:
    schema = 'input: {schema: {document: {$ref: "http://127.0.0.1:1/schema.json"}}}'
    from stigmer_grpc import FailedPreconditionError

    workflow = await create(local, definition=text(schema=schema))
    with pytest.raises(FailedPreconditionError, match="schema"):
        await run(local, workflow, input={"a": 1})


async def test_a_run_needs_a_value_for_every_variable(local: Api, make: Make) -> None:
    declared = {"A": {"description": "needed"}, "B": {"isSecret": True}, "C": {"value": "given"}}
    workflow = await create(local, definition=text(), envSpec={"data": declared})
    found = await violations(run(local, workflow))
    assert {violation.field for violation in found} == {"spec.runtime_env[A]", "spec.runtime_env[B]"}
    assert (await local("workflow_execution", "list", {})).total_pages == 0
    await make(local, "environment", "prod", spec={"data": {"A": {"value": ""}}})
    reference = {"kind": "environment", "slug": "prod"}
    spec = {"workflowId": workflow.metadata.id, "envRefs": [reference]}
    instance = await local("workflow_instance", "create", manifest("workflow_instance", "prod", spec))
    spec = {"workflowInstanceId": instance.metadata.id, "runtimeEnv": {"B": {"value": "s3cret"}}}
    made = await local("workflow_execution", "create", manifest("workflow_execution", "with all", spec))
    assert made.spec.runtime_env["B"].is_secret
    assert made.spec.runtime_env["B"].value == "***REDACTED***"
    known = await local.runtime("getWorkflowRun", made.metadata.id)
    assert (list(known.secret_names), list(known.variable_names)) == (["B"], ["A", "C"])
    values = (await local.environment(made.metadata.id)).values
    assert {name: values[name].value for name in values} == {"A": "", "B": "s3cret", "C": "given"}


async def test_applying_the_same_workflow_writes_nothing(local: Api) -> None:
    sent = manifest("workflow", "Same", {"definition": text()})
    first = await local("workflow", "apply", sent)
    assert await local("workflow", "apply", sent) == unchanged(first)
    sent["spec"]["definition"] = text(do="- other: {set: {a: 1}}")
    changed = await local("workflow", "apply", sent)
    assert changed.metadata.version.id == "2"
    assert changed.status.serverless_workflow_validation.yaml == sent["spec"]["definition"]
    assert changed.status.default_instance_id == first.status.default_instance_id


async def test_whole_numbers_stay_whole_in_what_people_read(local: Api) -> None:
    tasks = [{"name": "pause", "kind": "WORKFLOW_TASK_KIND_WAIT", "taskConfig": {"seconds": 3}}]
    made = await create(local, document=DOCUMENT, tasks=tasks)
    assert "3.0" not in made.status.serverless_workflow_validation.yaml
    record = await local.app.resources.store.get("workflow", made.metadata.id)
    assert '"seconds":3}' in record.data
