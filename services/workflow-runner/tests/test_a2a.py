"""Agents that speak Agent2Agent: a loopback agent that keeps to the protocol, and odd ones."""

import asyncio
import json
import uuid
from typing import Any

import pytest
from workflow_runner.testing import Request, Response, Runs, Site, StartRunner

CARD = "/.well-known/agent-card.json"


def reply(request: Request, result: Any) -> Response:
    return Response({"jsonrpc": "2.0", "id": request.json["id"], "result": result})


def events(*messages: Any) -> Response:
    text = ": hello\n\n" + "".join(f"data: {json.dumps(message)}\r\n\r\n" for message in messages)
    return Response(text.encode(), headers={"content-type": "text/event-stream"})


def agent(request: Request) -> Response:
    """Answer as an agent does that has one task, t1."""
    asked = request.json
    task = {"kind": "task", "id": "t1", "contextId": "c1", "status": {"state": "working"}}
    done = {"kind": "status-update", "taskId": "t1", "contextId": "c1", "status": {"state": "completed"}, "final": True}

    def event(result: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": asked["id"], "result": result}

    match asked["method"]:
        case "message/send":
            return reply(request, {**task, "history": [asked["params"]["message"]]})
        case "message/stream" | "tasks/resubscribe":
            return events(event(task), event(done), event("after the last"))
        case "tasks/get" if asked["params"].get("id") != "t1":
            error = {"code": -32001, "message": "Task not found", "data": {"id": asked["params"].get("id")}}
            return Response({"jsonrpc": "2.0", "id": asked["id"], "error": error})
        case method:
            return reply(
                request, {"method": method, "params": asked["params"], "as": request.headers.get("authorization")}
            )


@pytest.fixture
def site(site: Site) -> Site:
    """A site with an agent and its card."""
    site.page(CARD, {"name": "writer", "url": f"{site.url}/rpc", "preferredTransport": "JSONRPC"})
    site.page("/rpc", agent)
    return site


def call(method: str, at: str, parameters: str = "{}", rest: str = "") -> str:
    return f"do:\n- it: {{call: a2a, with: {{method: {method}, {at}, parameters: {parameters}}}{rest}}}"


def card(site: Site) -> str:
    return f"agentCard: {{endpoint: '{site.url}{CARD}'}}"


MESSAGE = "{message: {parts: [{kind: text, text: '${ .what }'}]}}"


@pytest.mark.requirement("a2a.message")
@pytest.mark.parametrize("by", ["card", "server"])
async def test_a_message_is_sent_with_an_id_and_a_role_and_the_task_comes_back(runs: Runs, site: Site, by: str) -> None:
    at = card(site) if by == "card" else f"server: '{site.url}'"
    output = await runs.output(call("message/send", at, MESSAGE), {"what": "write"})
    assert (output["id"], output["status"]) == ("t1", {"state": "working"})
    (sent,) = output["history"]
    assert (sent["role"], sent["kind"], sent["parts"][0]["text"]) == ("user", "message", "write")
    assert uuid.UUID(sent["messageId"]).version == 4


@pytest.mark.requirement("a2a.message")
async def test_what_a_message_says_of_itself_stands(runs: Runs, site: Site) -> None:
    given = "{message: {messageId: mine, role: agent, parts: []}}"
    (sent,) = (await runs.output(call("message/send", card(site), given)))["history"]
    assert (sent["messageId"], sent["role"]) == ("mine", "agent")


@pytest.mark.requirement("a2a.methods")
@pytest.mark.parametrize(("method", "parameters"), [("message/stream", MESSAGE), ("tasks/resubscribe", "{id: t1}")])
async def test_what_streams_becomes_an_array_up_to_the_last(
    runs: Runs, site: Site, method: str, parameters: str
) -> None:
    output = await runs.output(call(method, card(site), parameters), {"what": "write"})
    assert [event["kind"] for event in output] == ["task", "status-update"]


@pytest.mark.requirement("a2a.methods")
@pytest.mark.parametrize(
    "method",
    [
        "tasks/list",
        "tasks/cancel",
        "tasks/pushNotificationConfig/set",
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "tasks/pushNotificationConfig/delete",
        "agent/getAuthenticatedExtendedCard",
    ],
)
async def test_every_other_method_outputs_its_result(runs: Runs, site: Site, method: str) -> None:
    output = await runs.output(call(method, card(site), "'${ .all }'"), {"all": {"id": "t1"}})
    assert (output["method"], output["params"]) == (method, {"id": "t1"})


@pytest.mark.requirement("a2a.errors", "error.raised")
async def test_an_error_of_the_agent_is_a_runtime_error_with_code_message_and_data(runs: Runs, site: Site) -> None:
    error = await runs.error(call("tasks/get", card(site), "{id: other}"))
    assert error["type"].endswith("/errors/runtime")
    assert 'error -32001: Task not found; {"id": "other"}' in error["detail"]


async def test_an_agent_without_a_card_is_asked_at_its_address(runs: Runs, site: Site) -> None:
    output = await runs.output(call("tasks/list", f"server: '{site.url}/rpc'"))
    assert output["method"] == "tasks/list"


async def test_credentials_go_to_the_agent_and_never_where_a_card_alone_leads(runs: Runs, site: Site) -> None:
    policy = "authentication: {bearer: {token: tok-12345}}"
    at = f"server: {{uri: '{site.url}', {policy}}}"
    await runs.output(call("tasks/list", at))
    assert site.seen("/rpc")[-1].headers["authorization"] == "Bearer tok-12345"
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    site.page("/card", {"url": f"{elsewhere}/rpc"})
    await runs.output(call("tasks/list", f"agentCard: {{endpoint: {{uri: '{site.url}/card', {policy}}}}}"))
    assert "authorization" not in site.seen("/rpc")[-1].headers


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Response(b"<p>"), "communication", "is no JSON-RPC"),
        (Response({"jsonrpc": "2.0", "id": "1"}), "communication", "is no JSON-RPC"),
        (Response(b"down", 503), "communication", "answered 503"),
        (Response(b"x" * 2_000_000), "communication", "cap"),
        (events({"jsonrpc": "2.0", "error": {"code": -32603, "message": "oh"}}), "runtime", "error -32603: oh"),
        (events("what"), "communication", "is no JSON-RPC"),
    ],
    ids=["rubbish", "empty", "down", "huge", "error-event", "odd-event"],
)
@pytest.mark.parametrize("method", ["tasks/resubscribe"])
async def test_odd_answers_are_clear_errors(
    runs: Runs, site: Site, answer: Response, kind: str, said: str, method: str
) -> None:
    site.page("/rpc", answer)
    error = await runs.error(call(method, card(site)))
    assert error["type"].endswith(f"/errors/{kind}")
    assert said in error["detail"]


async def test_an_agent_that_never_answers_and_one_without_json_rpc_are_clear_errors(runs: Runs, site: Site) -> None:
    async def never(_: Request) -> Response:
        await asyncio.sleep(60)
        return Response({})

    site.page("/rpc", never)
    text = call("message/send", card(site), MESSAGE, ", timeout: {after: PT0.5S}")
    assert (await runs.error(text, {"what": "x"}))["status"] == 408
    site.page("/grpc", {"url": "http://localhost", "preferredTransport": "GRPC"})
    error = await runs.error(call("tasks/list", f"agentCard: {{endpoint: '{site.url}/grpc'}}"))
    assert "names no address for JSON-RPC" in error["detail"]
    assert "no message" in (await runs.error(call("message/send", card(site))))["detail"]


async def test_the_outbound_guard_holds_for_agents(start_runner: StartRunner, site: Site) -> None:
    strict = await start_runner(outbound_allow_loopback=False)
    assert (await strict.error(call("tasks/list", card(site))))["status"] == 403
