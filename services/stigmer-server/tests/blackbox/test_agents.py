"""Agents: what is wrong with one is refused when it is stored, and what it names has to be there when it is run."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

INVALID = "INVALID_ARGUMENT"
STDIO = {"stdio": {"command": "cat"}}
CLERK = {"name": "clerk", "description": "Adds.", "instructions": "You add numbers."}
SKILL = {"kind": 43, "slug": "no-such-skill"}


Specs = list[tuple[dict[str, Any], dict[str, str]]]


def server(name: str = "shop", **more: Any) -> dict[str, Any]:
    return {"name": name, **(more or STDIO)}


CONTRADICTIONS: Specs = [
    ({"mcpServers": [server(), server()]}, {"spec.mcp_servers[1].name": "agent.mcp_servers.name.unique"}),
    ({"subAgents": [CLERK, CLERK]}, {"spec.sub_agents[1].name": "agent.sub_agents.name.unique"}),
    (
        {
            "mcpServers": [server()],
            "subAgents": [{**CLERK, "mcpServers": ["shop", "other"], "mcpToolSelections": {"third": {}}}],
        },
        {
            "spec.sub_agents[0].mcp_servers[1]": "agent.mcp_servers.unknown",
            "spec.sub_agents[0].mcp_tool_selections[third]": "agent.mcp_servers.unknown",
        },
    ),
    ({"model": "openai:"}, {"spec.model": "model.shape"}),
    (
        {"model": "gpt 5", "fallbackModels": ["openai:gpt-5", ":x"]},
        {"spec.model": "model.shape", "spec.fallback_models[1]": "model.shape"},
    ),
    (
        {"model": "opnai:gpt-5", "fallbackModels": ["Anthropic:claude", "llama3:8b", "openchat:7b", "vllm:openai"]},
        {"spec.model": "model.provider.unknown", "spec.fallback_models[0]": "model.provider.unknown"},
    ),
    (
        {
            "approvalPolicies": [
                {"tool": "exceute"},
                {"tool": "execute"},
                {"tool": "exce*"},
                {"tool": "*", "server": "x"},
            ]
        },
        {
            "spec.approval_policies[0].tool": "agent.approval_policies.tool.unknown",
            "spec.approval_policies[3].server": "agent.mcp_servers.unknown",
        },
    ),
    ({"outputSchema": {"type": "nonsense"}}, {"spec.output_schema": "output_schema.invalid"}),
    ({"budget": {"maxTokens": -1}}, {"spec.budget.max_tokens": "int64.gte"}),
]


@pytest.mark.rpc("agent/create", INVALID)
@pytest.mark.parametrize(("spec", "fields"), CONTRADICTIONS)
def test_an_agent_that_contradicts_itself_is_refused(
    client: Any, make: Any, spec: dict[str, Any], fields: dict[str, str]
) -> None:
    sent = make.manifest("agent", spec=spec)
    assert client.refused("agent/create", sent, INVALID).fields == fields


@pytest.mark.rpc("agent/create")
def test_an_agent_may_name_what_comes_later(client: Any, make: Any) -> None:
    spec = {
        "mcpServers": [server("later"), server("shop")],
        "subAgents": [{**CLERK, "mcpServers": ["later"], "mcpToolSelections": {"shop": {"enabledTools": ["add"]}}}],
        "skillRefs": [SKILL],
        "approvalPolicies": [{"tool": "pay", "server": "shop"}, {"tool": "shop__add"}, {"tool": "*", "server": "sh*"}],
        "model": "qwen2.5-coder:7b",
        "outputSchema": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
    }
    assert make("agent", spec=spec).metadata.id


@pytest.mark.rpc("agent_execution/create", INVALID)
@pytest.mark.parametrize(
    ("spec", "rule", "said"),
    [
        ({"skillRefs": [SKILL]}, "agent.skill.missing", "spec.skill_refs[0]"),
        ({"subAgents": [{**CLERK, "skillRefs": [SKILL]}]}, "agent.skill.missing", "spec.sub_agents[0].skill_refs[0]"),
        ({"mcpServers": [{"name": "nowhere"}]}, "agent.mcp_server.missing", "no McpServer 'nowhere'"),
    ],
)
def test_an_execution_whose_agent_names_what_is_not_there_is_refused(
    client: Any, make: Any, spec: dict[str, Any], rule: str, said: str
) -> None:
    agent = make("agent", spec=spec)
    sent = make.manifest("agent_execution", spec={"agentId": agent.metadata.id})
    error = client.refused("agent_execution/create", sent, INVALID)
    assert error.fields == {"spec.agent_id": rule}
    assert said in error.message


@pytest.mark.rpc("agent_execution/create", INVALID)
def test_an_execution_needs_what_its_agents_servers_are_to_be_filled_with(client: Any, make: Any) -> None:
    reached = {
        "url": "https://${HOST}/mcp",
        "headers": {"Authorization": "Bearer ${KEY}"},
        "queryParams": {"t": "${T}"},
    }
    program = {"command": "cat", "args": ["${ARG}"], "envPlaceholders": {"X": "${SET}"}}
    spec = {
        "envSpec": {"data": {"SET": {"value": "by the agent"}}},
        "mcpServers": [server("web", http=reached), server("shop", stdio=program)],
    }
    agent = make("agent", spec=spec)
    wanted = {"agentId": agent.metadata.id, "runtimeEnv": {"HOST": {"value": "x.example"}}}
    error = client.refused("agent_execution/create", make.manifest("agent_execution", spec=wanted), INVALID)
    assert error.fields == {f"spec.runtime_env[{name}]": "agent_execution.env.required" for name in ("ARG", "KEY", "T")}
    assert "spec.mcp_servers[0] of the agent needs KEY" in error.message
    given = {name: {"value": name} for name in ("HOST", "ARG", "KEY", "T")}
    assert make("agent_execution", spec={"agentId": agent.metadata.id, "runtimeEnv": given}).metadata.id


@pytest.mark.rpc("agent_execution/create")
def test_servers_that_a_run_can_miss_are_not_asked_for(client: Any, make: Any) -> None:
    spec = {"mcpServers": [{"name": "nowhere"}, server("web", http={"url": "https://${HOST}/"})]}
    agent = make("agent", spec=spec, annotations={"stigmer.ai/mcp-optional": "nowhere, web"})
    assert make("agent_execution", spec={"agentId": agent.metadata.id}).metadata.id


@pytest.mark.rpc("agent_execution/create", INVALID)
def test_an_mcp_server_resource_says_what_it_needs(client: Any, make: Any) -> None:
    variables = {"KEY": {"isSecret": True}, "CITY": {"value": "Oslo"}}
    resource = make("mcp_server", spec={**STDIO, "envSpec": {"data": variables}})
    agent = make("agent", spec={"mcpServers": [{"name": resource.metadata.slug}]})
    sent = make.manifest("agent_execution", spec={"agentId": agent.metadata.id})
    error = client.refused("agent_execution/create", sent, INVALID)
    assert error.fields == {"spec.runtime_env[KEY]": "agent_execution.env.required"}


@pytest.mark.rpc("agent_execution/create", INVALID)
def test_an_execution_names_models_and_schemas_that_may_be(client: Any, make: Any) -> None:
    config = {"modelName": "openai:", "fallbackModels": ["x y"], "outputSchema": {"required": 1}}
    sent = make.manifest("agent_execution", spec={"agentId": make("agent").metadata.id, "executionConfig": config})
    assert client.refused("agent_execution/create", sent, INVALID).fields == {
        "spec.execution_config.model_name": "model.shape",
        "spec.execution_config.fallback_models[0]": "model.shape",
        "spec.execution_config.output_schema": "output_schema.invalid",
    }


@pytest.mark.rpc("agent_execution/create", INVALID)
def test_a_version_of_a_skill_has_to_be_there(client: Any, make: Any) -> None:
    message = client.message(
        "skill/push", {"name": "Versioned", "scope": "organization", "org": client.org, "tag": "a"}
    )
    message.artifact = _archive("# One")
    first = client("skill/push", message)
    message.artifact, message.tag = _archive("# Two"), "b"
    client("skill/push", message)

    def execution(version: str) -> dict[str, Any]:
        reference = {"kind": 43, "slug": first.metadata.slug, "scope": "organization", "version": version}
        agent = make("agent", spec={"skillRefs": [reference]})
        return make.manifest("agent_execution", spec={"agentId": agent.metadata.id})

    for version in ("", "latest", "a", "b", first.status.version_hash):
        assert client("agent_execution/create", execution(version)).metadata.id
    for version in ("c", "0" * 64):
        error = client.refused("agent_execution/create", execution(version), INVALID)
        assert error.fields == {"spec.agent_id": "agent.skill.version_missing"}


def _archive(text: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("SKILL.md"), text)
    return content.getvalue()
