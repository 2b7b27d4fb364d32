"""Calls of models, which the runner of agents makes: `llm_call` and `eval`."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_runner.loopback.anthropic import AnthropicServer
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.settings import Settings as AgentSettings
from agent_runner.worker import serve as serve_agents
from stigmer_dsl.secrets import REDACTED
from workflow_runner import names
from workflow_runner.testing import PeerServer, Runs, StartRunner

KEY, OWN_KEY = "sk-of-the-execution", "sk-of-the-runner"
COLOURS = "{document: {type: object, required: [colours], properties: {colours: {type: array, minItems: 2}}}}"
SCRIPT = """
conversations:
- when: Criteria
  turns:
  - tool_calls:
    - name: give_answer
      args: {judgements: [{score: 0.9, reason: Few words.}, {score: 0.5, reason: Partly.}]}
- when: hello
  turns: [{text: 'You said: $message', usage: {input: 12, output: 3}}]
"""

StartModels = Callable[..., Awaitable["Models"]]
"""Starts a runner of agents with the given settings."""


class Models:
    """A runner of agents."""

    def __init__(self, settings: AgentSettings) -> None:
        self.queue = settings.task_queue
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(serve_agents(settings, self._stop))

    async def stop(self) -> None:
        self._stop.set()
        await self._running


@pytest.fixture
async def start_models(temporal: str, peer: PeerServer, tmp_path: Path) -> AsyncGenerator[StartModels]:
    running: list[Models] = []
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "test.yaml").write_text(SCRIPT)

    async def start(**settings: Any) -> Models:
        given = {
            "temporal_address": temporal,
            "server_address": peer.address,
            "task_queue": f"agents-{uuid.uuid4().hex}",
            "data_folder": tmp_path / "data",
            "scripts_folder": tmp_path / "scripts",
            "sandbox": "off",
            **settings,
        }
        running.append(Models(AgentSettings.model_validate(given)))
        return running[-1]

    yield start
    for each in running:
        await each.stop()


@pytest.fixture
async def runs(start_models: StartModels, start_runner: StartRunner) -> Runs:
    return await start_runner(agent_task_queue=(await start_models()).queue)


@pytest.fixture
def openai() -> Iterator[OpenAIServer]:
    server = OpenAIServer()
    yield server
    server.close()


@pytest.fixture
def anthropic() -> Iterator[AnthropicServer]:
    server = AnthropicServer()
    yield server
    server.close()


def asked(more: str = "") -> str:
    return f"do:\n- ask: {{call: llm_call, with: {{model: 'openai:gpt-4.1', prompt: '${{ .q }}'{more}}}}}"


@pytest.mark.requirement("call.functions")
async def test_a_model_is_asked_and_its_answer_is_the_output(runs: Runs) -> None:
    text = "do:\n- ask: {call: llm_call, with: {model: 'scripted:test', prompt: '${ .q }'}}"
    execution = await runs.run(text, {"q": "hello there"})
    assert execution.output == "You said: hello there"
    (task,) = execution.reported.values()
    assert dict(task.metadata)["model"] == "scripted:test"
    whole = await runs.output(text.replace("prompt:", "output: all, prompt:"), {"q": "hello there"})
    assert whole == {
        "content": "You said: hello there",
        "model": "scripted:test",
        "usage": {"model_calls": 1, "input_tokens": 12, "cached_tokens": 0, "output_tokens": 3, "cost_usd": 0.0},
    }


async def test_the_execution_chooses_the_model_where_the_task_names_none(runs: Runs) -> None:
    text = "do:\n- ask: {call: llm_call, with: {prompt: hello}}"
    assert await runs.output(text, variables={"STIGMER_LLM_MODEL": "scripted:test"}) == "You said: hello"


async def test_all_that_is_said_reaches_the_provider_with_the_key_of_the_execution(
    runs: Runs, openai: OpenAIServer
) -> None:
    openai.replies["Be short"] = [{"text": "Blue."}, {"text": "Blue, I said."}]
    text = asked(", system: Be short, temperature: 0.5, maxTokens: 77")
    secrets = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url}
    assert await runs.output(text, {"q": "Which colour?"}, secrets=secrets) == "Blue."
    (call,) = openai.calls
    assert openai.keys == [KEY]
    assert (call["model"], call["temperature"], call["max_completion_tokens"]) == ("gpt-4.1", 0.5, 77)
    assert [(each["role"], each["content"]) for each in call["messages"]] == [
        ("system", "Be short"),
        ("user", "Which colour?"),
    ]
    said = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]
    text = asked(", system: Be short").replace("prompt: '${ .q }'", "messages: '${ .said }'")
    assert await runs.output(text, {"said": said}, secrets=secrets) == "Blue."
    assert [each["content"] for each in openai.calls[1]["messages"]] == ["Be short", "A", "B", "C"]
    error = await runs.error(text, {"said": [{"role": "system", "content": "x"}]}, secrets=secrets)
    assert (error["status"], error["instance"]) == (400, "/do/0/ask")


async def test_an_answer_has_the_form_of_its_schema(
    runs: Runs, openai: OpenAIServer, anthropic: AnthropicServer
) -> None:
    answers: list[dict[str, Any]] = [
        {"text": "Red and blue."},
        {"tool_calls": [("give_answer", {"colours": ["red"]})]},
        {"tool_calls": [("give_answer", {"colours": ["red", "blue"]})], "usage": (10, 5)},
    ]
    openai.first, anthropic.first = [*answers], [*answers]
    secrets = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": openai.url,
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": anthropic.url,
    }
    for text in (asked(f", output: all, response: {COLOURS}"),) * 2:
        for model, server in (("openai:gpt-4.1", openai), ("anthropic:claude-sonnet-4-6", anthropic)):
            if server.calls:
                continue
            output = await runs.output(text.replace("openai:gpt-4.1", model), {"q": "Which?"}, secrets=secrets)
            assert output["content"] == {"colours": ["red", "blue"]}
            assert (output["usage"]["model_calls"], len(server.calls)) == (3, 3)
            assert "too short" in str(server.calls[2]["messages"][-1])


async def test_a_model_that_gives_no_such_answer_is_an_error(runs: Runs, openai: OpenAIServer) -> None:
    openai.first = [{"text": "No."}] * 5
    secrets = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url}
    error = await runs.error(asked(f", response: {COLOURS}"), {"q": "Which?"}, secrets=secrets)
    assert error["type"].endswith("/validation")
    assert "5 attempts" in error["detail"]


async def test_without_any_model_an_answer_by_a_schema_says_what_to_set(runs: Runs) -> None:
    text = f"do:\n- ask: {{call: llm_call, with: {{prompt: Which?, response: {COLOURS}}}}}"
    error = await runs.error(text)
    assert error["type"].endswith("/configuration")
    assert "STIGMER_LLM_MODEL" in error["detail"]


async def test_what_is_missing_is_named(runs: Runs) -> None:
    error = await runs.error(asked(), {"q": "x"})
    assert (error["type"].rpartition("/")[2], error["instance"]) == ("configuration", "/do/0/ask")
    assert "OPENAI_API_KEY" in error["detail"]
    error = await runs.error(asked().replace("openai:gpt-4.1", "scripted:nobody"), {"q": "x"})
    assert "nobody" in error["detail"]


@pytest.mark.requirement("http.retry-after")
async def test_an_error_of_the_provider_can_be_caught_and_its_wish_to_wait_is_heard(
    runs: Runs, openai: OpenAIServer
) -> None:
    busy = {"status": 429, "message": f"slow down, {KEY}", "headers": {"retry-after": "1"}}
    openai.first = [busy, {"text": "Now."}, busy]
    secrets = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url}
    task = asked().removeprefix("do:\n- ")
    text = (
        "do:\n- t:\n    try: [{" + task + "}]\n"
        "    catch: {errors: {with: {status: 429}}, retry: {limit: {attempt: {count: 1}}}}"
    )
    assert await runs.output(text, {"q": "x"}, secrets=secrets) == "Now."
    assert len(openai.calls) == 2
    error = await runs.error(asked(), {"q": "x"}, secrets=secrets)
    assert (error["type"].rpartition("/")[2], error["status"], error["retryAfter"]) == ("communication", 429, 1)
    assert KEY not in str(error)


async def test_a_model_that_takes_too_long_is_a_timeout(runs: Runs, openai: OpenAIServer) -> None:
    openai.hold_at = 0
    secrets = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url}
    error = await runs.error(asked(", timeout: 1"), {"q": "x"}, secrets=secrets)
    assert (error["status"], "within 1 seconds" in error["detail"]) == (408, True)
    openai.hold_at = 1
    task = asked().replace("{call:", "{timeout: {after: PT1S}, call:")
    error = await runs.error(task, {"q": "x"}, secrets=secrets)
    assert (error["status"], len(openai.calls)) == (408, 2)


@pytest.mark.requirement("secrets.history")
async def test_a_secret_reaches_the_model_and_nobody_else(runs: Runs, openai: OpenAIServer) -> None:
    openai.first = [{"text": "You told me pass-1234."}]
    secrets = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url, "PASSWORD": "pass-1234"}
    text = asked().replace("${ .q }", "It is ${.secrets.PASSWORD}.")
    execution = await runs.run("use: {secrets: [PASSWORD]}\n" + text, secrets=secrets)
    assert openai.calls[0]["messages"][-1]["content"] == "It is pass-1234."
    assert execution.output == f"You told me {REDACTED}."
    handle = runs.client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")
    history = (await handle.fetch_history()).to_json()
    assert not any(secret in history for secret in ("pass-1234", KEY))
    assert not any("pass-1234" in str(update) for update in execution.updates)


async def test_an_answer_is_recorded_as_a_script_without_secrets(
    start_models: StartModels, start_runner: StartRunner, openai: OpenAIServer, tmp_path: Path
) -> None:
    openai.first = [{"text": f"Costs $5, and {KEY}.", "usage": (3, 4)}]
    models = await start_models(record_folder=tmp_path / "scripts")
    runs = await start_runner(agent_task_queue=models.queue)
    execution = await runs.run(asked(), {"q": "x"}, secrets={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url})
    assert execution.output == f"Costs $5, and {REDACTED}."
    played = asked().replace("openai:gpt-4.1", f"scripted:{execution.id}")
    assert await runs.output(played, {"q": "x"}) == execution.output
    assert KEY not in (tmp_path / "scripts" / f"{execution.id}.yaml").read_text()


async def test_without_a_runner_of_agents_it_says_so(start_runner: StartRunner) -> None:
    runs = await start_runner(agent_task_queue="nobody", model_start_seconds=0.5)
    error = await runs.error(asked(), {"q": "x"})
    assert error["type"].endswith("/communication")
    assert "no agent-runner took up the call" in error["detail"]


@pytest.mark.requirement("durable.killed")
async def test_a_call_whose_runner_goes_is_made_by_the_next_and_a_recorded_answer_is_kept(
    start_models: StartModels, start_runner: StartRunner, openai: OpenAIServer
) -> None:
    openai.first = [{"text": "lost"}, {"text": "kept"}]
    openai.hold_at = 0
    queue = f"agents-{uuid.uuid4().hex}"
    runs = await start_runner(agent_task_queue=queue, max_history_events=20)
    secrets = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url}
    waits = "for: {in: '[range(12)]'}, do: [{w: {wait: {milliseconds: 2}}}]"
    text = asked(", output: all").replace("}}", "}, export: {as: .}}", 1)
    text += f"\n- l: {{{waits}}}\n- told: {{set: {{said: '${{ $context.content }}'}}}}"
    execution = runs.add(text, {"q": "x"}, secrets=secrets)
    first = await start_models(task_queue=queue, grace_seconds=0.1)
    handle = await runs.start(execution)
    assert await asyncio.to_thread(openai.held.wait, 30)
    await first.stop()
    await start_models(task_queue=queue)
    async with asyncio.timeout(60):
        await handle.result()
    assert (execution.output, len(openai.calls)) == ({"said": "kept"}, 2)


@pytest.mark.slow
async def test_a_call_whose_runner_is_killed_is_made_by_the_next(
    temporal: str, start_models: StartModels, start_runner: StartRunner, openai: OpenAIServer, tmp_path: Path
) -> None:
    openai.first = [{"text": "lost"}, {"text": "kept"}]
    openai.hold_at = 0
    queue = f"agents-{uuid.uuid4().hex}"
    runs = await start_runner(agent_task_queue=queue)
    execution = runs.add(asked(), {"q": "x"}, secrets={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.url})
    environment = {
        **os.environ,
        "TEMPORAL_HOST_PORT": temporal,
        "STIGMER_BACKEND_ENDPOINT": runs.peer.address,
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": queue,
        "STIGMER_AGENT_RUNNER_DATA": str(tmp_path / "other"),
        "STIGMER_AGENT_SANDBOX": "off",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "agent_runner", env=environment)
    try:
        handle = await runs.start(execution)
        assert await asyncio.to_thread(openai.held.wait, 50)
    finally:
        process.kill()
        await process.wait()
    await start_models(task_queue=queue)
    async with asyncio.timeout(60):
        await handle.result()
    assert (execution.output, len(openai.calls)) == ("kept", 2)


async def test_expressions_judge_without_a_model(start_runner: StartRunner) -> None:
    runs = await start_runner(agent_task_queue="nobody")
    criteria = "criteria: ['${ length < 9 }', '${ .[0:1] == \"x\" }', '${ 0.25 }']"
    text = f"do:\n- judge: {{call: eval, with: {{input: '${{ .answer }}', {criteria}}}}}"
    output = await runs.output(text, {"answer": "short"})
    assert (output["passed"], output["score"]) == (True, round(1.25 / 3, 6))
    assert [each["score"] for each in output["criteria"]] == [1, 0, 0.25]
    strict = text.replace("input:", "threshold: 0.5, input:")
    error = await runs.error(strict, {"answer": "short"})
    assert (error["type"].rpartition("/")[2], error["instance"]) == ("validation", "/do/0/judge")
    assert "scores 0.42, below the threshold of 0.5" in error["detail"]
    output = await runs.output(strict.replace("input:", "report: true, input:"), {"answer": "short"})
    assert (output["passed"], output["score"]) == (False, round(1.25 / 3, 6))
    error = await runs.error(text.replace("0.25", "7"), {"answer": "short"})
    assert error["type"].endswith("/expression")


async def test_a_model_judges_what_sentences_ask_for(runs: Runs) -> None:
    criteria = "criteria: [It is short, '${ length < 9 }', '${ \"It is \" + \"true\" }']"
    text = f"do:\n- judge: {{call: eval, with: {{input: short, model: 'scripted:test', {criteria}, threshold: 0.8}}}}"
    assert await runs.output(text) == {
        "score": 0.8,
        "passed": True,
        "criteria": [
            {"criterion": "It is short", "score": 0.9, "reason": "Few words."},
            {"criterion": "${ length < 9 }", "score": 1, "reason": "it holds"},
            {"criterion": "It is true", "score": 0.5, "reason": "Partly."},
        ],
    }
