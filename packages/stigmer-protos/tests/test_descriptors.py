"""The tables read from the descriptor set: kinds, services, authorization, messages."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from stigmer_protos import descriptors

AGENT = "ai.stigmer.agentic.agent.v1"
EXECUTION = "ai.stigmer.agentic.workflowexecution.v1"


def method(service: str, name: str) -> MethodDescriptor:
    return descriptors.pool().FindServiceByName(service).methods_by_name[name]


def test_the_kinds_of_every_server_are_those_with_resources_of_its_own() -> None:
    kinds = [
        (kind.number, kind.enum_name, kind.name, kind.id_prefix) for kind in descriptors.KINDS if kind.tier == "open"
    ]
    assert kinds == [
        (40, "agent", "Agent", "agt"),
        (41, "agent_execution", "AgentExecution", "aex"),
        (42, "session", "Session", "ses"),
        (43, "skill", "Skill", "skl"),
        (44, "mcp_server", "McpServer", "mcp"),
        (45, "agent_instance", "AgentInstance", "ain"),
        (50, "workflow", "Workflow", "wfl"),
        (51, "workflow_instance", "WorkflowInstance", "win"),
        (52, "workflow_execution", "WorkflowExecution", "wex"),
        (53, "environment", "Environment", "env"),
        (54, "execution_context", "ExecutionContext", "exec"),
    ]


def test_a_kind_says_all_that_the_options_say() -> None:
    assert descriptors.kind_by_name("Skill") == descriptors.Kind(
        number=43,
        enum_name="skill",
        name="Skill",
        display_name="Skill",
        id_prefix="skl",
        is_versioned=True,
        is_search_indexed=True,
        tier="open",
        api_version="agentic.stigmer.ai/v1",
        message="ai.stigmer.agentic.skill.v1.Skill",
        services=(
            "ai.stigmer.agentic.skill.v1.SkillCommandController",
            "ai.stigmer.agentic.skill.v1.SkillQueryController",
            "ai.stigmer.agentic.skill.v1.SkillTransferController",
        ),
    )
    policy = descriptors.kind_by_name("IamPolicy")
    assert (policy.tier, policy.api_version, policy.is_search_indexed) == ("cloud", "iam.stigmer.ai/v1", False)


def test_kinds_without_a_message_are_named_with_none() -> None:
    assert {kind.name for kind in descriptors.KINDS if not kind.message} == {
        "ApiResourceVersion",
        "Credential",
        "Platform",
    }


def test_kinds_are_found_by_every_name_they_have() -> None:
    for kind in descriptors.KINDS:
        assert descriptors.kind_by_number(kind.number) is kind
        assert descriptors.kind_by_name(kind.name) is kind
        assert descriptors.kind_by_enum_name(kind.enum_name) is kind
        assert descriptors.kind_by_prefix(kind.id_prefix) is kind


@pytest.mark.parametrize(
    ("find", "name"),
    [
        (descriptors.kind_by_number, 52_000),
        (descriptors.kind_by_name, "workflow"),
        (descriptors.kind_by_enum_name, "api_resource_kind_unknown"),
        (descriptors.kind_by_prefix, "wfl-"),
        (descriptors.message_type, "ai.stigmer.agentic.agent.v1.Nobody"),
    ],
)
def test_an_unknown_name_is_a_key_error(find: Any, name: Any) -> None:
    with pytest.raises(KeyError):
        find(name)


def test_a_resource_accepts_the_kind_and_api_version_of_its_kind() -> None:
    for kind in descriptors.KINDS:
        if kind.message:
            resource = {"apiVersion": kind.api_version, "kind": kind.name}
            made: Any = json_format.ParseDict(resource, descriptors.message_type(kind.message)())
            assert made.kind == kind.name
            assert set(made.DESCRIPTOR.fields_by_name) == {"api_version", "kind", "metadata", "spec", "status"}


def test_services_are_sorted_and_each_handles_the_kind_it_says() -> None:
    names = [service.full_name for service in descriptors.services()]
    assert names == sorted(names)
    assert len(names) == 46
    of_kinds = {name for kind in descriptors.KINDS for name in kind.services}
    assert set(names) - of_kinds == {
        "ai.stigmer.agentic.workflowrunner.v1.WorkflowRunnerServiceController",
        "ai.stigmer.events.v1.EventController",
        "ai.stigmer.events.v1.EventListenerController",
        "ai.stigmer.files.v1.FileCommandController",
        "ai.stigmer.files.v1.FileQueryController",
        "ai.stigmer.operations.v1.ServerController",
        "ai.stigmer.resources.v1.ResourceCommandController",
        "ai.stigmer.resources.v1.ResourceController",
        "ai.stigmer.runtime.v1.ExecutionRuntimeController",
        "ai.stigmer.schedules.v1.ScheduleController",
    }
    for kind in descriptors.KINDS:
        for name in kind.services:
            assert descriptors.service_kind(name) is kind


def test_a_service_without_kind_and_one_that_is_unknown_have_none() -> None:
    assert descriptors.service_kind("ai.stigmer.resources.v1.ResourceController") is None
    assert descriptors.service_kind("grpc.health.v1.Health") is None


def test_a_method_says_what_it_asks_of_its_caller() -> None:
    assert descriptors.method_authorization(method(f"{AGENT}.AgentCommandController", "create")) == (
        descriptors.Authorization(
            permission="can_create_agent",
            resource_kind=descriptors.kind_by_name("Organization"),
            resource_kind_path="",
            field_path="metadata.org",
            resource_id="",
            error_msg="",
        )
    )
    context = "ai.stigmer.agentic.executioncontext.v1.ExecutionContextQueryController"
    operator = descriptors.method_authorization(method(context, "get"))
    assert operator is not None
    assert (operator.permission, operator.resource_id, operator.field_path) == ("operator", "stigmer", "")


def test_a_method_that_asks_nothing_says_so() -> None:
    listing = method(f"{EXECUTION}.WorkflowExecutionQueryController", "list")
    assert descriptors.method_authorization(listing) is None
    assert descriptors.is_skip_authorization(listing)
    applying = method(f"{AGENT}.AgentCommandController", "apply")
    assert descriptors.method_authorization(applying) is None
    assert not descriptors.is_skip_authorization(applying)
    assert not any(descriptors.is_public(method) for service in descriptors.services() for method in service.methods)


def test_authorization_paths_lead_to_fields_of_the_request() -> None:
    unknown: list[str] = []
    for service in descriptors.services():
        for found in service.methods:
            asked = descriptors.method_authorization(found)
            message: Any = found.input_type
            for name in asked.field_path.split(".") if asked and asked.field_path else []:
                if message is None or name not in message.fields_by_name:
                    unknown.append(found.full_name)
                    break
                message = message.fields_by_name[name].message_type
    # The contract says `metadata.id` of a request that has no metadata; whoever enforces it has to know.
    assert unknown == ["ai.stigmer.agentic.environment.v1.EnvironmentCommandController.delete"]


def test_every_scope_that_authorization_names_is_a_kind_or_left_to_the_request() -> None:
    without_kind = {
        found.full_name.rpartition(".")[2]
        for service in descriptors.services()
        for found in service.methods
        if (asked := descriptors.method_authorization(found)) and asked.resource_kind is None
    }
    assert without_kind == {
        "create",
        "delete",
        "get",
        "getEnvironment",
        "getRevision",
        "list",
        "listAuthorizedPrincipalIds",
        "listAuthorizedResourceIds",
        "listRevisions",
        "rollback",
    }


def test_the_same_name_gives_the_same_message_class() -> None:
    with ThreadPoolExecutor(8) as threads:
        classes = set(threads.map(descriptors.message_type, [f"{AGENT}.Agent"] * 64))
    assert len(classes) == 1


def test_the_pool_knows_what_the_contract_imports_and_is_not_the_default_one() -> None:
    pool = descriptors.pool()
    for name in ("google.protobuf.Struct", "google.protobuf.FieldOptions", "buf.validate.FieldRules"):
        assert pool.FindMessageTypeByName(name).full_name == name
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName(f"{AGENT}.Agent")


def test_the_descriptor_set_is_the_callers_own_copy() -> None:
    first = descriptors.descriptor_set()
    del first.file[:]
    assert descriptors.descriptor_set().file


def test_the_descriptor_set_names_imports_before_those_who_import_them() -> None:
    seen: set[str] = set()
    for file in descriptors.descriptor_set().file:
        assert set(file.dependency) <= seen
        seen.add(file.name)


def test_no_source_names_a_place_outside_the_contract() -> None:
    names = {file.name for file in descriptors.descriptor_set().file}
    assert all(re.match(r"(ai/stigmer|google/protobuf|buf/validate)/", name) for name in names)


def test_every_part_of_the_contract_has_its_comment() -> None:
    comments = descriptors.comments()
    for service in descriptors.services():
        assert comments[service.full_name]
        for method in service.methods:
            assert comments[method.full_name]
            for field in method.input_type.fields:
                if field.full_name.startswith("ai.stigmer."):
                    assert comments[field.full_name]
    kinds = descriptors.pool().FindEnumTypeByName("ai.stigmer.commons.apiresource.apiresourcekind.ApiResourceKind")
    assert comments[f"{kinds.full_name}.agent"]
