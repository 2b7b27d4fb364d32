"""The description of the API: sound, complete, and true of what the server answers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from stigmer_grpc import InvalidArgumentError, bind, check
from stigmer_protos import descriptors

from stigmer_server.http.openapi import document
from stigmer_server.http.routes import Route, routes
from stigmer_server.http.testing import Front
from stigmer_server.kinds import registry


def _any_shape(request: Any, context: Any) -> Any:
    return None


async def _nothing(request: Any, context: Any) -> bytes:
    return b""


def all_routes() -> list[Route]:
    """The routes of every method of the contract, as if a server had them all."""

    def handlers(service: Any) -> dict[str, Any]:
        return {method.name: _any_shape for method in service.methods}

    services = [bind(descriptors.pool(), service.full_name, handlers(service)) for service in descriptors.services()]
    return list(routes(services, registry()))


@cache
def described() -> dict[str, Any]:
    return document(all_routes())


@cache
def known_schema(name: str) -> Any:
    return validator(described(), f"/components/schemas/{name}")


def validator(told: dict[str, Any], pointer: str) -> Any:
    resource: Resource[Any] = Resource.from_contents(told, default_specification=DRAFT202012)
    known: Registry[Any] = Registry[Any]().with_resource("urn:api", resource)
    return Draft202012Validator({"$ref": f"urn:api#{pointer}"}, registry=known)


def test_the_document_is_sound() -> None:
    OpenAPIV31SpecValidator(described()).validate()


def test_every_route_is_described() -> None:
    told = {(verb.upper(), path) for path, operations in described()["paths"].items() for verb in operations}
    assert told == {(route.verb, route.path) for route in all_routes()}


def test_every_operation_says_what_it_does() -> None:
    for operations in described()["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]


def test_what_is_not_implemented_is_not_described() -> None:
    service = bind(descriptors.pool(), "ai.stigmer.agentic.agent.v1.AgentQueryController", {"get": _nothing})
    told = document(routes([service], registry()))["paths"]
    assert set(told) == {"/v1/agents/{id}", "/rpc/ai.stigmer.agentic.agent.v1.AgentQueryController/get"}


def test_rules_are_in_the_schemas() -> None:
    schemas = described()["components"]["schemas"]
    agent = schemas["agentic.agent.v1.Agent"]
    assert agent["properties"]["apiVersion"]["const"] == "agentic.stigmer.ai/v1"
    assert set(agent["required"]) == {"apiVersion", "kind", "metadata"}
    request = schemas["resources.v1.ListResourcesRequest"]
    assert (request["properties"]["pageSize"]["minimum"], request["properties"]["pageSize"]["maximum"]) == (0, 1000)
    assert request["properties"]["tags"]["maxItems"] == 100
    approval = schemas["agentic.agentexecution.v1.SubmitApprovalInput"]
    assert "APPROVAL_ACTION_UNSPECIFIED" not in approval["properties"]["action"]["enum"]
    event = schemas["events.v1.CloudEvent"]
    assert {"required": ["jsonData", "textData"]} in event["not"]["anyOf"]
    assert "description" in event["properties"]["source"]


def requests() -> list[str]:
    found = {method.input_type.full_name for service in descriptors.services() for method in service.methods}
    return sorted(name for name in found if name.startswith("ai.stigmer."))


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.parametrize("name", requests(), ids=lambda name: name.removeprefix("ai.stigmer."))
def test_a_schema_says_what_the_rules_say(name: str, data: st.DataObject) -> None:
    """Fields are left out, or have values that may break their rules: where they break none, the schema holds."""
    message: Any = descriptors.message_type(name)()
    for field in message.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING and not field.is_repeated and data.draw(st.booleans()):
            setattr(message, field.name, data.draw(st.sampled_from(["a", "a-b", "x" * 65, "A b", "1.0", "f" * 64])))
        elif field.cpp_type == field.CPPTYPE_INT32 and not field.is_repeated and data.draw(st.booleans()):
            setattr(message, field.name, data.draw(st.integers(-2, 2000)))
        elif field.enum_type is not None and not field.is_repeated and data.draw(st.booleans()):
            numbers = [value.number for value in field.enum_type.values]
            setattr(message, field.name, data.draw(st.sampled_from(numbers)))
    plain = json_format.MessageToDict(message)
    fits: bool = known_schema(name.removeprefix("ai.stigmer.")).is_valid(plain)
    # What the schema accepts may break only rules that no schema can say; what it refuses must break one.
    assert all(map(_is_beyond_schemas, broken_rules(message))) if fits else broken_rules(message)


def broken_rules(message: Any) -> list[str]:
    try:
        check(message)
    except InvalidArgumentError as error:
        return [violation.rule_id for violation in error.violations]
    return []


def _is_beyond_schemas(rule: str) -> bool:
    """A CEL rule has a name of its own."""
    return not re.match(r"(string|int32|repeated|map)\.", rule) and rule != "required"


async def test_the_server_serves_its_own_description(front: Front) -> None:
    response = await front.client.get("/openapi.json")
    assert response.status_code == 200
    told = response.json()
    assert told["openapi"].startswith("3.1")
    assert "/v1/agents/{id}" in told["paths"]
    again = await front.client.get("/openapi.json", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304
    plain = await front.client.get("/openapi.json", headers={"accept-encoding": "identity"})
    assert plain.json() == told


async def test_answers_are_as_described(front: Front) -> None:
    told = (await front.client.get("/openapi.json")).json()
    agent = await front.agent(labels={"team": "a"})
    id = agent["metadata"]["id"]
    for path, template in (
        (f"/v1/agents/{id}", "/v1/agents/{id}"),
        ("/v1/agents", "/v1/agents"),
        (f"/v1/agents/{id}/revisions", "/v1/agents/{id}/revisions"),
        (f"/v1/agents/{id}/revisions/1", "/v1/agents/{id}/revisions/{version}"),
        ("/v1/orgs/local/agents/sample", "/v1/orgs/{org}/agents/{slug}"),
        ("/v1/agent-instances", "/v1/agent-instances"),
    ):
        response = await front.client.get(path)
        assert response.status_code == 200
        pointer = f"/paths/{template.replace('/', '~1')}/get/responses/200/content/application~1json/schema"
        validator(told, pointer).validate(response.json())
    for path in ("/v1/agents/none", "/v1/agents?x=1", "/nothing"):
        validator(told, "/components/schemas/Problem").validate((await front.client.get(path)).json())


async def test_the_page_for_people_needs_nothing_from_elsewhere(front: Front) -> None:
    response = await front.client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert response.headers["x-frame-options"] == "DENY"
    assert not re.search(r"<(script|img|link|iframe)\b|https?://", response.text)
    assert "/v1/agents/{id}" in response.text
    for code in ("not-found", "failed-precondition"):
        assert f'id="{code}"' in response.text


async def test_the_type_of_a_problem_is_explained_on_the_page(front: Front) -> None:
    problem = (await front.client.get("/v1/agents/none")).json()
    path, _, anchor = problem["type"].partition("#")
    assert f'id="{anchor}"' in (await front.client.get(path)).text
