"""A secret that is handed to a run, and where it is found afterwards: nowhere, and in no recording."""

from __future__ import annotations

import base64

import pytest
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, phase

pytestmark = pytest.mark.slow

MAIN, HELPER = "You keep secrets.", "You help to keep them."
SUB_AGENT = {"name": "helper", "description": "Looks.", "instructions": HELPER}
KEY, TOKEN = "sk-canary-77a1f0c4-key", "canary-5e1f0c77-token"
FORMS = [form for each in (KEY, TOKEN) for form in (each.encode(), base64.b64encode(each.encode()).rstrip(b"="))]
DONE = "EXECUTION_COMPLETED"
FINAL = (DONE, "EXECUTION_FAILED")


def _conversation(server: OpenAIServer) -> None:
    server.replies[MAIN] = [
        {"text": "I use it.", "tool_calls": [("execute", {"command": "echo $TOKEN; printf %s $TOKEN | base64"})]},
        {"tool_calls": [("execute", {"command": "cat /nowhere/$TOKEN; exit 3"}), ("task", _asks())]},
        {"text": "It costs $5."},
    ]
    server.replies[HELPER] = [{"tool_calls": [("execute", {"command": "env"})]}, {"text": "Seen."}]


def _asks() -> dict[str, str]:
    return {"subagent_type": "helper", "description": "Look around"}


async def test_a_secret_is_found_nowhere_after_a_run_and_its_recording_plays_back(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    stack = own_stigmer.stack
    _conversation(openai_server)
    await stack.start_runner(STIGMER_LLM_RECORD=str(stack.folder / "scripts"))
    agent = await own_stigmer.agent(MAIN, sub_agents=[SUB_AGENT])
    execution = await own_stigmer.execute(
        agent,
        "Use the token.",
        model="openai:test",
        env={"OPENAI_BASE_URL": openai_server.url},
        secrets={"OPENAI_API_KEY": KEY, "TOKEN": TOKEN},
    )
    identifier = execution.metadata.id
    seen = await own_stigmer.follow(identifier, lambda status: phase(status) in FINAL)
    assert phase(seen[-1]) == DONE, seen[-1].error
    await own_stigmer.workflow_ended(identifier)
    handle = own_stigmer.temporal.get_workflow_handle(f"stigmer/agent-execution/invoke/{identifier}")
    history = b"".join(event.SerializeToString() for event in (await handle.fetch_history()).events)
    assert identifier.encode() in history

    places = {
        "history": history,
        "stream": "".join(map(str, seen)).encode(),
        "prompts": str(openai_server.calls).encode(),
    }
    places |= {str(path): path.read_bytes() for path in stack.folder.rglob("*") if path.is_file()}
    assert any(name.endswith("journal.db") for name in places)
    assert any(name.endswith("stigmer.db") for name in places)
    assert not {name for name, data in places.items() if any(form in data for form in FORMS)}
    assert "***REDACTED***" in str(openai_server.calls), "the tools had the secret"

    played = await own_stigmer.run(agent, "Use the token.", model=f"scripted:{identifier}")
    assert phase(played) == DONE, played.error
    assert [message.content for message in played.messages if message.content][-1] == "It costs $5."
    assert sorted(call.name for call in played.tool_calls) == ["execute", "execute", "execute", "task"]
