"""MCP servers: the official library's own, as a process in the sandbox and behind HTTP, and odd ones."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS
from temporalio.client import Client
from workflow_runner import names
from workflow_runner.tasks.call_mcp import VERSIONS
from workflow_runner.testing import Request, Response, Runs, Site, StartRunner

SERVERS = Path(__file__).parent / "servers"
READABLE = ":".join(dict.fromkeys([sys.prefix, sys.base_prefix, str(SERVERS)]))


@pytest.fixture
async def runs(start_runner: StartRunner) -> Runs:
    """A worker whose processes see the official library."""
    return await start_runner(sandbox_readable=READABLE)


@contextmanager
def http_server(token: str = "") -> Generator[str]:
    """The official server behind HTTP; its address."""
    environment = {**os.environ, "TOKEN": token}
    command = [sys.executable, str(SERVERS / "mcp_server.py"), "--http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    with http_server() as found:
        yield found


def stdio(*arguments: str, server: str = "mcp_server.py", environment: str = "{}") -> str:
    listed = json.dumps(["-I", str(SERVERS / server), *arguments])
    return f"stdio: {{command: {sys.executable}, arguments: {listed}, environment: {environment}}}"


@pytest.fixture
def http(address: str) -> str:
    return f"http: {{endpoint: '{address}'}}"


@pytest.fixture(params=["stdio", "http"])
def transport(request: pytest.FixtureRequest, http: str) -> str:
    return stdio() if request.param == "stdio" else http


def call(method: str, transport: str, parameters: str = "{}", more: str = "", rest: str = "") -> str:
    with_ = f"method: {method}, parameters: {parameters}, transport: {{{transport}}}{more}"
    return f"do:\n- it: {{call: mcp, with: {{{with_}}}{rest}}}"


@pytest.mark.requirement("mcp.methods")
async def test_every_method_outputs_the_result_of_the_server(runs: Runs, http: str) -> None:
    async def output(method: str, parameters: str = "{}") -> Any:
        return await runs.output(call(method, http, parameters), {"n": 2, "who": "Ada"})

    assert [tool["name"] for tool in (await output("tools/list"))["tools"]] == ["add", "tell", "fail"]
    assert [prompt["name"] for prompt in (await output("prompts/list"))["prompts"]] == ["greet"]
    prompt = await output("prompts/get", "{name: greet, arguments: {name: '${ .who }'}}")
    assert prompt["messages"][0]["content"] == {"type": "text", "text": "Say hello to Ada."}
    assert [one["uri"] for one in (await output("resources/list"))["resources"]] == ["shop://menu"]
    read = await output("resources/read", "{uri: 'shop://dish/soup'}")
    assert read["contents"][0]["text"] == "a good soup"
    templates = await output("resources/templates/list")
    assert [one["uriTemplate"] for one in templates["resourceTemplates"]] == ["shop://dish/{name}"]


@pytest.mark.requirement("mcp.transports")
async def test_a_tool_is_called_over_either_transport(runs: Runs, transport: str) -> None:
    called = await runs.output(call("tools/call", transport, "{name: add, arguments: {a: '${ .n }', b: 3}}"), {"n": 2})
    assert called["structuredContent"] == {"sum": 5}
    assert json.loads(called["content"][0]["text"]) == {"sum": 5}


@pytest.mark.requirement("mcp.version")
@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", "2026-07-28"])
async def test_a_version_of_the_protocol_can_be_asked_for(runs: Runs, http: str, version: str) -> None:
    more = f", protocolVersion: '{version}', client: {{name: tester, version: '7'}}"
    output = await runs.output(call("tools/call", http, "{name: add, arguments: {a: 1, b: 1}}", more))
    assert output["structuredContent"] == {"sum": 2}


async def test_the_newest_version_is_spoken_with_processes_too(runs: Runs) -> None:
    text = call("tools/call", stdio(), "{name: add, arguments: {a: 1, b: 1}}", ", protocolVersion: '2026-07-28'")
    assert (await runs.output(text))["structuredContent"] == {"sum": 2}


def test_the_versions_are_those_of_the_library() -> None:
    assert VERSIONS == KNOWN_PROTOCOL_VERSIONS


async def test_parameters_may_be_one_expression(runs: Runs, address: str) -> None:
    text = call("tools/call", "http: {endpoint: '${ .at }'}", "'${ .what }'")
    data = {"at": address, "what": {"name": "add", "arguments": {"a": 2, "b": 2}}}
    assert (await runs.output(text, data))["structuredContent"] == {"sum": 4}


@pytest.mark.requirement("mcp.errors", "error.raised")
async def test_a_failed_tool_is_a_runtime_error_with_what_it_says(runs: Runs, transport: str) -> None:
    error = await runs.error(call("tools/call", transport, "{name: fail, arguments: {reason: no flour}}"))
    assert (error["status"], error["instance"]) == (500, "/do/0/it")
    assert error["type"].endswith("/errors/runtime")
    assert "no flour" in error["detail"]


@pytest.mark.requirement("mcp.errors")
async def test_an_error_of_the_server_is_a_runtime_error_with_its_code(runs: Runs, http: str) -> None:
    error = await runs.error(call("prompts/get", http, "{name: missing}"))
    assert error["type"].endswith("/errors/runtime")
    assert "answered with error" in error["detail"]


@pytest.mark.requirement("mcp.stdio")
async def test_a_process_has_its_environment_and_nothing_of_the_runner(runs: Runs) -> None:
    environment = "{KEY: '${ $secrets.KEY }', N: '${ .n }'}"

    def tell(name: str) -> str:
        return call("tools/call", stdio(environment=environment), f"{{name: tell, arguments: {{name: {name}}}}}")

    async def told(name: str) -> str:
        output = await runs.output("use: {secrets: [KEY]}\n" + tell(name), {"n": 3}, secrets={"KEY": "s3cret-key"})
        return output["content"][0]["text"]

    assert await told("N") == "3"
    assert "REDACTED" in await told("KEY")


@pytest.mark.requirement("mcp.http")
async def test_headers_and_authentication_go_with_every_request(runs: Runs) -> None:
    with http_server(token="tok-12345") as guarded:
        secret = "use: {secrets: [TOKEN]}\n"
        policy = "authentication: {bearer: {token: '${ $secrets.TOKEN }'}}"
        text = secret + call("tools/list", f"http: {{endpoint: {{uri: '{guarded}', {policy}}}}}")
        assert len((await runs.output(text, secrets={"TOKEN": "tok-12345"}))["tools"]) == 3
        headers = "headers: {Authorization: 'Bearer ${.secrets.TOKEN}'}"
        text = secret + call("tools/list", f"http: {{endpoint: '{guarded}', {headers}}}")
        assert len((await runs.output(text, secrets={"TOKEN": "tok-12345"}))["tools"]) == 3
        error = await runs.error(call("tools/list", f"http: {{endpoint: '{guarded}'}}"))
        assert error["status"] == 401
        assert error["type"].endswith("/errors/authentication")
        assert "who are you" in error["detail"]


def odd(mode: str, more: str = "", rest: str = "") -> str:
    return call("tools/list", stdio(mode, server="odd_mcp_server.py"), more=more, rest=rest)


async def test_pages_are_followed_unless_one_is_asked_for(runs: Runs) -> None:
    output = await runs.output(odd("pages"))
    assert [tool["name"] for tool in output["tools"]] == ["tool0", "tool1", "tool2"]
    assert "nextCursor" not in output
    one = call("tools/list", stdio("pages", server="odd_mcp_server.py"), "{cursor: '1'}")
    page = await runs.output(one)
    assert ([tool["name"] for tool in page["tools"]], page["nextCursor"]) == (["tool1"], "2")


@pytest.mark.parametrize(
    ("mode", "output"), [("polite", "polite"), ("ask_back", "refused-32600")], ids=["greets", "asks-back"]
)
async def test_servers_that_greet_or_ask_back_are_borne_with(runs: Runs, mode: str, output: str) -> None:
    assert [tool["name"] for tool in (await runs.output(odd(mode)))["tools"]] == [output]


@pytest.mark.parametrize(
    ("mode", "kind", "said"),
    [
        ("die", "communication", "exit code 3 before it answered; it said: out of paper"),
        ("rubbish", "communication", "it writes other things than messages of the protocol: all work and no play"),
        ("broken", "communication", 'no message of the protocol: {"jsonrpc"'),
        ("huge", "communication", "larger than the 1500000 bytes"),
        ("wrong", "communication", "not as the protocol says: tools"),
        ("endless", "communication", "do not end"),
        ("old", "communication", "speaks version '1999-01-01'"),
        ("refuse", "runtime", "error -32042: not today; {'n': 1}"),
    ],
)
async def test_a_server_that_does_what_it_should_not_is_a_clear_error(
    runs: Runs, mode: str, kind: str, said: str
) -> None:
    error = await runs.error(odd(mode))
    assert error["type"].endswith(f"/errors/{kind}")
    assert said in error["detail"]


def running(mark: str) -> list[str]:
    lines: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if mark in line and "pytest" not in line:
                lines.append(line)
    return lines


@pytest.mark.requirement("mcp.timeout")
@pytest.mark.parametrize("where", ["call", "task"])
async def test_a_server_that_never_answers_is_ended_in_time(runs: Runs, where: str) -> None:
    limits = {"call": (", timeout: PT0.8S", ""), "task": ("", ", timeout: {after: PT0.8S}")}
    more, rest = limits[where]
    mark = f"unheard-of-{where}-{os.getpid()}"
    text = call("tools/call", stdio("silent", mark, server="odd_mcp_server.py"), "{name: x}", more, rest)
    error = await runs.error(text)
    assert error["status"] == 408
    async with asyncio.timeout(30):
        while running(mark):  # noqa: ASYNC110 - processes tell nobody of their end
            await asyncio.sleep(0.1)


async def test_tools_are_not_called_again_and_the_rest_may_be(runs: Runs, client: Client, address: str) -> None:
    async def scheduled(method: str, parameters: str) -> list[str]:
        execution = await runs.run(call(method, f"http: {{endpoint: '{address}'}}", parameters))
        history = await client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}").fetch_history()
        found = [event.activity_task_scheduled_event_attributes for event in history.events]
        return [one.activity_type.name for one in found if one.activity_type.name == names.CALL_MCP]

    assert await scheduled("tools/call", "{name: add, arguments: {a: 1, b: 1}}") == [names.CALL_MCP]
    assert await scheduled("tools/list", "{}") == []


@pytest.mark.parametrize(
    ("with_", "pointer", "said"),
    [
        ("transport: {stdio: {command: sh, environment: {LD_PRELOAD: x}}}", "/environment/LD_PRELOAD", "cannot be set"),
        ("transport: {stdio: {command: sh, environment: {PYTHONPATH: x}}}", "/environment/PYTHONPATH", "cannot be set"),
        ("transport: {stdio: {command: sh, environment: {PATH: x}}}", "/environment/PATH", "cannot be set"),
        ("transport: {stdio: {command: nowhere-to-be-found}}", "/stdio/command", "there is no program"),
        ("transport: {stdio: {command: sh}, options: {a: b}}", "/transport/options", "leave them out"),
        ("transport: {stdio: {command: sh}}, protocolVersion: '1999-01-01'", "/protocolVersion", "is not spoken"),
    ],
)
async def test_what_cannot_be_called_is_refused_before_anything_is(
    runs: Runs, with_: str, pointer: str, said: str
) -> None:
    error = await runs.error(f"do:\n- it: {{call: mcp, with: {{method: tools/list, {with_}}}}}")
    assert pointer in error["detail"]
    assert said in error["detail"]


async def test_operators_choose_whether_and_how_processes_run(start_runner: StartRunner, address: str) -> None:
    off = await start_runner(sandbox="off")
    error = await off.error(call("tools/list", stdio()))
    assert "STIGMER_RUN_SANDBOX=off" in error["detail"]
    strict = await start_runner(sandbox_network=False, sandbox_readable=READABLE, outbound_allow_loopback=False)
    error = await strict.error(call("tools/list", stdio(), rest=", metadata: {network: true}"))
    assert error["status"] == 403
    error = await strict.error(call("tools/list", f"http: {{endpoint: '{address}'}}"))
    assert error["status"] == 403
    assert error["type"].endswith("/errors/authorization")


async def test_a_process_has_the_network_only_if_its_task_asks(runs: Runs, site: Site) -> None:
    site.page("/up", "yes")
    script = (
        "import urllib.request, sys, json; request = json.loads(input()); "
        f"urllib.request.urlopen('{site.url}/up'); print('x', file=sys.stderr); sys.exit(9)"
    )
    transport = f"stdio: {{command: {sys.executable}, arguments: [-I, -c, {json.dumps(script)}]}}"
    assert "exit code 1" in (await runs.error(call("tools/list", transport)))["detail"]
    asking = call("tools/list", transport, rest=", metadata: {network: true}")
    assert "exit code 9" in (await runs.error(asking))["detail"]


def page(body: Any, status: int = 200, kind: str = "application/json") -> Callable[[Request], Response]:
    return lambda _: Response(body, status, {"content-type": kind})


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (page(b"not json"), "communication", "Failed to parse"),
        (page(b" " * 2_000_000), "communication", "more than the cap"),
        (page(b"<p>", kind="text/html"), "communication", "with text/html, which is no message"),
        (page(b"broken down", 500, "text/plain"), "communication", "answered 500: broken down"),
        (page({"error": "no"}, 403), "runtime", "error"),
        (page(b"data: nothing\n\n", kind="text/event-stream"), "communication", "cannot be read"),
        (page(b": hello\n\n", kind="text/event-stream"), "communication", "ended"),
        (page(b"", 202), "runtime", "202"),
    ],
    ids=["rubbish", "huge", "html", "down", "refused", "event", "no-event", "accepted"],
)
async def test_odd_answers_over_http_are_clear_errors(
    runs: Runs, site: Site, answer: Callable[[Request], Response], kind: str, said: str
) -> None:
    site.page("/mcp", answer)
    error = await runs.error(call("tools/list", f"http: {{endpoint: '{site.url}/mcp'}}"))
    assert error["type"].endswith(f"/errors/{kind}")
    assert said in error["detail"]


async def test_an_address_where_nobody_is_and_a_redirect_elsewhere_are_clear_errors(runs: Runs, site: Site) -> None:
    error = await runs.error(call("tools/list", "http: {endpoint: 'http://127.0.0.1:1/mcp'}"))
    assert (error["status"], "POST http://127.0.0.1:1/mcp" in error["detail"]) == (503, True)
    site.page("/mcp", Response(b"", 307, {"location": "http://127.0.0.1:1/other"}))
    error = await runs.error(call("tools/list", f"http: {{endpoint: '{site.url}/mcp'}}"))
    assert "not followed" in error["detail"]
