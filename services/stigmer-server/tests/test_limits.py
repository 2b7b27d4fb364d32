"""What metadata may be, how deep values may nest, and how large a resource may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError, ResourceExhaustedError

from stigmer_server import limits
from stigmer_server.kinds import registry
from stigmer_server.testing import Api, manifest

Make = Callable[..., Awaitable[Any]]
AGENT = {"instructions": "Answer every question in one sentence."}
WITH_SCHEMA = """
document: {dsl: 1.0.0, namespace: tests, name: flow, version: 0.1.0}
input: {schema: {document: {type: object}}}
do:
  - a: {set: {b: 1}}
"""
LONGEST = limits.NAME - len("-default")


async def refused(api: Api, verb: str, request: Any, kind: str = "agent") -> dict[str, str]:
    with pytest.raises(InvalidArgumentError) as caught:
        await api(kind, verb, request)
    return {violation.field: violation.rule_id for violation in caught.value.violations}


@pytest.mark.parametrize("verb", ["create", "apply", "update"])
async def test_every_broken_limit_is_told_with_its_field(local: Api, verb: str) -> None:
    sent = manifest(
        "agent",
        "n" * 300,
        AGENT,
        org="o" * 257,
        labels={"k" * 257: "v", "": "v", "fine": "x" * 1025, "control": "a\nb"},
        annotations={"nul": "a\0b", "new\x85line": "x"},
        tags=["t" * 257, "", "a\tb"],
        version={"message": "m" * 4097},
    )
    assert await refused(local, verb, sent) == {
        "metadata.name": "metadata.name.length",
        "metadata.org": "metadata.org.length",
        "metadata.version.message": "metadata.version.message.length",
        "metadata.tags[0]": "metadata.tags.length",
        "metadata.tags[1]": "metadata.tags.length",
        "metadata.tags[2]": "metadata.tags.characters",
        'metadata.labels[""]': "metadata.labels.length",
        f'metadata.labels["{"k" * 40}"]': "metadata.labels.length",
        'metadata.labels["fine"]': "metadata.labels.length",
        'metadata.labels["control"]': "metadata.labels.characters",
        'metadata.annotations["nul"]': "metadata.annotations.characters",
        'metadata.annotations["new\\u0085line"]': "metadata.annotations.characters",
    }
    assert (await local.list_all({"kind": "agent"})).total_count == 0


@pytest.mark.parametrize("number", [*range(0x09), *range(0x0A, 0x20), 0x7F, 0x80, 0x9F])
async def test_control_characters_are_no_part_of_a_name(local: Api, number: int) -> None:
    sent = manifest("agent", f"a{chr(number)}b", AGENT)
    assert await refused(local, "create", sent) == {"metadata.name": "metadata.name.characters"}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("labels", {f"k{number}": "v" for number in range(129)}),
        ("annotations", {f"k{number}": "v" for number in range(129)}),
        ("tags", [f"t{number}" for number in range(129)]),
    ],
)
async def test_there_are_not_too_many(local: Api, field: str, values: Any) -> None:
    broken = await refused(local, "create", manifest("agent", "many", AGENT, **{field: values}))
    assert broken == {f"metadata.{field}": f"metadata.{field}.count"}


@pytest.mark.parametrize("key", ["stigmer.tag/web", "stigmer.names/environment/prod"])
async def test_nobody_tags_or_names_a_resource_by_a_label(local: Api, key: str) -> None:
    sent = manifest("agent", "sample", AGENT, labels={key: "1"})
    assert await refused(local, "create", sent) == {f'metadata.labels["{key}"]': "metadata.labels.own"}
    assert (await local.list_all({"kind": "agent", "tags": ["web"]})).total_count == 0


async def test_annotations_have_a_size_together(local: Api) -> None:
    values = {f"k{number}": "ü" * 16 * 1024 for number in range(8)}
    broken = await refused(local, "create", manifest("agent", "large", AGENT, annotations=values))
    assert broken == {"metadata.annotations": "metadata.annotations.size"}


async def test_what_is_just_within_the_limits_is_taken_and_kept(local: Api) -> None:
    most: dict[str, Any] = {
        "labels": {f"{'k' * 250}{number:06}": "v" * limits.LABEL for number in range(limits.LABELS)},
        "annotations": {"text": "line\n\tand another\n" * 1000, "k" * limits.NAME: ""},
        "tags": [f"{'t' * 250}{number:06}" for number in range(limits.LABELS)],
        "version": {"message": "first\nversion"},
    }
    made = await local("agent", "create", manifest("agent", "n" * LONGEST, AGENT, **most))
    assert made.metadata.slug == "n" * LONGEST
    assert dict(made.metadata.labels) == most["labels"]
    assert dict(made.metadata.annotations) == most["annotations"]
    instance = await local("agent_instance", "get", {"value": made.status.default_instance_id})
    assert len(instance.metadata.name) == limits.NAME
    changed = await local("agent_instance", "update", instance)
    assert changed.metadata.version.id == "2"


@pytest.mark.parametrize("kind", sorted(set(registry()) & {"agent", "workflow"}))
async def test_a_name_leaves_room_for_its_default_instance(local: Api, make: Make, kind: str) -> None:
    assert (await make(local, kind, "n" * LONGEST)).status.default_instance_id
    spec = (await make(local, kind, "spec")).spec
    sent = manifest(kind, "n" * (LONGEST + 1), {})
    del sent["spec"]
    request = registry()[kind].type(api_version=sent["apiVersion"], kind=sent["kind"], spec=spec)
    request.metadata.name, request.metadata.owner_scope = sent["metadata"]["name"], 2
    assert await refused(local, "create", request, kind) == {"metadata.name": "metadata.name.length"}


def nested(depth: int, *, arrays: bool = False) -> Any:
    value: Any = {"leaf": 1}
    for _ in range(depth):
        value = {"a": [value]} if arrays else {"a": value}
    return value


@pytest.mark.parametrize(("depth", "arrays"), [(24, False), (14, True)])
async def test_what_nests_deep_can_be_read_everywhere(local: Api, make: Make, depth: int, arrays: bool) -> None:
    made = await make(local, "workflow_execution", spec={"input": nested(depth, arrays=arrays)})
    assert (await local("workflow_execution", "get", {"value": made.metadata.id})) == made
    listed = await local.list_all({"kind": "workflow_execution"})
    assert listed.entries[0]["spec"]["input"] == nested(depth, arrays=arrays)
    report = {"executionId": made.metadata.id, "status": {"output": nested(depth, arrays=arrays)}}
    assert (await local("workflow_execution", "updateStatus", report)).status.output == nested(depth, arrays=arrays)


@pytest.mark.parametrize(("depth", "arrays"), [(25, False), (15, True), (31, False)])
async def test_what_nests_deeper_than_can_be_read_is_refused(
    local: Api, make: Make, specs: Any, depth: int, arrays: bool
) -> None:
    spec = {**await specs["workflow_execution"](local), "input": nested(depth, arrays=arrays)}
    with pytest.raises(InvalidArgumentError, match="nests too deep"):
        await local("workflow_execution", "create", manifest("workflow_execution", "deep", spec))
    made = await make(local, "workflow_execution", "shallow")
    report = {"executionId": made.metadata.id, "status": {"output": nested(depth, arrays=arrays)}}
    with pytest.raises(InvalidArgumentError, match="nests too deep"):
        await local("workflow_execution", "updateStatus", report)
    assert await local("workflow_execution", "get", {"value": made.metadata.id}) == made
    task = {"name": "deep", "kind": "WORKFLOW_TASK_KIND_CALL_ACTIVITY", "taskConfig": nested(depth, arrays=arrays)}
    document = {"dsl": "1.0.0", "namespace": "tests", "name": "deep", "version": "0.1.0"}
    with pytest.raises(InvalidArgumentError, match="nests too deep"):
        await local("workflow", "create", manifest("workflow", "deep", {"document": document, "tasks": [task]}))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
async def test_numbers_that_json_does_not_have_are_refused(local: Api, make: Make, number: float) -> None:
    for spec in ({}, {"definition": WITH_SCHEMA}):
        workflow = await make(local, "workflow", f"flow {len(spec)}", spec=spec)
        request = registry()["workflow_execution"].type()
        request.api_version, request.kind = "agentic.stigmer.ai/v1", "WorkflowExecution"
        request.metadata.name, request.metadata.owner_scope = "run", 2
        request.spec.workflow_id = workflow.metadata.id
        request.spec.input.struct_value.fields["a"].number_value = number
        with pytest.raises(InvalidArgumentError, match="not finite"):
            await local("workflow_execution", "create", request)


@pytest.mark.parametrize("verb", ["create", "apply"])
async def test_what_could_not_be_sent_back_is_not_stored(local: Api, verb: str) -> None:
    spec = {"instructions": "x" * (limits.DOCUMENT_BYTES + 1)}
    with pytest.raises(ResourceExhaustedError, match="Agent 'Large' comes to"):
        await local("agent", verb, manifest("agent", "Large", spec))
    assert (await local.list_all({"kind": "agent"})).total_count == 0
    spec = {"instructions": "x" * (limits.DOCUMENT_BYTES - 200)}
    made = await local("agent", verb, manifest("agent", "Large", spec))
    assert await local("agent", "get", {"value": made.metadata.id}) == made


async def test_a_page_of_large_resources_is_cut_and_can_be_read_on(local: Api) -> None:
    text = "x" * 900_000
    made = [(await local("session", "create", await _session(local, number, text))).metadata.id for number in range(20)]
    seen: list[str] = []
    token, pages = "", 0
    while True:
        trailers: dict[str, Any] = {}
        listed = await local("session", "list", {"pageToken": token}, trailers=trailers)
        assert listed.total_pages == 1
        seen += [entry.metadata.id for entry in listed.entries]
        token, pages = trailers.get("x-next-page-token", ""), pages + 1
        if not token:
            break
    assert seen == made[::-1]
    assert pages == 3
    with pytest.raises(ResourceExhaustedError, match="smaller pages"):
        await local("session", "list", {"pageToken": "1"})
    assert len((await local("session", "list", {"pageToken": "2", "pageSize": 5})).entries) == 5


async def _session(api: Api, number: int, subject: str) -> dict[str, Any]:
    agent = await api("agent", "apply", manifest("agent", "Talker", AGENT))
    spec = {"agentInstanceId": agent.status.default_instance_id, "subject": subject}
    return manifest("session", f"talk {number}", spec)
