"""Whole runs over servers that speak providers' APIs: what they answer, and every way in which they fail to."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from agent_runner.loopback.anthropic import AnthropicServer
from agent_runner.loopback.google import GoogleServer
from agent_runner.loopback.ollama import OllamaServer
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.loopback.server import ModelServer
from agent_runner.testing import Stigmer, enum_name, phase

pytestmark = pytest.mark.slow

DONE, FAILED = "EXECUTION_COMPLETED", "EXECUTION_FAILED"
MAIN, HELPER = "You are the main agent.", "You are the helper agent."
SUB_AGENT = {"name": "helper", "description": "Looks things up.", "instructions": HELPER}

ASKS = {"subagent_type": "helper", "description": "Look"}


@dataclass(slots=True, kw_only=True)
class Provider:
    """A provider, and what a run needs to ask it."""

    name: str
    server: ModelServer
    key: str = ""
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@pytest.fixture(params=["openai", "anthropic", "google", "ollama"])
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Each provider that has a server here."""
    made = _provider(request.param)
    yield made
    made.server.close()


@pytest.fixture(params=["openai", "anthropic", "google"])
def keyed_provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Those that most people use."""
    made = _provider(request.param)
    yield made
    made.server.close()


@pytest.fixture(params=["openai", "anthropic"])
def writing_provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Those that send a tool's arguments as text."""
    made = _provider(request.param)
    yield made
    made.server.close()


def _server(name: str, tls: ssl.SSLContext | None = None) -> ModelServer:
    servers = {"anthropic": AnthropicServer, "google": GoogleServer, "ollama": OllamaServer}
    return servers.get(name, OpenAIServer)(tls)


def _provider(name: str) -> Provider:
    server = _server(name)
    key = "" if name == "ollama" else f"sk-of-{name}"
    options: dict[str, Any] = {"model": f"{name}:test", "env": {f"{name.upper()}_BASE_URL": server.url}}
    options["secrets"] = {f"{name.upper()}_API_KEY": key} if key else {}
    return Provider(name=name, server=server, key=key, options=options)


def _texts(status: Any, kind: str = "MESSAGE_AI") -> list[str]:
    return [message.content for message in status.messages if enum_name(message, "type") == kind]


def _results(server: ModelServer) -> list[str]:
    """What the model was told that its tools gave, in the last call."""
    found: list[str] = []
    for message in server.calls[-1]["messages"]:
        parts: Any = message["content"] if isinstance(message["content"], list) else []
        found += [str(part["content"]) for part in parts if part.get("type") == "tool_result"]
        found += [str(message["content"])] if message["role"] == "tool" else []
    return found


async def test_a_run_with_tools_and_a_sub_agent_over_a_providers_own_protocol(
    stigmer: Stigmer, provider: Provider
) -> None:
    provider.server.replies = {
        MAIN: [
            {
                "text": "I ask, and I write.",
                "tool_calls": [("task", {"subagent_type": "helper", "description": "Look"})],
            },
            {"tool_calls": [("write_file", {"file_path": "/a.txt", "content": "ä"}), ("ls", {"path": "/"})]},
            {"text": "Two words.", "usage": (200, 20)},
        ],
        HELPER: [{"tool_calls": [("ls", {"path": "/"})], "usage": (5, 2)}, {"text": "Looked."}],
    }
    status = await stigmer.run(await stigmer.agent(MAIN, sub_agents=[SUB_AGENT]), "Go", **provider.options)

    assert phase(status) == DONE, status.error
    assert _texts(status) == ["I ask, and I write.", "", "Two words."]
    assert sorted(call.name for call in status.tool_calls) == ["ls", "ls", "task", "write_file"]
    assert {enum_name(call, "status") for call in status.tool_calls} == {"TOOL_CALL_COMPLETED"}
    assert (status.usage.model_calls, status.usage.input_tokens, status.usage.output_tokens) == (5, 208, 25)
    assert set(provider.server.keys) == {provider.key}


async def test_a_server_of_ones_own_has_its_key_headers_and_authority(stigmer: Stigmer) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType] - trustme's own
    agent = await stigmer.agent(MAIN)
    for name in ("openai", "anthropic", "google", "ollama", "lab"):
        server = _server(name, tls)
        prefix, header = name.upper(), f"secret-of-{name}"
        server.replies[MAIN] = [{"tool_calls": [("ls", {"path": "/"})]}, {"text": f"You sent {header}."}]
        env = {f"{prefix}_BASE_URL": server.url, f"{prefix}_CA": authority.cert_pem.bytes().decode()}
        secrets = {f"{prefix}_API_KEY": f"key-of-{name}", f"{prefix}_CUSTOM_HEADERS": f"X-Gate: {header}\nX-Team: core"}
        status = await stigmer.run(agent, "Go", model=f"{name}:test", env=env, secrets=secrets)
        server.close()

        assert phase(status) == DONE, status.error
        assert _texts(status)[-1] == "You sent ***REDACTED***."
        assert set(server.keys) == {f"key-of-{name}"}
        assert {(each["x-gate"], each["x-team"]) for each in server.headers} == {(header, "core")}


async def test_a_server_that_is_not_trusted_is_told_nothing_and_one_of_another_name_stands_in(stigmer: Stigmer) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType] - trustme's own
    agent = await stigmer.agent(MAIN, model="openai:test", fallback_models=["lab:spare"])
    server, spare = _server("openai", tls), _server("lab")
    spare.replies[MAIN] = [{"text": "I am the spare."}]
    env = {"OPENAI_BASE_URL": server.url, "LAB_BASE_URL": spare.url}
    status = await stigmer.run(agent, "Go", env=env, secrets={"OPENAI_API_KEY": "k"})
    assert (phase(status), _texts(status)) == (DONE, ["I am the spare."])
    assert server.calls == []
    for each in (server, spare):
        each.close()


async def test_arguments_that_are_no_json_go_back_to_the_model_as_an_error(
    stigmer: Stigmer, writing_provider: Provider
) -> None:
    writing_provider.server.replies[MAIN] = [
        {"tool_calls": [("ls", '{"path": "/", nonsense'), ("glob", {"pattern": "*", "path": "/"})]},
        {"text": "I see."},
    ]
    status = await stigmer.run(await stigmer.agent(MAIN), "Go", **writing_provider.options)

    assert phase(status) == DONE, status.error
    assert _texts(status)[-1] == "I see."
    broken, fine = sorted(status.tool_calls, key=lambda call: call.name, reverse=True)
    assert (enum_name(broken, "status"), enum_name(fine, "status")) == ("TOOL_CALL_FAILED", "TOOL_CALL_COMPLETED")
    assert "nonsense" in str(broken.args)
    assert any("not valid JSON" in result for result in _results(writing_provider.server))


async def test_arguments_that_are_nested_without_end_are_shown_in_part(
    stigmer: Stigmer, keyed_provider: Provider
) -> None:
    nested: Any = "the core"
    for _ in range(120):
        nested = {"in": [nested]}
    keyed_provider.server.replies[MAIN] = [
        {"tool_calls": [("ls", {"path": "/", "deep": nested})]},
        {"text": "I see."},
    ]
    status = await stigmer.run(await stigmer.agent(MAIN), "Go", **keyed_provider.options)
    assert phase(status) == DONE, status.error
    (call,) = status.tool_calls
    assert "the core" in str(call.args)


async def test_a_tool_that_does_not_exist_or_does_not_take_this_is_an_error_for_the_model(
    stigmer: Stigmer, keyed_provider: Provider
) -> None:
    keyed_provider.server.replies[MAIN] = [
        {"tool_calls": [("fly", {"to": "moon"}), ("read_file", {"line": "seven"})]},
        {"text": "I see."},
    ]
    status = await stigmer.run(await stigmer.agent(MAIN), "Go", **keyed_provider.options)

    assert phase(status) == DONE, status.error
    assert {enum_name(call, "status") for call in status.tool_calls} == {"TOOL_CALL_FAILED"}
    results = _results(keyed_provider.server)
    assert any("fly is not a valid tool" in result for result in results)
    assert any("file_path" in result for result in results)


@pytest.mark.parametrize("broken", ["cut", "fade"])
async def test_a_stream_that_breaks_off_is_asked_for_again(
    stigmer: Stigmer, keyed_provider: Provider, broken: str
) -> None:
    keyed_provider.server.first = [{"text": "Half an answer", broken: True}]
    keyed_provider.server.replies[MAIN] = [{"text": "A whole answer."}]
    status = await stigmer.run(await stigmer.agent(MAIN), "Go", **keyed_provider.options)

    assert phase(status) == DONE, status.error
    assert _texts(status) == ["A whole answer."]
    assert any("Trying again" in notice for notice in _texts(status, "MESSAGE_SYSTEM"))


async def test_a_model_that_says_when_to_come_back_is_asked_again_then(
    stigmer: Stigmer, keyed_provider: Provider
) -> None:
    keyed_provider.server.first = [{"status": 429, "headers": {"Retry-After": "1"}}, {"status": 529}]
    keyed_provider.server.replies[MAIN] = [{"text": "Here I am."}]
    status = await stigmer.run(await stigmer.agent(MAIN), "Go", **keyed_provider.options)

    assert (phase(status), _texts(status)) == (DONE, ["Here I am."])
    assert len(keyed_provider.server.calls) == 3


async def test_a_storm_of_refusals_ends_the_run_after_a_bounded_number_of_calls(
    stigmer: Stigmer, keyed_provider: Provider
) -> None:
    storm = {"status": 429, "message": "slow down", "headers": {"retry-after": "0.05", "retry-after-ms": "50"}}
    keyed_provider.server.first = [storm] * 1000
    status = await stigmer.run(await stigmer.agent(MAIN), "Go", **keyed_provider.options)

    assert phase(status) == FAILED
    assert "answered with status 429" in status.error
    assert "slow down" in status.error
    # Six attempts, with two repetitions by the provider's client each; Google's waits as it likes, and makes none.
    assert len(keyed_provider.server.calls) == (6 if keyed_provider.name == "google" else 18)
    notices = [notice for notice in _texts(status, "MESSAGE_SYSTEM") if "Trying again" in notice]
    assert "429" in notices[-1]
    assert "attempt 5 of 6" in notices[-1]


async def test_a_stream_that_stands_still_is_left_in_time_and_asked_for_again(own_stigmer: Stigmer) -> None:
    await own_stigmer.stack.start_runner(STIGMER_LLM_TIMEOUT_SECONDS="2")
    agent = await own_stigmer.agent(MAIN)
    for made in (_provider("openai"), _provider("anthropic")):
        made.server.first = [{"text": "Half an answer", "stall": True}]
        made.server.replies[MAIN] = [{"text": "A whole answer."}]
        status = await own_stigmer.run(agent, "Go", **made.options)
        made.server.close()

        assert (phase(status), _texts(status)) == (DONE, ["A whole answer."])
        assert len(made.server.calls) == 2
        assert any("within 2 s" in notice for notice in _texts(status, "MESSAGE_SYSTEM"))
