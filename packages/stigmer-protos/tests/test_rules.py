"""The validation rules fire: each refuses what it should and lets pass what it should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import protovalidate
import pytest
from google.protobuf import json_format
from stigmer_protos import descriptors

AGENTIC = "ai.stigmer.agentic"
SCOPES = ("api_resource_owner_scope_unspecified", "platform", "organization", "identity_account")


def message(name: str, content: dict[str, Any] | None = None) -> Any:
    return json_format.ParseDict(content or {}, descriptors.message_type(name)())


def violations(found: Any) -> set[tuple[str, str]]:
    """Return path and rule of everything that is wrong with a message."""
    return {
        (".".join(part.field_name for part in (proto.field.elements if proto.field else [])), proto.rule_id)
        for proto in (violation.proto for violation in protovalidate.collect_violations(found))
    }


def explained(found: Any) -> dict[str, str]:
    return {violation.proto.rule_id: violation.proto.message for violation in protovalidate.collect_violations(found)}


# Standard rules: every one of the sources, with a value that it refuses and one that it accepts.


def ruled_fields() -> Iterator[tuple[Any, Any]]:
    extension = descriptors.pool().FindExtensionByName("buf.validate.field")
    options_type: Any = descriptors.message_type("google.protobuf.FieldOptions")
    for file in descriptors.descriptor_set().file:
        if not file.package.startswith("ai.stigmer."):
            continue
        for item in file.message_type:
            for field in descriptors.pool().FindMessageTypeByName(f"{file.package}.{item.name}").fields:
                options = options_type.FromString(field.GetOptions().SerializeToString())
                if options.HasExtension(extension):
                    yield field, options.Extensions[extension]


def standard_rules() -> Iterator[Any]:
    """Yield field, rule, a value it refuses and one it accepts; None leaves the field out."""
    for field, rules in ruled_fields():
        if rules.required:
            yield pytest.param(field, "required", None, filled(field), id=f"{field.full_name}-required")
        for part, limits in rules.ListFields():
            if part.message_type is None or part.name in {"cel", "repeated"}:
                continue
            both = {"gte", "lte"} <= {rule.name for rule, _ in limits.ListFields()}
            for rule, limit in limits.ListFields():
                name = f"{part.name}.gte_lte" if both and rule.name in {"gte", "lte"} else f"{part.name}.{rule.name}"
                refused, accepted = samples(rule.name, limit)
                yield pytest.param(field, name, refused, accepted, id=f"{field.full_name}-{rule.name}")
        if rules.repeated.min_items:
            least = [filled(field)[0]] * rules.repeated.min_items
            yield pytest.param(field, "repeated.min_items", least[1:], least, id=f"{field.full_name}-min_items")
        if rules.repeated.max_items:
            most = [filled(field)[0]] * rules.repeated.max_items
            yield pytest.param(field, "repeated.max_items", [*most, most[0]], most, id=f"{field.full_name}-max_items")


def filled(field: Any) -> Any:
    """Return a value of the field that is not its default."""
    if field.message_type and field.message_type.GetOptions().map_entry:
        return {"key": "value"}
    if field.message_type:
        one: Any = descriptors.message_type(field.message_type.full_name)()
    else:
        one = {"string": "something", "bytes": b"bytes", "int32": 60, "enum": 1}[
            "enum" if field.enum_type else kind(field)
        ]
    return [one] if field.is_repeated else one


def kind(field: Any) -> str:
    return {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes", field.TYPE_INT32: "int32"}[field.type]


def samples(rule: str, limit: Any) -> tuple[Any, Any]:
    """Return a value that the rule refuses and one that it accepts."""
    if rule == "in":
        return "something else", next(iter(limit))
    if rule == "pattern":
        return "spaces are not in it", {r"^1\.0\.0$": "1.0.0", r"^(1\.0)?$": "1.0"}.get(limit, "a" * 64)
    return {
        "const": lambda: (limit + "x", limit),
        "min_len": lambda: ("x" * (limit - 1), "x" * limit),
        "max_len": lambda: ("é" * (limit + 1), "é" * limit),
        "gte": lambda: (limit - 1 if limit != 1 else -1, limit),
        "lte": lambda: (limit + 1, limit),
        "uri": lambda: ("not a URI", "https://example.com/mcp?a=b"),
        "uri_ref": lambda: ("not a URI", "/orders/7?of=today"),
        "defined_only": lambda: (999, 1),
    }[rule]()


def with_value(field: Any, value: Any) -> Any:
    made: Any = descriptors.message_type(field.containing_type.full_name)()
    if field.message_type and field.message_type.GetOptions().map_entry:
        getattr(made, field.name).update(value or {})
    elif field.is_repeated:
        getattr(made, field.name).extend(value or [])
    elif field.message_type:
        if value is not None:
            getattr(made, field.name).CopyFrom(value)
    elif value is not None:
        setattr(made, field.name, value)
    return made


@pytest.mark.parametrize(("field", "rule", "refused", "accepted"), list(standard_rules()))
def test_a_standard_rule_refuses_and_accepts(field: Any, rule: str, refused: Any, accepted: Any) -> None:
    found = violations(with_value(field, refused))
    empty = refused in (None, "", [], 0)
    assert (field.name, rule) in found or (empty and (field.name, "required") in found)
    assert not {(field.name, rule), (field.name, "required")} & violations(with_value(field, accepted))


def test_standard_rules_are_found_for_every_field_that_has_some() -> None:
    fields = {field.full_name for field, rules in ruled_fields() if not (rules.cel or rules.repeated.items.cel)}
    assert len(fields) > 150
    assert fields <= {parameter.values[0].full_name for parameter in standard_rules()}


# Who may own what.


@pytest.mark.parametrize(
    ("package", "name", "rule", "allowed"),
    [
        ("agent", "Agent", "agent.owner_scope.platform_or_org_only", {1, 2}),
        ("workflow", "Workflow", "workflow.owner_scope.platform_or_org_only", {1, 2}),
        ("skill", "Skill", "skill.owner_scope.platform_or_org_only", {1, 2}),
        ("session", "Session", "session.owner_scope.org_or_identity_only", {2, 3}),
        ("environment", "Environment", "environment.owner_scope.org_or_identity_only", {2, 3}),
        ("workflowexecution", "WorkflowExecution", "workflow_execution.owner_scope.org_or_identity_only", {2, 3}),
        ("agentexecution", "AgentExecution", "agent_execution.owner_scope.unspecified_only", {0}),
        ("executioncontext", "ExecutionContext", "execution_context.owner_scope.unspecified_only", {0}),
        ("agentinstance", "AgentInstance", None, {0, 1, 2, 3}),
        ("workflowinstance", "WorkflowInstance", None, {0, 1, 2, 3}),
        ("mcpserver", "McpServer", None, {0, 1, 2, 3}),
    ],
)
def test_a_kind_allows_its_owner_scopes_and_no_others(
    package: str, name: str, rule: str | None, allowed: set[int]
) -> None:
    resource = {"apiVersion": "agentic.stigmer.ai/v1", "kind": name}
    for number, scope in enumerate(SCOPES):
        made = message(f"{AGENTIC}.{package}.v1.{name}", {**resource, "metadata": {"name": "x", "ownerScope": scope}})
        assert violations(made) == (set() if number in allowed else {("metadata", rule)})


def test_a_scope_that_is_none_is_refused_in_metadata_and_references() -> None:
    for name, field in (("ApiResourceMetadata", "owner_scope"), ("ApiResourceReference", "scope")):
        made = message(f"ai.stigmer.commons.apiresource.{name}", {field: 4})
        assert violations(made) == {(field, "enum.defined_only")}


# What references may name.


@pytest.mark.parametrize(
    ("owner", "field", "rule", "allowed"),
    [
        ("agent.v1.AgentSpec", "skill_refs", "skill_refs.kind", {43}),
        ("agent.v1.SubAgent", "skill_refs", "skill_refs.kind", {43}),
        ("agentinstance.v1.AgentInstanceSpec", "environment_refs", "environment_refs.kind", {53, 52}),
        ("workflowinstance.v1.WorkflowInstanceSpec", "env_refs", "", {kind.number for kind in descriptors.KINDS} | {0}),
    ],
)
def test_references_name_only_the_kind_they_are_for(owner: str, field: str, rule: str, allowed: set[int]) -> None:
    for number in {kind.number for kind in descriptors.KINDS} | {0}:
        made = message(f"{AGENTIC}.{owner}", {field: [{"kind": number, "slug": "x"}]})
        found = {(path, fired) for path, fired in violations(made) if path == field}
        assert found == (set() if number in allowed else {(field, rule)}), number


@pytest.mark.parametrize("version", ["", "latest", "stable", "v1.2_3-rc", "a" * 64, "0123456789abcdef" * 4])
def test_a_reference_takes_no_version_latest_a_tag_or_a_hash(version: str) -> None:
    assert not violations(message("ai.stigmer.commons.apiresource.ApiResourceReference", {"version": version}))


@pytest.mark.parametrize("version", ["a b", "v1/2", "été", "a\n", "@latest"])
def test_a_reference_refuses_other_versions(version: str) -> None:
    made = message("ai.stigmer.commons.apiresource.ApiResourceReference", {"version": version})
    assert violations(made) == {("version", "string.pattern")}


# Patterns.


@pytest.mark.parametrize("name", ["SkillSpec", "PushSkillRequest"])
@pytest.mark.parametrize(
    ("tag", "accepted"),
    [("", True), ("stable", True), ("v1.0_rc-2", True), ("a b", False), ("a/b", False), ("ü", False), ("a:b", False)],
)
def test_a_skills_tag_has_letters_digits_dots_underscores_and_hyphens(name: str, tag: str, *, accepted: bool) -> None:
    found = violations(message(f"{AGENTIC}.skill.v1.{name}", {"tag": tag}))
    assert (("tag", "string.pattern") in found) is not accepted


@pytest.mark.parametrize(
    ("digest", "accepted"),
    [
        ("0123456789abcdef" * 4, True),
        ("", False),
        ("a" * 63, False),
        ("a" * 65, False),
        ("A" * 64, False),
        ("g" * 64, False),
    ],
)
def test_a_skills_version_is_a_sha256_in_lower_case(digest: str, *, accepted: bool) -> None:
    found = violations(message(f"{AGENTIC}.skill.v1.SkillStatus", {"versionHash": digest}))
    assert (("version_hash", "string.pattern") in found) is not accepted


@pytest.mark.parametrize(
    ("dsl", "accepted"), [("1.0.0", True), ("1.0.1", False), ("1x0x0", False), ("", False), ("1.0.0 ", False)]
)
def test_a_workflow_document_is_of_version_1_0_0(dsl: str, *, accepted: bool) -> None:
    found = violations(message(f"{AGENTIC}.workflow.v1.WorkflowDocument", {"dsl": dsl}))
    assert (("dsl", "string.pattern") in found) is not accepted


# Slugs of organizations.


@pytest.mark.parametrize(
    ("slug", "rules"),
    [
        ("", set[str]()),
        ("acme", set[str]()),
        ("3-stars", set[str]()),
        ("a" * 63, set[str]()),
        ("a" * 64, {"metadata.slug.length"}),
        ("Acme", {"metadata.slug.chars", "metadata.slug.start"}),
        ("ac_me", {"metadata.slug.chars"}),
        ("ac me", {"metadata.slug.chars"}),
        ("acmé", {"metadata.slug.chars"}),
        ("-acme", {"metadata.slug.start"}),
    ],
)
def test_an_organizations_slug_is_checked_where_it_is_given(slug: str, rules: set[str]) -> None:
    made = message(
        "ai.stigmer.tenancy.organization.v1.Organization",
        {"apiVersion": "tenancy.stigmer.ai/v1", "kind": "Organization", "metadata": {"name": "Acme", "slug": slug}},
    )
    assert violations(made) == {("metadata", rule) for rule in rules}


# Workflows: two forms, and timeouts that may be left out.


def test_a_workflow_needs_document_and_tasks_or_a_definition() -> None:
    name = f"{AGENTIC}.workflow.v1.WorkflowSpec"
    document = {"dsl": "1.0.0", "namespace": "demo", "name": "hello", "version": "0.1.0"}
    tasks = [{"name": "a", "kind": "WORKFLOW_TASK_KIND_SET", "taskConfig": {"variables": {"x": "1"}}}]
    no_document, no_tasks = ("", "workflow_spec.document.required"), ("", "workflow_spec.tasks.required")
    assert violations(message(name)) == {no_document, no_tasks}
    assert violations(message(name, {"tasks": tasks})) == {no_document}
    assert violations(message(name, {"document": document})) == {no_tasks}
    assert not violations(message(name, {"document": document, "tasks": tasks}))
    assert not violations(message(name, {"definition": "document: {}"}))


def test_what_is_wrong_in_a_nested_task_is_told_with_its_path() -> None:
    made = message(
        f"{AGENTIC}.workflow.v1.WorkflowSpec", {"definition": "x", "tasks": [{"name": "a", "export": {"as": ""}}]}
    )
    assert violations(made) == {
        ("tasks.kind", "required"),
        ("tasks.task_config", "required"),
        ("tasks.export.as", "string.min_len"),
    }


@pytest.mark.parametrize(
    ("name", "field", "most"),
    [("HttpCallTaskConfig", "timeout_seconds", 300), ("AgentExecutionConfig", "timeout", 3600)],
)
def test_a_timeout_may_be_left_out_but_not_be_senseless(name: str, field: str, most: int) -> None:
    full_name = f"{AGENTIC}.workflow.v1.tasks.{name}"
    for value in (0, 1, most):
        assert field not in {path for path, _ in violations(message(full_name, {field: value}))}
    for value in (-1, most + 1):
        assert (field, "int32.gte_lte") in violations(message(full_name, {field: value}))
    assert field not in {path for path, _ in violations(message(full_name))}


def test_environment_values_may_be_empty_and_execution_values_may_not() -> None:
    assert not violations(message(f"{AGENTIC}.environment.v1.EnvironmentSpec", {"data": {"A": {"value": ""}}}))
    made = message(f"{AGENTIC}.executioncontext.v1.ExecutionContextSpec", {"executionId": "aex-1", "data": {"A": {}}})
    assert violations(made) == {("data.value", "string.min_len")}


# Messages that tell what to do.


def cel_rules() -> Iterator[Any]:
    for field, rules in ruled_fields():
        yield from (pytest.param(rule, id=f"{field.full_name}-{rule.id}") for rule in rules.cel)
        yield from (pytest.param(rule, id=f"{field.full_name}-{rule.id}") for rule in rules.repeated.items.cel)


@pytest.mark.parametrize("rule", list(cel_rules()))
def test_a_refusal_says_what_to_do(rule: Any) -> None:
    assert re.search(r": (set|leave|change|shorten) ", rule.message)
    assert not rule.message.endswith(".")


def test_the_text_of_a_refusal_reaches_the_caller() -> None:
    made = message(
        f"{AGENTIC}.agent.v1.Agent",
        {"apiVersion": "agentic.stigmer.ai/v1", "kind": "Agent", "metadata": {"ownerScope": "identity_account"}},
    )
    assert (
        "set metadata.owner_scope to platform or organization"
        in explained(made)["agent.owner_scope.platform_or_org_only"]
    )
