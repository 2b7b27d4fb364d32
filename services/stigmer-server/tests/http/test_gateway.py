"""Requests and answers over TCP: paths, query, bodies, headers, errors."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from stigmer_grpc import StatusCode, error_for

from stigmer_server.http import answers, problems
from stigmer_server.http.testing import Front
from stigmer_server.testing import manifest

AGENT = {"instructions": "Answer in one sentence."}


def told(response: httpx2.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    assert problem["requestId"] == response.headers["x-request-id"]
    return problem


async def test_a_resource_is_made_read_changed_and_deleted(front: Front) -> None:
    client = front.client
    made = await client.post("/v1/agents", json=manifest("agent", "Release notes", AGENT))
    assert made.status_code == 201
    agent = made.json()
    where = made.headers["location"]
    assert where == f"/v1/agents/{agent['metadata']['id']}"
    assert (await client.get(where)).json() == agent
    assert (await client.get("/v1/orgs/local/agents/release-notes")).json() == agent
    assert (await client.get("/v1/orgs/-/agents/release-notes")).json() == agent
    agent["spec"]["instructions"] = "Answer in two sentences."
    changed = await client.put(where, json=agent)
    assert changed.json()["metadata"]["version"]["id"] == "2"
    first = await client.get("/v1/orgs/local/agents/release-notes", params={"version": "1"})
    assert first.json()["spec"] == AGENT
    assert (await client.delete(where, params={"force": "true"})).status_code == 200
    assert told(await client.get(where))["code"] == "NOT_FOUND"


async def test_apply_by_slug_makes_and_then_changes(front: Front) -> None:
    content = manifest("agent", "Notes", AGENT)
    made = await front.client.put("/v1/orgs/local/agents/notes", json=content)
    again = await front.client.put("/v1/orgs/local/agents/notes", json=content)
    assert made.json()["metadata"]["id"] == again.json()["metadata"]["id"]
    assert again.json()["metadata"]["version"]["id"] == "1"
    also = await front.client.post("/v1/agents:apply", json=content)
    assert also.json()["metadata"]["id"] == made.json()["metadata"]["id"]


async def test_a_body_that_contradicts_its_path_is_refused(front: Front) -> None:
    content = manifest("agent", "Notes", AGENT, slug="other")
    problem = told(await front.client.put("/v1/orgs/local/agents/notes", json=content))
    assert problem["violations"][0]["field"] == "metadata.slug"
    problem = told(await front.client.get("/v1/agents", params={"kind": "workflow"}))
    assert problem["violations"][0]["field"] == "kind"


async def test_lists_are_filtered_and_paged_by_query(front: Front) -> None:
    for number in range(3):
        await front.agent(f"Agent {number}", labels={"team": "a" if number else "b"})
    page = (await front.client.get("/v1/agents", params={"org": "local", "pageSize": 2})).json()
    assert [len(page["entries"]), page["totalCount"]] == [2, 3]
    rest = (
        await front.client.get(
            "/v1/agents", params={"org": "local", "page_size": 2, "page_token": page["nextPageToken"]}
        )
    ).json()
    assert len(rest["entries"]) == 1
    team = (await front.client.get("/v1/agents?labels[team]=b")).json()
    assert [entry["metadata"]["name"] for entry in team["entries"]] == ["Agent 0"]
    dotted = (await front.client.get("/v1/agents?labels.team=b")).json()
    assert dotted == team


async def test_the_next_page_of_a_contract_list_comes_as_a_header(front: Front) -> None:
    agent = await front.agent()
    for number in range(2):
        content = manifest("session", f"talk {number}", {"agentInstanceId": agent["status"]["defaultInstanceId"]})
        assert (await front.client.post("/v1/sessions", json=content)).status_code == 201
    page = await front.client.get("/v1/sessions:list", params={"page_size": 1})
    token = page.headers["x-next-page-token"]
    rest = await front.client.get("/v1/sessions:list", params={"page_size": 1, "page_token": token})
    assert len({entry["metadata"]["id"] for entry in page.json()["entries"] + rest.json()["entries"]}) == 2


async def test_a_session_is_forked_where_it_is(front: Front) -> None:
    agent = await front.agent()
    content = manifest("agent_execution", "run", {"agentId": agent["metadata"]["id"], "message": "go"})
    made = (await front.client.post("/v1/agent-executions", json=content)).json()
    id, session = made["metadata"]["id"], made["spec"]["sessionId"]
    path = f"/v1/sessions/{session}:fork"
    assert told(await front.client.post(path, json={}))["code"] == "FAILED_PRECONDITION"
    await front.client.put(f"/v1/agent-executions/{id}/status", json={"phase": "EXECUTION_COMPLETED"})
    fork = (await front.client.post(path, json={"atExecutionId": id})).json()
    assert fork["status"]["forkedFrom"] == {"sessionId": session, "executionId": id}


async def test_nested_parts_of_a_query_are_read(front: Front) -> None:
    agent = await front.agent()
    found = await front.client.get(
        "/v1/agent-instances:getByAgent", params={"agentId": agent["metadata"]["id"], "page_info[size]": "1"}
    )
    assert found.json()["items"][0]["metadata"]["id"] == agent["status"]["defaultInstanceId"]


async def test_a_method_is_called_by_its_name(front: Front) -> None:
    agent = await front.agent()
    found = await front.client.post(
        "/rpc/ai.stigmer.agentic.agent.v1.AgentQueryController/get", json={"value": agent["metadata"]["id"]}
    )
    assert found.json() == agent


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("nope=1", "nope", "json.unknown_field"),
        ("page_size=x", "page_size", "json.type"),
        ("page_size=1&pageSize=2", "page_size", "json.twice"),
        ("page_size=-1", "page_size", "int32.gte_lte"),
        ("labels=a", "labels", "json.type"),
        ("org[x]=a", "org", "json.type"),
        ("pretty=perhaps", "pretty", "json.type"),
    ],
)
async def test_a_wrong_parameter_is_told(front: Front, query: str, field: str, rule: str) -> None:
    problem = told(await front.client.get(f"/v1/agents?{query}"))
    assert problem["code"] == "INVALID_ARGUMENT"
    assert [(item["field"], item["rule"]) for item in problem["violations"]] == [(field, rule)]


async def test_fields_of_a_body_are_no_parameters(front: Front) -> None:
    problem = told(await front.client.post("/v1/agents?org=a", json={}))
    assert problem["violations"][0]["field"] == "org"


@pytest.mark.parametrize("query", ["a=%ff", "a=1&" * 2000, "a=%00"])
async def test_a_query_that_cannot_be_read_is_told(front: Front, query: str) -> None:
    assert told(await front.client.get(f"/v1/agents?{query}"))["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/agents/%ff", 400),
        ("/v1/agents/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        ("/v1/agents/%00", 404),
        ("/v1/agents/..%2f", 404),
        ("/v1/%2e%2e/v1/agents", 404),
        ("/../../etc/passwd", 404),
        ("/v1/agents/%zz", 404),
        ("/v1/orgs/%2e%2e/agents/x", 404),
    ],
)
async def test_odd_paths_lead_nowhere(front: Front, path: str, status: int) -> None:
    # httpx2 would tidy the path up.
    request = front.client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    response = await front.client.send(request)
    assert response.status_code == status
    told(response)


async def test_broken_rules_are_told_with_their_fields(front: Front) -> None:
    problem = told(await front.client.post("/v1/agents", json={"apiVersion": "v0", "kind": "Agent"}))
    fields = {item["field"]: item["rule"] for item in problem["violations"]}
    assert fields["api_version"] == "string.const"
    assert fields["metadata"] == "required"
    assert problem["instance"] == "/v1/agents"


async def test_a_taken_slug_is_a_conflict(front: Front) -> None:
    await front.agent("Notes")
    response = await front.client.post("/v1/agents", json=manifest("agent", "Notes", AGENT))
    assert response.status_code == 409
    assert told(response)["code"] == "ALREADY_EXISTS"


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_every_code_has_a_status_and_a_problem(code: StatusCode) -> None:
    response = answers.refusal(error_for(code, "told"), instance="/v1/x", request_id="r")
    problem = json.loads(bytes(response.body))
    assert response.status_code == problem["status"] == problems.STATUS[code] >= 400
    assert problem["code"] == code.name
    assert problem["detail"] == "told"


async def test_what_asks_for_a_token_says_so() -> None:
    response = answers.refusal(error_for(StatusCode.UNAUTHENTICATED, ""), instance="", request_id="")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_a_body_must_be_said_to_be_json(front: Front, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    response = await front.client.post("/v1/agents", content=b"{}", headers=headers)
    assert response.status_code == 415
    told(response)


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/JSON; charset=utf-8", "application/vnd.x+json"]
)
async def test_json_by_its_other_names_is_taken(front: Front, media_type: str) -> None:
    content = json.dumps(manifest("agent", "Notes", AGENT))
    response = await front.client.post("/v1/agents", content=content, headers={"content-type": media_type})
    assert response.status_code == 201


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"{}{}", b'{"kind": NaN}', b"[" * 50_000])
async def test_a_body_that_is_no_message_is_told(front: Front, body: bytes) -> None:
    response = await front.client.post("/v1/agents", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert told(response)["violations"]


async def test_compressed_bodies_are_refused(front: Front) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = await front.client.post("/v1/agents", content=gzip.compress(b"{}"), headers=headers)
    assert response.status_code == 415


@pytest.mark.parametrize("http_settings", [{"http_max_body_bytes": 2048}])
async def test_a_body_that_is_too_large_is_told(front: Front) -> None:
    content = json.dumps(manifest("agent", "Notes", {"instructions": "x" * 4096})).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        yield content

    headers = {"content-type": "application/json"}
    for body in (content, in_pieces()):
        response = await front.client.post("/v1/agents", content=body, headers=headers)
        assert response.status_code == 413
        assert told(response)["code"] == "RESOURCE_EXHAUSTED"


async def test_large_answers_are_compressed_for_those_who_take_it(front: Front) -> None:
    agent = await front.agent("Long", annotations={"note": "x" * 5000})
    where = f"/v1/agents/{agent['metadata']['id']}"
    packed = await front.client.get(where, headers={"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == agent
    for accepted in ("", "identity", "gzip;q=0", "br"):
        plain = await front.client.get(where, headers={"accept-encoding": accepted})
        assert "content-encoding" not in plain.headers
        assert plain.json() == agent


async def test_head_and_options_tell_without_doing(front: Front) -> None:
    head = await front.client.head("/v1/agents")
    assert head.status_code == 200
    assert head.content == b""
    options = await front.client.options("/v1/agents")
    assert options.status_code == 204
    assert options.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    refused = await front.client.put("/v1/agents")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_a_dry_run_keeps_nothing(front: Front) -> None:
    content = manifest("agent", "Notes", AGENT)
    for parameters, headers in (({"dry_run": "true"}, {}), ({}, {"x-stigmer-dry-run": "true"})):
        response = await front.client.post("/v1/agents", json=content, params=parameters, headers=headers)
        assert response.status_code == 200
        assert "location" not in response.headers
    assert "entries" not in (await front.client.get("/v1/agents")).json()


async def test_the_request_id_is_handed_through(front: Front) -> None:
    response = await front.client.get("/v1/agents/none", headers={"x-request-id": "mine-1"})
    assert told(response)["requestId"] == "mine-1"
    other = await front.client.get("/v1/agents/none", headers={"x-request-id": "not one"})
    assert told(other)["requestId"] != "not one"


async def test_the_deadline_is_that_of_the_header(front: Front) -> None:
    late = await front.client.get("/v1/agents", headers={"grpc-timeout": "0S"})
    assert late.status_code == 504
    assert told(late)["code"] == "DEADLINE_EXCEEDED"
    fine = await front.client.get("/v1/agents", headers={"grpc-timeout": "1H"})
    assert fine.status_code == 200
    for wrong in ("5", "S", "999999999S", "-1S", "5s"):
        response = await front.client.get("/v1/agents", headers={"grpc-timeout": wrong})
        assert told(response)["violations"][0]["field"] == "grpc-timeout"


@pytest.mark.parametrize(
    ("header", "value"),
    [("authorization", b"Bearer \xc3\xa9"), ("x-stigmer-token", b"\xff"), ("x-stigmer-a-bin", b"YQ==")],
)
async def test_a_header_that_no_call_can_carry_is_told(front: Front, header: str, value: bytes) -> None:
    response = await front.client.get("/v1/agents", headers=[(header.encode(), value)])
    assert told(response)["violations"][0]["field"] == header


async def test_a_header_that_counts_may_not_be_there_twice(front: Front) -> None:
    response = await front.client.get("/v1/agents", headers=[("authorization", "a"), ("authorization", "b")])
    assert told(response)["violations"][0]["rule"] == "header.twice"


async def test_pretty_is_for_people(front: Front) -> None:
    agent = await front.agent()
    response = await front.client.get(f"/v1/agents/{agent['metadata']['id']}?pretty")
    assert response.text == json.dumps(agent, indent=2, ensure_ascii=False) + "\n"
    listed = await front.client.get("/v1/agents?pretty")
    assert listed.text == json.dumps(listed.json(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    assert list(listed.json()["entries"][0]) == ["apiVersion", "kind", "metadata", "spec", "status"]


async def test_whole_numbers_stay_whole(front: Front) -> None:
    workflow = "document: {dsl: 1.0.0, namespace: t, name: flow, version: 0.1.0}\ndo:\n  - a: {set: {b: 1}}\n"
    made = await front.client.post("/v1/workflows", json=manifest("workflow", "Flow", {"definition": workflow}))
    spec = {"workflowId": made.json()["metadata"]["id"], "input": {"count": 3, "share": 0.5, "id": 2**53}}
    run = await front.client.post("/v1/workflow-executions", json=manifest("workflow_execution", "run", spec))
    assert run.status_code == 201
    assert re.search(r'"count":3[,}]', run.text)
    assert run.json()["spec"]["input"] == spec["input"]
    lossy = {**spec, "input": {"id": 2**53 + 1}}
    refused = await front.client.post("/v1/workflow-executions", json=manifest("workflow_execution", "run", lossy))
    assert told(refused)["violations"][0]["field"] == 'spec.input["id"]'


def test_timeouts_are_read_as_grpc_writes_them() -> None:
    from starlette.datastructures import Headers

    from stigmer_server.http.metadata import timeout

    for text, seconds in {"1H": 3600, "2M": 120, "3S": 3, "4m": 0.004, "5u": 5e-6, "6n": 6e-9}.items():
        assert math.isclose(timeout(Headers({"grpc-timeout": text})), seconds)
    assert timeout(Headers({})) == math.inf


async def test_a_patch_changes_what_it_names(front: Front) -> None:
    agent = await front.agent("Notes", labels={"team": "a", "old": "x"})
    path = f"/v1/agents/{agent['metadata']['id']}"
    patch = {"metadata": {"labels": {"old": None, "new": "y"}}, "spec": {"icon_url": "https://example.com/i.png"}}
    response = await front.client.patch(path, json=patch, headers={"content-type": "application/merge-patch+json"})
    assert response.status_code == 200, response.text
    changed = response.json()
    assert changed["metadata"]["labels"] == {"team": "a", "new": "y"}
    assert changed["spec"] == {**agent["spec"], "iconUrl": "https://example.com/i.png"}
    assert changed["metadata"]["version"]["id"] == "2"
    assert (await front.client.get(path)).json() == changed


async def test_a_patch_keeps_secrets(front: Front) -> None:
    content = manifest("environment", "Staging", {"data": {"TOKEN": {"value": "change-me", "isSecret": True}}})
    made = (await front.client.post("/v1/environments", json=content)).json()
    path = f"/v1/environments/{made['metadata']['id']}"
    patch = {"spec": {"data": {"REGION": {"value": "eu"}}}}
    assert (await front.client.patch(path, json=patch)).status_code == 200
    again = (await front.client.patch(path, json={"spec": {"description": "for tests"}})).json()
    assert set(again["spec"]["data"]) == {"TOKEN", "REGION"}
    resources = front.api.app.resources
    record = await resources.record(resources.kinds["environment"], made["metadata"]["id"])
    assert "change-me" not in str(record)
    assert "REDACTED" not in str(record)


@pytest.mark.parametrize(
    ("patch", "field"),
    [({"spec": {"nope": 1}}, "spec.nope"), ([], ""), ({"metadata": {"id": "other"}}, "metadata.id"), ("x", "")],
)
async def test_a_patch_that_does_not_fit_is_told(front: Front, patch: Any, field: str) -> None:
    agent = await front.agent()
    path = f"/v1/agents/{agent['metadata']['id']}"
    problem = told(await front.client.patch(path, json=patch))
    assert problem["violations"][0]["field"] == field
    assert (await front.client.get(path)).json() == agent


async def test_a_patch_of_nothing_is_not_found(front: Front) -> None:
    assert (await front.client.patch("/v1/agents/none", json={})).status_code == 404


async def test_a_patch_based_on_an_old_version_is_told(front: Front) -> None:
    agent = await front.agent()
    path = f"/v1/agents/{agent['metadata']['id']}"
    await front.client.patch(path, json={"metadata": {"labels": {"a": "b"}}})
    stale = await front.client.patch(path, json={"metadata": {"version": {"id": "1"}, "labels": {"a": "c"}}})
    assert (stale.status_code, told(stale)["code"]) == (409, "ABORTED")
