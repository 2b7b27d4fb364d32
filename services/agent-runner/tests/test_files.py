"""Files in and out of workspaces: what people put is there for the agent, and what it makes is there for people."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from agent_runner.files.known import Knowledge, Known, decoded, encoded
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, enum_name, phase
from agent_runner.workspace.port import Entry

DONE, FAILED = "EXECUTION_COMPLETED", "EXECUTION_FAILED"
CSV = b"city,people\nParis,2100000\nRome,2800000\n"


def shell(stigmer: Stigmer, name: str, *commands: str) -> str:
    """A model that runs commands, one after the other."""
    calls = [{"tool_calls": [{"name": "execute", "args": {"command": command}}]} for command in commands]
    return stigmer.stack.script(name, json.dumps({"turns": [*calls, {"text": "done"}]}))


async def run(stigmer: Stigmer, session: str, model: str, **options: Any) -> tuple[str, Any]:
    """Run an execution in a session to its end; gives its id and status."""
    execution = await stigmer.execute("", "Go", model=model, session=session, **options)
    return execution.metadata.id, await stigmer.finish(execution.metadata.id)


def made(status: Any) -> list[tuple[str, int, str]]:
    return [(each.path, each.bytes, each.sha256) for each in status.artifacts]


def artifact(path: str, content: bytes) -> tuple[str, int, str]:
    return path, len(content), hashlib.sha256(content).hexdigest()


def notices(status: Any) -> str:
    return "\n".join(each.content for each in status.messages if enum_name(each, "type") == "MESSAGE_SYSTEM")


def workspaces(stigmer: Stigmer) -> Path:
    return stigmer.stack.data / "workspaces"


@pytest.mark.slow
async def test_files_go_in_and_come_out(stigmer: Stigmer) -> None:
    session = await stigmer.session(await stigmer.agent())
    await stigmer.put_file(session, "data/cities.csv", CSV)
    model = shell(stigmer, "files-out", "mkdir out; tail -n +2 data/cities.csv | sort > out/sorted.csv; cat out/*")
    made_by, status = await run(stigmer, session, model)
    out = b"Paris,2100000\nRome,2800000\n"
    assert (phase(status), made(status)) == (DONE, [artifact("out/sorted.csv", out)])
    assert "Rome" in status.tool_calls[0].result
    assert await stigmer.files(made_by) == {"out/sorted.csv": out}
    assert await stigmer.files(session) == {"data/cities.csv": CSV, "out/sorted.csv": out}


@pytest.mark.slow
async def test_only_what_changed_is_told_and_what_is_gone_stays_with_its_execution(stigmer: Stigmer) -> None:
    session = await stigmer.session(await stigmer.agent())
    first, _ = await run(stigmer, session, shell(stigmer, "files-a", "echo 1 > a; echo 1 > b; echo 1 > c"))
    _, status = await run(stigmer, session, shell(stigmer, "files-b", "echo 2 > a; rm b; touch c; mkdir d; mv c d/c"))
    assert made(status) == [artifact("a", b"2\n"), artifact("d/c", b"1\n")]
    assert await stigmer.files(session) == {"a": b"2\n", "d/c": b"1\n"}
    assert await stigmer.files(first) == {"a": b"1\n", "b": b"1\n", "c": b"1\n"}
    _, status = await run(stigmer, session, shell(stigmer, "files-c", "true"))
    assert made(status) == []


@pytest.mark.slow
async def test_a_workspace_that_is_gone_is_filled_again(stigmer: Stigmer) -> None:
    session = await stigmer.session(await stigmer.agent())
    await stigmer.put_file(session, "in.txt", b"in\n")
    await run(stigmer, session, shell(stigmer, "files-d", "echo out > out.txt; echo more >> in.txt"))
    for folder in workspaces(stigmer).iterdir():
        if (folder / "in.txt").exists() and (folder / "out.txt").exists():
            await asyncio.to_thread(shutil.rmtree, folder)
    _, status = await run(stigmer, session, shell(stigmer, "files-e", "cat in.txt out.txt"))
    assert "in\nmore\nout\n" in status.tool_calls[0].result
    assert made(status) == []


@pytest.mark.slow
async def test_what_a_person_puts_or_deletes_between_turns_is_so_in_the_next(stigmer: Stigmer) -> None:
    session = await stigmer.session(await stigmer.agent())
    await run(stigmer, session, shell(stigmer, "files-f", "echo mine > a; echo mine > b"))
    await stigmer.put_file(session, "a", b"yours\n")
    await stigmer.delete_file(session, "b")
    _, status = await run(stigmer, session, shell(stigmer, "files-g", "cat a; test -e b || echo no b"))
    assert "yours\nno b\n" in status.tool_calls[0].result
    assert await stigmer.files(session) == {"a": b"yours\n"}


@pytest.mark.slow
async def test_nothing_from_outside_of_the_workspace_is_taken(stigmer: Stigmer, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("the host's")
    session = await stigmer.session(await stigmer.agent())
    await stigmer.put_file(session, "link/x.txt", b"put")
    commands = (
        "rm -rf link; ln -s /etc/passwd passwd; ln -s /etc etc; mkfifo pipe",
        f"ln -s {outside} link; ln -s {outside}/secret.txt file",
        "mkdir -p .git node_modules/x; echo x > .git/config; echo x > node_modules/x/y",
        "printf x > \"$(printf 'a\\nb')\"; printf x > \"$(printf 'a\\033[31m')\"; head -c 70000000 /dev/zero > large",
        'echo "key=$TOKEN" > .env; echo fine > fine',
    )
    made_by, status = await run(
        stigmer, session, shell(stigmer, "files-h", *commands), secrets={"TOKEN": "tok-very-secret-1"}
    )
    assert phase(status) == DONE, (status.error, notices(status))
    assert await stigmer.files(made_by) == {"fine": b"fine\n"}
    assert made(status) == [artifact("fine", b"fine\n")]
    told = notices(status)
    for words in ("'large': it has more than 67108864 bytes", "'.env': it holds a secret", r"'a\nb': ", "control char"):
        assert words in told
    assert "passwd" not in told
    await stigmer.put_file(session, "link/x.txt", b"put anew")
    _, status = await run(stigmer, session, shell(stigmer, "files-i", "ls"))
    assert "'link/x.txt': " in notices(status)
    assert sorted(path.name for path in outside.iterdir()) == ["secret.txt"]


@pytest.mark.slow
async def test_more_than_a_turn_may_have_comes_with_the_next(own_stigmer: Stigmer) -> None:
    await own_stigmer.stack.start_runner(STIGMER_AGENT_FILES="2")
    session = await own_stigmer.session(await own_stigmer.agent())
    model = shell(own_stigmer, "files-many", "for name in a b c d; do echo $name > $name; done")
    made_by, status = await run(own_stigmer, session, model)
    assert sorted(await own_stigmer.files(made_by)) == ["a", "b"]
    assert "'c': no more than 2 files are taken in one turn" in notices(status)
    _, status = await run(own_stigmer, session, shell(own_stigmer, "files-idle", "true"))
    assert made(status) == [artifact("c", b"c\n"), artifact("d", b"d\n")]


@pytest.mark.slow
async def test_a_run_that_fails_keeps_what_it_has_made(stigmer: Stigmer) -> None:
    session = await stigmer.session(await stigmer.agent())
    call = "{name: execute, args: {command: echo half > half.txt}}"
    text = f"turns:\n  - tool_calls: [{call}]\n  - error: {{kind: bad_request}}\n"
    made_by, status = await run(stigmer, session, stigmer.stack.script("files-failing", text))
    assert phase(status) == FAILED
    assert await stigmer.files(made_by) == {"half.txt": b"half\n"}


@pytest.mark.slow
async def test_a_killed_worker_neither_loses_nor_repeats_a_file(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    doomed = await own_stigmer.stack.start_runner()
    you = "You keep books."
    openai_server.replies[you] = [
        {"tool_calls": [("execute", {"command": "echo changed >> book.txt; rm gone.txt"})]},
        {"tool_calls": [("execute", {"command": "cat book.txt; ls"})]},
        {"text": "Done."},
    ]
    openai_server.hold_at = 1
    session = await own_stigmer.session(await own_stigmer.agent(you))
    await own_stigmer.put_file(session, "book.txt", b"first\n")
    await own_stigmer.put_file(session, "gone.txt", b"x")
    options = {"env": {"OPENAI_BASE_URL": openai_server.url}, "secrets": {"OPENAI_API_KEY": "sk-files"}}
    execution = await own_stigmer.execute("", "Go", model="openai:test", session=session, **options)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    doomed.send_signal(signal.SIGKILL)
    await doomed.wait()
    openai_server.release.set()
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution.metadata.id)
    assert phase(status) == DONE
    assert status.tool_calls[1].result.startswith("first\nchanged\nbook.txt\n")
    assert await own_stigmer.files(session) == {"book.txt": b"first\nchanged\n"}
    assert "- book.txt (6 bytes)" in openai_server.system(openai_server.calls[0])


@pytest.mark.slow
async def test_a_file_that_comes_with_what_is_said_meanwhile_is_there_when_it_is_heard(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    you = "You wait for more."
    look = {"tool_calls": [("execute", {"command": "cat late.csv"})]}
    openai_server.replies[you] = [look, {"text": "Done."}]
    openai_server.hold_at = 0
    session = await stigmer.session(await stigmer.agent(you))
    options = {"env": {"OPENAI_BASE_URL": openai_server.url}, "secrets": {"OPENAI_API_KEY": "sk-late"}}
    execution = await stigmer.execute("", "Go", model="openai:test", session=session, **options)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    await stigmer.put_file(session, "late.csv", CSV)
    control = "agentexecution.v1.AgentExecutionControlController"
    await stigmer.call(control, "sendMessage", {"id": execution.metadata.id, "text": "Look at late.csv"})
    openai_server.release.set()
    status = await stigmer.finish(execution.metadata.id)
    assert ["Rome" in call.result for call in status.tool_calls] == [False, True]
    assert made(status) == []


@pytest.mark.slow
async def test_people_who_are_asked_find_what_was_made_so_far(stigmer: Stigmer) -> None:
    agent = await stigmer.agent(approval_policies=[{"tool": "write_file"}])
    session = await stigmer.session(agent)
    calls = [("execute", {"command": "echo draft > draft.txt"}), ("write_file", {"file_path": "/a", "content": "x"})]
    turns = [{"tool_calls": [{"name": name, "args": args}]} for name, args in calls]
    model = stigmer.stack.script("files-asked", json.dumps({"turns": [*turns, {"text": "done"}]}))
    execution = await stigmer.execute("", "Go", model=model, session=session)
    waiting = (await stigmer.follow(execution.metadata.id, lambda status: phase(status).endswith("APPROVAL")))[-1]
    assert made(waiting) == [artifact("draft.txt", b"draft\n")]
    assert await stigmer.files(session) == {"draft.txt": b"draft\n"}
    request = {"id": execution.metadata.id, "toolCallId": waiting.tool_calls[1].id, "action": "APPROVAL_ACTION_APPROVE"}
    await stigmer.call("agentexecution.v1.AgentExecutionControlController", "submitApproval", request)
    status = await stigmer.finish(execution.metadata.id)
    assert sorted(made(status)) == [artifact("a", b"x"), artifact("draft.txt", b"draft\n")]


@pytest.mark.slow
async def test_files_are_refused_where_there_is_no_workspace(own_stigmer: Stigmer) -> None:
    await own_stigmer.stack.start_runner(STIGMER_AGENT_SANDBOX="off")
    session = await own_stigmer.session(await own_stigmer.agent())
    model = own_stigmer.stack.script("files-off", "turns: [{text: done}, {text: done}]")
    _, status = await run(own_stigmer, session, model)
    assert phase(status) == DONE
    await own_stigmer.put_file(session, "a", b"x")
    _, status = await run(own_stigmer, session, model)
    assert (phase(status), "no workspace to bring them to" in status.error) == (FAILED, True)


def test_what_is_known_is_said_and_read_again_and_spoiled_knowledge_is_none() -> None:
    knowledge = Knowledge(files={"a": Known(hash="0" * 64, size=3, modified=1.25)}, looked_at=9.5)
    assert decoded(encoded(knowledge)) == knowledge
    for spoiled in (b"", b"{}", b"[1]", b'{"looked_at": "x", "files": {}}', b'{"looked_at": 1, "files": {"a": 1}}'):
        assert decoded(spoiled) == Knowledge(files={})
    for path, hash_, size in (
        ("a", "0" * 64, "Infinity"),
        ("a", "no hash", "1"),
        ("../a", "0" * 64, "1"),
        ("", "0" * 64, "1"),
        ("\\ud800", "0" * 64, "1"),
    ):
        spoiled = f'{{"looked_at": 1, "files": {{"{path}": ["{hash_}", {size}, 1, false]}}}}'
        assert decoded(spoiled.encode()) == Knowledge(files={})


@pytest.mark.slow
async def test_an_agent_that_spoils_what_is_known_of_its_files_harms_no_turn(stigmer: Stigmer) -> None:
    session = await stigmer.session(await stigmer.agent())
    spoil = """mkdir -p .stigmer; echo '{"looked_at": 1, "files": {"b": ["x", 1, 1, false]}}' > .stigmer/files.json"""
    _, status = await run(stigmer, session, shell(stigmer, "files-spoiled", "echo 1 > a", spoil))
    assert (phase(status), made(status)) == (DONE, [artifact("a", b"1\n")])
    _, status = await run(stigmer, session, shell(stigmer, "files-spoiled-again", spoil.replace('"x", 1', '"", 1e999')))
    assert (phase(status), await stigmer.files(session)) == (DONE, {"a": b"1\n"})


def test_a_file_that_was_just_written_is_not_taken_for_unchanged() -> None:
    seen = Known(hash="0" * 64, size=3, modified=100.0)
    entry = Entry(path="a", size=3, modified=100.0)
    assert seen.is_still(entry, looked_at=103.0)
    assert not seen.is_still(entry, looked_at=100.5)
