"""The map from paths to methods: complete, unambiguous, and by its rules."""

from __future__ import annotations

import pytest
from stigmer_grpc import bind
from stigmer_protos import descriptors

from stigmer_server.http.routes import Route, Router, collection, routes
from stigmer_server.kinds import registry

SERVICES = [bind(descriptors.pool(), service.full_name, {}) for service in descriptors.services()]
ROUTES = list(routes(SERVICES, registry()))
BY_PLACE = {f"{route.verb} {route.path}": route for route in ROUTES}


def test_no_two_routes_are_for_the_same_requests() -> None:
    Router(ROUTES)
    with pytest.raises(ValueError, match="twice"):
        Router([*ROUTES, ROUTES[-1]])


def test_every_method_is_reached_by_its_name() -> None:
    for service in descriptors.services():
        for method in service.methods:
            assert BY_PLACE[f"POST /rpc/{service.full_name}/{method.name}"].method.name == method.name


def test_every_method_of_a_kind_has_a_path_of_its_own() -> None:
    reached = {route.method.path for route in ROUTES if not route.is_rpc}
    for service in descriptors.services():
        if descriptors.service_kind(service.full_name) is not None:
            assert {f"/{service.full_name}/{method.name}" for method in service.methods} <= reached


def test_collections_are_plural_names_in_kebab_case() -> None:
    names = {kind.enum_name: collection(kind) for kind in descriptors.KINDS if kind.message}
    assert names["workflow_execution"] == "workflow-executions"
    assert names["iam_policy"] == "iam-policies"
    assert names["api_key"] == "api-keys"
    assert len(set(names.values())) == len(names)


def test_every_variable_of_a_path_fills_a_field() -> None:
    for route in ROUTES:
        for path in route.fields.values():
            descriptor = route.method.descriptor.input_type
            for name in path.split("."):
                field = descriptor.fields_by_name[name]
                descriptor = field.message_type


@pytest.mark.parametrize(
    ("place", "method"),
    [
        ("GET /v1/agents", "ai.stigmer.resources.v1.ResourceController/list"),
        ("POST /v1/agents", "ai.stigmer.agentic.agent.v1.AgentCommandController/create"),
        ("PUT /v1/orgs/{org}/agents/{slug}", "ai.stigmer.agentic.agent.v1.AgentCommandController/apply"),
        ("GET /v1/orgs/{org}/agents/{slug}", "ai.stigmer.agentic.agent.v1.AgentQueryController/getByReference"),
        ("DELETE /v1/environments/{id}", "ai.stigmer.agentic.environment.v1.EnvironmentCommandController/delete"),
        ("POST /v1/workflow-executions/{id}:signal",
         "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionControlController/sendSignal"),
        ("GET /v1/workflow-executions/{id}/events",
         "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionQueryController/subscribe"),
        ("GET /v1/workflow-executions:listByWorkflow",
         "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionQueryController/listByWorkflow"),
        ("POST /v1/iam-policies:checkAuthorization",
         "ai.stigmer.iam.iampolicy.v1.IamPolicyQueryController/checkAuthorization"),
        ("POST /v1/iam-policies:delete", "ai.stigmer.iam.iampolicy.v1.IamPolicyCommandController/delete"),
        ("POST /v1/orgs/{org}/events", "ai.stigmer.events.v1.EventController/publish"),
        ("GET /v1/skills/{id}/artifact", "ai.stigmer.agentic.skill.v1.SkillTransferController/getArtifactParts"),
    ],
)  # fmt: skip
def test_a_path_is_a_method(place: str, method: str) -> None:
    assert BY_PLACE[place].method.path == f"/{method}"


@pytest.mark.parametrize(
    ("path", "template", "variables"),
    [
        ("/v1/agents/agt-1", "/v1/agents/{id}", ["agt-1"]),
        ("/v1/agents/a%2Fb", "/v1/agents/{id}", ["a%2Fb"]),
        ("/v1/agents/a:b", "/v1/agents/{id}", ["a:b"]),
        ("/v1/agents/agt-1:watch", "/v1/agents/{id}:watch", ["agt-1"]),
        ("/v1/agents/a:b:watch", "/v1/agents/{id}:watch", ["a:b"]),
        ("/v1/agents:watch", "/v1/agents:watch", []),
        ("/v1/agents/agt-1/revisions/sha:1", "/v1/agents/{id}/revisions/{version}", ["agt-1", "sha:1"]),
        ("/v1/orgs/local/agents/notes", "/v1/orgs/{org}/agents/{slug}", ["local", "notes"]),
        ("/v1/orgs/local/events", "/v1/orgs/{org}/events", ["local"]),
    ],
)
def test_a_path_is_found_with_its_variables(path: str, template: str, variables: list[str]) -> None:
    match = Router(ROUTES).find(path)
    assert match is not None
    assert match.routes["GET"].path == template
    assert list(match.variables) == variables


@pytest.mark.parametrize(
    "path",
    ["", "/", "//v1/agents", "/v1", "/v1/", "/v1/agents/", "/v1//agents", "/v1/agents/a/", "/v2/agents",
     "/rpc", "/rpc/ai.stigmer.agentic.agent.v1.AgentQueryController", "/V1/agents", "*"],
)  # fmt: skip
def test_other_paths_are_nothing(path: str) -> None:
    assert Router(ROUTES).find(path) is None


def test_a_kind_that_the_server_does_not_keep_has_no_shared_paths() -> None:
    only_agents = list(routes(SERVICES, {"agent"}))
    shared: list[Route] = [route for route in only_agents if route.path == "/v1/workflows" and route.verb == "GET"]
    assert shared == []
