"""A run as a client sees it, over the real server and the real Temporal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, enum_name, phase
from stigmer_grpc.errors import InvalidArgumentError, PermissionDeniedError
from stigmer_runner.contract_testing import contract_server

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
HELPER = {"name": "helper", "description": "Looks things up.", "instructions": "You are the helper agent."}


def _texts(status: Any, kind: str) -> list[str]:
    return [message.content for message in status.messages if enum_name(message, "type") == kind]


async def test_without_a_key_the_scripted_model_answers_and_says_so(stigmer: Stigmer) -> None:
    status = await stigmer.run(await stigmer.agent(), "Hello there")

    assert phase(status) == "EXECUTION_COMPLETED"
    assert _texts(status, "MESSAGE_HUMAN") == ["Hello there"]
    assert "You wrote: Hello there" in _texts(status, "MESSAGE_AI")[0]
    assert "scripted model answers" in _texts(status, "MESSAGE_SYSTEM")[0]
    assert RFC_3339.fullmatch(status.started_at)
    assert RFC_3339.fullmatch(status.completed_at)
    assert "the scripted model answers" in stigmer.stack.logs()


async def test_a_turn_shows_its_plan_its_tools_and_its_sub_agents(stigmer: Stigmer) -> None:
    model = stigmer.stack.script(
        "plan",
        """
        conversations:
          - turns:
              - text: I make a plan.
                tool_calls:
                  - name: write_todos
                    args: {todos: [{content: look, status: in_progress}, {content: tell, status: pending}]}
              - tool_calls:
                  - {name: task, args: {subagent_type: helper, description: Look it up}}
                  - {name: read_file, args: {file_path: /missing.txt}}
              - text: "Found: $result"
                tool_calls:
                  - name: write_todos
                    args: {todos: [{content: look, status: completed}, {content: tell, status: completed}]}
              - text: All done.
          - agent: helper
            turns:
              - tool_calls: [{name: write_file, args: {file_path: /notes.txt, content: 42}}]
              - text: It is 42.
        """,
    )
    execution = await stigmer.execute(await stigmer.agent(sub_agents=[HELPER]), "Go", model=model)
    seen = await stigmer.follow(execution.metadata.id, lambda status: phase(status) == "EXECUTION_COMPLETED")
    status = seen[-1]

    said = _texts(status, "MESSAGE_AI")
    assert (said[:2], said[3:]) == (["I make a plan.", ""], ["All done."])
    assert said[2].startswith("Found: ")
    ids = [message.metadata.fields["message_id"].string_value for message in status.messages]
    assert len(set(ids)) == len(ids)
    calls = {call.name: call for call in status.tool_calls}
    assert enum_name(calls["task"], "status") == "TOOL_CALL_COMPLETED"
    assert calls["task"].component_metadata.component_type == "subagent"
    assert enum_name(calls["read_file"], "status") == "TOOL_CALL_FAILED"
    assert "missing.txt" in calls["read_file"].error
    assert calls["write_file"].component_metadata.component_group == f"sub-agent-tools:{calls['task'].id}"
    assert [call.name for call in status.messages[2].tool_calls] == ["task", "read_file"]
    assert all(
        RFC_3339.fullmatch(call.started_at) and RFC_3339.fullmatch(call.completed_at) for call in status.tool_calls
    )
    (helper,) = status.sub_agent_executions
    assert (helper.id, helper.name, helper.input) == (calls["task"].id, "helper", "Look it up")
    assert (helper.output, enum_name(helper, "status")) == ("It is 42.", "SUB_AGENT_COMPLETED")
    todos = [status.todos[key] for key in sorted(status.todos)]
    assert [(todo.content, enum_name(todo, "status")) for todo in todos] == [
        ("look", "TODO_COMPLETED"),
        ("tell", "TODO_COMPLETED"),
    ]
    assert [phase(each) for each in seen if phase(each) == "EXECUTION_IN_PROGRESS"]


async def test_a_tool_call_is_seen_pending_running_and_completed(stigmer: Stigmer) -> None:
    model = stigmer.stack.script(
        "stages",
        """
        conversations:
          - turns:
              - tool_calls: [{name: task, args: {subagent_type: helper, description: Wait a little}}]
              - text: Done.
          - agent: helper
            turns: [{text: Waited., delay: 0.5}]
        """,
    )
    execution = await stigmer.execute(await stigmer.agent(sub_agents=[HELPER]), "Go", model=model)
    seen = await stigmer.follow(execution.metadata.id, lambda status: phase(status) == "EXECUTION_COMPLETED")

    stages = [enum_name(call, "status") for status in seen for call in status.tool_calls if call.name == "task"]
    assert "TOOL_CALL_RUNNING" in stages
    assert stages == sorted(stages, key=["TOOL_CALL_PENDING", "TOOL_CALL_RUNNING", "TOOL_CALL_COMPLETED"].index)


async def test_the_text_of_an_answer_is_seen_while_it_is_given(stigmer: Stigmer) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    model = stigmer.stack.script("slow", f"turns: [{{text: {words}, pace: 0.02}}]")
    execution = await stigmer.execute(await stigmer.agent(), "Go", model=model)
    seen = await stigmer.follow(execution.metadata.id, lambda status: phase(status) == "EXECUTION_COMPLETED")

    lengths = [len(text) for status in seen for text in _texts(status, "MESSAGE_AI")]
    assert lengths == sorted(lengths)
    assert len({length for length in lengths if length < len(words)}) >= 2
    assert _texts(seen[-1], "MESSAGE_AI") == [words]


async def test_a_session_remembers_what_was_said(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    openai_server.replies["You remember."] = [{"text": "Nice to meet you."}]
    options: dict[str, Any] = {"model": "openai:test", "secrets": {"OPENAI_API_KEY": "sk-session"}}
    options["env"] = {"OPENAI_BASE_URL": openai_server.url}
    agent = await stigmer.agent("You remember.")
    first = await stigmer.execute(agent, "My name is Ada.", **options)
    await stigmer.finish(first.metadata.id)
    second = await stigmer.execute("", "What is my name?", session=first.spec.session_id, **options)
    status = await stigmer.finish(second.metadata.id)

    assert phase(status) == "EXECUTION_COMPLETED"
    said = [message["content"] for message in openai_server.calls[1]["messages"] if message["role"] == "user"]
    assert said == ["My name is Ada.", "What is my name?"]
    assert _texts(status, "MESSAGE_HUMAN") == ["What is my name?"]
    assert len(_texts(status, "MESSAGE_AI")) == 1


async def test_two_messages_of_one_session_at_once_are_answered_one_after_the_other(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    openai_server.replies["You take turns."] = [{"text": "", "tool_calls": [("ls", {"path": "/"})]}, {"text": "Yes."}]
    options: dict[str, Any] = {"model": "openai:test", "secrets": {"OPENAI_API_KEY": "sk-session"}}
    options["env"] = {"OPENAI_BASE_URL": openai_server.url}
    first = await stigmer.execute(await stigmer.agent("You take turns."), "one", **options)
    second = await stigmer.execute("", "two", session=first.spec.session_id, **options)
    statuses = [await stigmer.finish(each.metadata.id) for each in (first, second)]

    assert [phase(status) for status in statuses] == ["EXECUTION_COMPLETED"] * 2
    roles = [message["role"] for message in openai_server.calls[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user", "assistant", "tool"]
    calls = [call.id for status in statuses for call in status.tool_calls]
    assert len(set(calls)) == 2, "the server gives the same id in every answer"


async def test_a_skill_that_does_not_exist_is_refused_before_anything_runs(stigmer: Stigmer) -> None:
    skills = [{"kind": 43, "slug": "reporting", "scope": "organization", "org": "local", "version": "v1"}]
    agent = await stigmer.agent(skill_refs=skills)
    with pytest.raises(InvalidArgumentError, match="names skill local/reporting, which is none"):
        await stigmer.execute(agent, "Go")


async def test_a_chosen_provider_without_a_key_fails_naming_the_variable(stigmer: Stigmer) -> None:
    execution = await stigmer.execute(await stigmer.agent(), "Go", model="openai:gpt-test")
    status = await stigmer.finish(execution.metadata.id)

    assert phase(status) == "EXECUTION_FAILED"
    assert "OPENAI_API_KEY" in status.error
    assert RFC_3339.fullmatch(status.completed_at)
    assert _texts(status, "MESSAGE_HUMAN") == ["Go"]
    run = await stigmer.workflow_ended(execution.metadata.id)
    assert run.status.name == "FAILED"


async def test_a_model_that_refuses_fails_the_run_without_telling_the_key(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    key = "sk-wrong-key-8471"
    openai_server.replies["You are refused."] = [{"status": 401, "message": f"Incorrect API key provided: {key}"}]
    agent = await stigmer.agent("You are refused.")
    execution = await stigmer.execute(
        agent, "Go", model="openai:test", env={"OPENAI_BASE_URL": openai_server.url}, secrets={"OPENAI_API_KEY": key}
    )
    status = await stigmer.finish(execution.metadata.id)

    assert phase(status) == "EXECUTION_FAILED"
    assert "401" in status.error
    assert "***REDACTED***" in status.error
    assert openai_server.keys == [key]
    assert key not in stigmer.stack.logs()
    assert key.encode() not in await _history(stigmer, execution.metadata.id)


async def test_a_model_that_fails_for_a_while_is_asked_again(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    openai_server.replies["You are patient."] = [{"text": "Here I am."}]
    openai_server.first = [{"status": 503}] * 3  # one call and its two repetitions by the provider's client
    status = await stigmer.run(
        await stigmer.agent("You are patient."),
        "Go",
        model="openai:test",
        env={"OPENAI_BASE_URL": openai_server.url},
        secrets={"OPENAI_API_KEY": "sk-patient"},
    )

    assert phase(status) == "EXECUTION_COMPLETED"
    assert _texts(status, "MESSAGE_AI") == ["Here I am."]
    assert any("Trying again" in notice and "503" in notice for notice in _texts(status, "MESSAGE_SYSTEM"))
    assert not status.error


async def test_a_cancelled_run_ends_cancelled_with_nothing_left_open(stigmer: Stigmer) -> None:
    model = stigmer.stack.script(
        "endless",
        """
        conversations:
          - turns:
              - tool_calls: [{name: task, args: {subagent_type: helper, description: Wait}}]
          - agent: helper
            turns: [{text: too late, delay: 600}]
        """,
    )
    execution = await stigmer.execute(await stigmer.agent(sub_agents=[HELPER]), "Go", model=model)
    await stigmer.follow(
        execution.metadata.id,
        lambda status: any(enum_name(call, "status") == "TOOL_CALL_RUNNING" for call in status.tool_calls),
    )
    handle = stigmer.temporal.get_workflow_handle(f"stigmer/agent-execution/invoke/{execution.metadata.id}")
    await handle.cancel()
    status = await stigmer.finish(execution.metadata.id)

    assert phase(status) == "EXECUTION_CANCELLED"
    assert [enum_name(call, "status") for call in status.tool_calls] == ["TOOL_CALL_INTERRUPTED"]
    assert [enum_name(each, "status") for each in status.sub_agent_executions] == ["SUB_AGENT_CANCELLED"]
    assert (await stigmer.workflow_ended(execution.metadata.id)).status.name == "CANCELED"


async def test_a_secret_reaches_the_model_server_and_nothing_else(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    canary = "canary-5e1f0c77-secret"
    openai_server.replies["You keep secrets."] = [
        {
            "text": f"I repeat {canary}",
            "tool_calls": [("write_file", {"file_path": "/notes-of-mine", "content": canary})],
        },
        {"text": "Done."},
    ]
    execution = await stigmer.execute(
        await stigmer.agent("You keep secrets."),
        "A prompt that Temporal must not see",
        model="openai:test",
        env={"OPENAI_BASE_URL": openai_server.url},
        secrets={"OPENAI_API_KEY": canary},
    )
    status = await stigmer.finish(execution.metadata.id)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert openai_server.keys == [canary] * 2
    assert "I repeat ***REDACTED***" in _texts(status, "MESSAGE_AI")
    assert canary not in str(status)
    await stigmer.workflow_ended(execution.metadata.id)
    history = await _history(stigmer, execution.metadata.id)
    for hidden in (canary, "A prompt that Temporal must not see", "You keep secrets", "notes-of-mine"):
        assert hidden.encode() not in history
    assert len(history) < 12_000
    assert canary not in stigmer.stack.logs()


async def _history(stigmer: Stigmer, execution_id: str) -> bytes:
    """Every event of the run, with its payloads, as stored."""
    await stigmer.workflow_ended(execution_id)
    history = await stigmer.temporal.get_workflow_handle(
        f"stigmer/agent-execution/invoke/{execution_id}"
    ).fetch_history()
    stored = b"".join(event.SerializeToString() for event in history.events)
    assert execution_id.encode() in stored, "payloads are searched in clear"
    return stored


async def test_a_run_that_the_server_refuses_for_good_is_not_tried_for_hours(own_stigmer: Stigmer) -> None:
    async with contract_server(own_stigmer.stack.address) as server:
        server.refused["updateStatus"] = PermissionDeniedError("this runner may not report")
        await own_stigmer.stack.start_runner(STIGMER_BACKEND_ENDPOINT=server.address)
        status = await own_stigmer.run(await own_stigmer.agent(), "Go")
        await own_stigmer.stack.stop()

    assert phase(status) == "EXECUTION_FAILED"
    assert "refuses: PERMISSION_DENIED" in status.error
