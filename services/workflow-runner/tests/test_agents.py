"""Tasks that run agents, on a peer that has some."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from stigmer_runner.values import read_struct, read_value
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
    assert await ended(handle) == {
        "id": "aex-2",
        "session": "ses-1",
        "output": "again",
        "usage": {"model_calls": 2},
        "files": [],
    }


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


@pytest.mark.requirement("call.agent.files")
async def test_an_agent_gets_files_and_what_it_has_made_of_them_comes_back(runs: Runs) -> None:
    execution = runs.add(
        """
do:
- ask:
    call: agent
    with:
      agent: clerk
      message: Sum them
      files:
      - {path: note.txt, content: '${ "for ${.env_vars.TEAM}" }'}
      - {path: 'in/${.env_vars.TEAM}.json', content: '${ .rows }'}
      - {path: rows.jsonl, content: '${ .rows }'}
      - {path: word.json, content: word, encoding: json}
      - {path: logo.png, content: '${ .logo }', encoding: base64}
      collect: [sums/, '*.png', rows.jsonl, '${ .wanted }']
      output: execution
- more:
    call: agent
    with: {agent: clerk, message: And these?, files: '${ .files[1:] }'}
""",
        {"rows": [{"n": 1}, {"n": 2}], "logo": "iVBORw==", "wanted": "note.txt"},
        variables={"TEAM": "ops"},
    )
    handle = await runs.start(execution)
    agents = runs.peer.agents
    made = await agents.begun()
    assert agents.files[made.spec.session_id] == {
        "note.txt": b"for ops",
        "in/ops.json": b'[\n  {\n    "n": 1\n  },\n  {\n    "n": 2\n  }\n]\n',
        "rows.jsonl": b'{"n": 1}\n{"n": 2}\n',
        "word.json": b'"word"\n',
        "logo.png": b"\x89PNG",
    }
    files = {
        "left.bin": b"\xff",
        "sums/all.json": b'{"sum": 3}',
        "sums/odd.json": b"{",
        "note.txt": "für".encode(),
        "logo.png": b"\x89PNG\r",
        "rows.jsonl": b'{"n": 3}\n\n[]\n',
    }
    await agents.end(made, "done", files=files)
    again = await agents.begun(2)
    assert agents.files[again.spec.session_id] == {
        "sums/all.json": b'{\n  "sum": 3\n}\n',
        "sums/odd.json": b"{",
        "note.txt": "für".encode(),
        "logo.png": b"\x89PNG\r",
        "rows.jsonl": b'{"n": 3}\n[]\n',
    }
    await agents.end(again, "thanks")
    assert await ended(handle) == "thanks"
    output: Any = read_value(execution.reported["/do/0/ask"].output_value)
    told: dict[str, Any] = {file["path"]: file for file in output["files"]}
    assert set(told["left.bin"]) == {"path", "bytes", "sha256"}
    contents = {path: (file["encoding"], file["content"]) for path, file in told.items() if "content" in file}
    assert contents == {
        "sums/all.json": ("json", {"sum": 3}),
        "sums/odd.json": ("text", "{"),
        "note.txt": ("text", "für"),
        "logo.png": ("base64", "iVBORw0="),
        "rows.jsonl": ("json", [{"n": 3}, []]),
    }


async def test_answers_that_are_lost_put_no_file_twice_and_open_no_second_session(runs: Runs) -> None:
    agents = runs.peer.agents
    agents.lost_answers, agents.lost_puts = 2, 1
    files = "[{path: a, content: 1}, {path: b, content: 2}]"
    handle = await runs.start(runs.add(ASK.replace("message: Go", f"message: Go, files: {files}")))
    made = await agents.begun()
    assert agents.files == {made.spec.session_id: {"a": b"1\n", "b": b"2\n"}}
    assert (agents.puts, agents.lost_answers, agents.lost_puts) == (3, 0, 0)
    await agents.end(made, "once")
    assert await ended(handle) == "once"
    assert len(agents.executions) == 1


async def test_files_go_into_the_session_that_the_task_names(runs: Runs) -> None:
    given = "message: Go, session: ses-9, files: [{path: a, content: b}]"
    handle = await runs.start(runs.add(ASK.replace("message: Go", given)))
    made = await runs.peer.agents.begun()
    assert (made.spec.session_id, runs.peer.agents.files) == ("ses-9", {"ses-9": {"a": b"b"}})
    await runs.peer.agents.end(made, "done")
    assert await ended(handle) == "done"


@pytest.mark.parametrize(
    ("given", "status", "detail"),
    [
        ("files: '${ 3 }'", 400, "the files are no list of objects with `path`, `content` and perhaps `encoding`"),
        ("files: '${ [{path: \"a\"}] }'", 400, "the files are no list of objects with"),
        ('files: \'${ [{path: "a", content: 1, encoding: "zip"}] }\'', 400, "(text, json, base64)"),
        ('files: \'${ [{path: "a", content: 1}, {path: "a", content: 2}] }\'', 400, "two files go to a"),
        (
            "files: '${ [{path: \"/a\", content: 1}] }'",
            400,
            "file /a cannot be given to the agent: '/a' is absolute",
        ),
        ("files: [{path: a, content: 1, encoding: text}]", 400, "the content of the file a is no text"),
        ("files: [{path: a, content: '?', encoding: base64}]", 400, "file a is binary and must be given as base64"),
        ("files: [{path: a, content: '${ [range(300000)] }'}]", 400, "more than the 1900000 that can be kept"),
        (
            "files: [{path: a, content: 'Use ${.secrets.TOKEN}'}]",
            403,
            "the secret TOKEN: give it to the agent in `env`",
        ),
    ],
)
async def test_files_that_cannot_be_given_are_a_clear_error(runs: Runs, given: str, status: int, detail: str) -> None:
    text = ASK.replace("message: Go", f"message: Go, {given}")
    error = await runs.error(f"use: {{secrets: [TOKEN]}}\n{text}", secrets={"TOKEN": "tok-1234"})
    assert (error["status"], error["instance"]) == (status, "/do/0/ask")
    assert detail in error["detail"]
    assert runs.peer.agents.executions == {}


async def test_a_server_without_files_and_an_unknown_agent_are_told_before_anything_is_put(
    runs: Runs,
) -> None:
    given = ASK.replace("message: Go", "message: Go, files: [{path: a, content: b}]")
    error = await runs.error(given.replace("clerk", "nobody"))
    assert error["detail"] == "the agent nobody cannot be run: Agent not found: acme/nobody"
    assert runs.peer.agents.files == {}
    runs.peer.agents.keeps_files = False
    error = await runs.error(given)
    assert (error["status"], error["detail"]) == (400, "the server keeps no files: give the agent none")


@pytest.mark.parametrize(
    ("collect", "files", "detail"),
    [
        ("a.txt", {"b.txt": b"", "c": b""}, "the execution aex-1 has made no a.txt; it has made b.txt, c"),
        ("a.txt", {}, "has made no a.txt; it has made no files"),
        ("big", {"big": b"x" * 2_000_000}, "the files to collect take 2000000 bytes, more than the 1900000 that can"),
        ("big", {"big": b"\xff" * 1_500_000}, "the files to collect take 2000"),
    ],
)
async def test_files_that_cannot_be_collected_are_a_clear_error(
    runs: Runs, collect: str, files: dict[str, bytes], detail: str
) -> None:
    execution = runs.add(ASK.replace("message: Go", f"message: Go, collect: [{collect}], output: execution"))
    await runs.start(execution)
    await runs.peer.agents.end(await runs.peer.agents.begun(), "done", files=files)
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert (execution.error["status"], execution.error["instance"]) == (500, "/do/0/ask")
    assert detail in execution.error["detail"]
