"""Tasks that run agents, on a peer that has some."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from stigmer_runner.values import read_struct
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from workflow_runner import names
from workflow_runner.testing import Runs, StartRunner

Handle = WorkflowHandle[Any, Any]
ASK = "do:\n- ask: {call: agent, with: {agent: clerk, message: Go}}"


async def ended(handle: Handle) -> Any:
    async with asyncio.timeout(30):
        return await handle.result()


def shown(task: Any) -> Any:
    """Return which execution people see beside the task."""
    return None if task is None else read_struct(task.metadata).get("execution")


@pytest.mark.requirement("call.agent")
async def test_an_agent_gets_what_the_task_says_and_its_answer_is_the_output(runs: Runs) -> None:
    execution = runs.add(
        """
use: {secrets: [TOKEN]}
do:
- ask:
    call: agent
    with:
      agent: clerk
      message: '${ "Sum " + .text + " for ${.env_vars.TEAM}" }'
      env: {KEY: 'Bearer ${.secrets.TOKEN}', TEAM: '${.env_vars.TEAM}', PLAIN: '${ .text }'}
      config: {model: 'scripted:x', temperature: 0.5, fallbackModels: [a], budget: {maxTokens: 9}}
      response: {document: {type: object}}
- next: {set: '${ .total }'}
""",
        {"text": "it"},
        secrets={"TOKEN": "tok-1234"},
        variables={"TEAM": "ops"},
    )
    handle = await runs.start(execution)
    made = await runs.peer.agents.begun()
    assert (made.spec.agent_id, made.spec.message) == ("agt-clerk", "Sum it for ops")
    given = {name: (value.value, value.is_secret) for name, value in made.spec.runtime_env.items()}
    assert given == {"KEY": ("Bearer tok-1234", True), "TEAM": ("ops", False), "PLAIN": ("it", False)}
    config = made.spec.execution_config
    assert (config.model_name, config.temperature, config.budget.max_tokens) == ("scripted:x", 0.5, 9)
    assert (list(config.fallback_models), dict(config.output_schema)) == (["a"], {"type": "object"})
    await runs.peer.until(execution, lambda seen: shown(seen.reported.get("/do/0/ask")) == "aex-1")
    await runs.peer.agents.end(made, "never mind", output={"total": 3})
    assert await ended(handle) == 3
    history = (await handle.fetch_history()).to_json()
    assert "tok-1234" not in json.dumps(history)
    assert "tok-1234" not in str(execution.updates)


async def test_an_agent_for_which_nobody_names_a_model_gets_that_of_the_run(runs: Runs) -> None:
    execution = runs.add(ASK, variables={"STIGMER_LLM_MODEL": "scripted:y"})
    handle = await runs.start(execution)
    made = await runs.peer.agents.begun()
    assert made.spec.execution_config.model_name == "scripted:y"
    assert not made.spec.runtime_env
    await runs.peer.agents.end(made, "done")
    assert await ended(handle) == "done"


async def test_without_a_schema_the_answer_is_what_the_agent_says_last(runs: Runs) -> None:
    handle = await runs.start(runs.add(ASK))
    await runs.peer.agents.end(await runs.peer.agents.begun(), "done")
    assert await ended(handle) == "done"
    whole = ASK.replace("message: Go", "message: Go, output: execution")
    handle = await runs.start(runs.add(whole))
    await runs.peer.agents.end(await runs.peer.agents.begun(2), "again")
    assert await ended(handle) == {"id": "aex-2", "session": "ses-1", "output": "again", "usage": {"model_calls": 2}}


async def test_an_agent_that_fails_is_an_error_that_can_be_caught(runs: Runs) -> None:
    execution = runs.add(
        """
do:
- t:
    try: [{ask: {call: agent, with: {agent: clerk, message: Go}}}]
    catch: {errors: {with: {status: 500}}, do: [{told: {set: '${ $error.detail }'}}]}
"""
    )
    handle = await runs.start(execution)
    await runs.peer.agents.end(await runs.peer.agents.begun(), error="no model")
    assert await ended(handle) == "the execution aex-1 is failed: no model"


async def test_an_unknown_agent_and_a_secret_in_the_message_are_refused(runs: Runs) -> None:
    error = await runs.error(ASK.replace("clerk", "nobody"))
    assert (error["status"], error["detail"]) == (400, "the agent nobody cannot be run: Agent not found: acme/nobody")
    told = ASK.replace("message: Go", "message: 'Use ${.secrets.TOKEN}'")
    error = await runs.error(f"use: {{secrets: [TOKEN]}}\n{told}", secrets={"TOKEN": "tok-1234"})
    assert error["status"] == 403
    assert "the secret TOKEN: give it to the agent in `env`" in error["detail"]
    assert runs.peer.agents.executions == {}


async def test_an_answer_of_the_server_that_is_lost_makes_no_second_run(runs: Runs) -> None:
    runs.peer.agents.lost_answers = 3
    handle = await runs.start(runs.add(ASK))
    await runs.peer.agents.end(await runs.peer.agents.begun(), "once")
    assert await ended(handle) == "once"
    assert (len(runs.peer.agents.executions), runs.peer.agents.attempts >= 4) == (1, True)


async def test_the_agent_is_cancelled_with_the_run_and_when_its_time_is_over(runs: Runs) -> None:
    agents = runs.peer.agents
    handle = await runs.start(runs.add(ASK))
    made = await agents.begun()
    await handle.cancel()
    await agents.cancelled(made)
    with contextlib.suppress(WorkflowFailureError):
        await ended(handle)
    for number, text in enumerate(
        (
            ASK.replace("message: Go", "message: Go, config: {timeout: 1}"),
            ASK.replace("{call", "{timeout: {after: PT1S}, call"),
        ),
        start=2,
    ):
        execution = runs.add(text)
        await runs.start(execution)
        await agents.cancelled(await agents.begun(number))
        await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
        assert (execution.error["status"], execution.error["instance"]) == (408, "/do/0/ask")


async def test_who_cancels_the_agent_fails_the_task(runs: Runs) -> None:
    execution = runs.add(ASK)
    await runs.start(execution)
    made = await runs.peer.agents.begun()
    await runs.peer.agents._cancel(type("Request", (), {"id": made.metadata.id})(), None)  # pyright: ignore[reportPrivateUsage, reportArgumentType] - as a person does
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert "the execution aex-1 is cancelled" in execution.error["detail"]


async def test_a_pause_holds_the_time_of_the_agent_and_a_new_worker_goes_on(
    start_runner: StartRunner, client: Client
) -> None:
    runs = await start_runner(max_history_events=30)
    handle = await runs.start(
        runs.add(
            """
do:
- both:
    fork:
      branches:
      - ask: {call: agent, with: {agent: clerk, message: Go, config: {timeout: 3}}}
      - other: {for: {in: '[range(20)]'}, do: [{w: {wait: {milliseconds: 5}}}]}
"""
        )
    )
    made = await runs.peer.agents.begun()
    await handle.signal(names.PAUSE, {"id": "p"})
    await asyncio.sleep(3.5)
    await handle.signal(names.RESUME, {"id": "r"})
    await runs.peer.agents.end(made, "late")
    assert (await ended(client.get_workflow_handle(handle.id)))[0] == "late"
