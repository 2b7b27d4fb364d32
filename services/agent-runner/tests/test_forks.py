"""Forks of sessions: what is in their conversations, and that they go on by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from agent_runner.contract import Fork
from agent_runner.errors import WorkspaceFileError
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, enum_name, phase
from agent_runner.turn.fork import cut
from agent_runner.workspace.copying import copy_workspace
from agent_runner.workspace.folders import FolderWorkspaces, name_of
from agent_runner.workspace.limits import WorkspaceLimits
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from stigmer_grpc.errors import FailedPreconditionError
from stigmer_sandbox import HostSandbox

CONTROL = "agentexecution.v1.AgentExecutionControlController"
SESSION = "session.v1.SessionCommandController"
MAIN = "You are the main agent."
DONE = "EXECUTION_COMPLETED"
WRITES = [
    {"text": "Writing.", "tool_calls": [("write_file", {"file_path": "/a.txt", "content": "first"})]},
    {"text": "Written."},
]
READS = [{"tool_calls": [("read_file", {"file_path": "/a.txt"})]}, {"text": "Read."}]


class Talk:
    """A talk with an agent whose model is a loopback server."""

    def __init__(self, stigmer: Stigmer, server: OpenAIServer, agent: str) -> None:
        self.stigmer = stigmer
        self.server = server
        self.agent = agent
        self.session = ""

    @classmethod
    async def begin(cls, stigmer: Stigmer, server: OpenAIServer) -> Talk:
        return cls(stigmer, server, await stigmer.agent(MAIN))

    async def start(self, text: str, *replies: Any, session: str = "") -> str:
        """Begin an execution; gives its id."""
        self.server.replies[MAIN] = list(replies) or [{"text": f"Answer to {text}."}]
        options: Any = {"env": {"OPENAI_BASE_URL": self.server.url}, "secrets": {"OPENAI_API_KEY": "sk-fork"}}
        where = session or self.session
        made = await self.stigmer.execute(self.agent, text, model="openai:test", session=where, **options)
        self.session = self.session or made.spec.session_id
        return str(made.metadata.id)

    async def say(self, text: str, *replies: Any, session: str = "") -> Any:
        """Run an execution to its end; gives its id and its status."""
        execution = await self.start(text, *replies, session=session)
        status = await self.stigmer.finish(execution)
        assert phase(status) == DONE, status
        return execution, status

    async def fork(self, **where: str) -> str:
        """Fork the session; gives the fork's id."""
        request = {"id": self.session, **where}
        made = await self.stigmer.call("session.v1.SessionForkController", "fork", request)
        return str(made.metadata.id)

    @property
    def asked(self) -> list[str]:
        """What the model was asked with last: what was said, and what tools gave."""
        said = [each for each in self.server.calls[-1]["messages"] if each["role"] != "system"]
        return [f"{each['role']}: {each['content']}" for each in said]


def answers(status: Any) -> list[str]:
    """The ids of the agent's answers."""
    return [
        message.metadata.fields["message_id"].string_value
        for message in status.messages
        if enum_name(message, "type") == "MESSAGE_AI"
    ]


async def test_a_fork_goes_on_where_it_was_forked_and_the_session_as_if_nothing_was(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    talk = await Talk.begin(stigmer, openai_server)
    first, _ = await talk.say("one", *WRITES)
    _, status = await talk.say("two")
    before = status.session_usage.model_calls
    fork = await talk.fork(atExecutionId=first)

    overwrites = {"tool_calls": [("execute", {"command": "echo second > a.txt"})]}
    _, status = await talk.say("three", overwrites, {"text": "Changed."}, session=fork)
    one = ["user: one", "assistant: Writing.", "tool: Updated file /workspace/a.txt", "assistant: Written."]
    assert [each for each in talk.asked if "Exit code" not in each][:6] == [*one, "user: three", "assistant: None"]
    assert (before, status.session_usage.model_calls) == (3, 2)
    _, status = await talk.say("four", *READS, session=fork)
    assert "second" in status.tool_calls[0].result

    _, status = await talk.say("five", *READS)
    assert "first" in status.tool_calls[0].result
    assert [each for each in talk.asked if each.startswith("user")] == ["user: one", "user: two", "user: five"]
    assert status.session_usage.model_calls == before + 2


async def test_a_fork_ends_with_the_message_that_it_was_forked_at(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    talk = await Talk.begin(stigmer, openai_server)
    openai_server.hold_at = 0
    first = await talk.start("one", *WRITES)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    await stigmer.call(CONTROL, "sendMessage", {"id": first, "text": "and fast"})
    openai_server.release.set()
    status = await stigmer.finish(first)
    (sent,), (asking, *_) = status.sent_messages, answers(status)

    result = "tool: Updated file /workspace/a.txt"
    for message, expected in (
        (first, ["user: one"]),
        (asking, ["user: one", "assistant: Writing.", result]),
        (sent.id, ["user: one", "assistant: Writing.", result, "user: and fast"]),
    ):
        await talk.say("go on", session=await talk.fork(atMessageId=message))
        assert talk.asked == [*expected, "user: go on"]


async def test_a_fork_goes_on_while_its_session_does(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    talk = await Talk.begin(stigmer, openai_server)
    first, _ = await talk.say("one")
    openai_server.hold_at = 1
    second = await talk.start("two")
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    with pytest.raises(FailedPreconditionError, match=f"{second} has not ended"):
        await talk.fork()
    await talk.say("three", session=await talk.fork(atExecutionId=first))
    assert talk.asked == ["user: one", "assistant: Answer to one.", "user: three"]
    openai_server.release.set()
    assert phase(await stigmer.finish(second)) == DONE


async def test_what_has_failed_can_be_said_another_way(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    talk = await Talk.begin(stigmer, openai_server)
    await talk.say("one")
    failed = await talk.start("two", {"status": 400, "message": "no"})
    assert phase(await stigmer.finish(failed)) == "EXECUTION_FAILED"
    await talk.say("three", session=await talk.fork())
    assert talk.asked == ["user: one", "assistant: Answer to one.", "user: two", "user: three"]


async def test_a_fork_is_forked_again(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    talk = await Talk.begin(stigmer, openai_server)
    await talk.say("one")
    original, talk.session = talk.session, await talk.fork()
    # In this one, nothing is said: what is forked of it is what it was forked from.
    unused, talk.session = talk.session, await talk.fork()
    await talk.say("two")
    talk.session = await talk.fork()
    await talk.say("three")
    assert [each for each in talk.asked if each.startswith("user")] == ["user: one", "user: two", "user: three"]
    assert len({original, unused, talk.session}) == 3


async def test_a_worker_that_is_killed_in_a_forks_first_turn_leaves_the_fork_as_it_is(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    doomed = await own_stigmer.stack.start_runner()
    talk = await Talk.begin(own_stigmer, openai_server)
    await talk.say("one", *WRITES)
    fork = await talk.fork()
    openai_server.hold_at = len(openai_server.calls)
    execution = await talk.start("two", *READS, session=fork)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    os.kill(doomed.pid, signal.SIGKILL)
    openai_server.release.set()
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution)
    assert phase(status) == DONE
    assert [each for each in talk.asked if each.startswith("user")] == ["user: one", "user: two"]
    assert "first" in status.tool_calls[0].result


async def test_what_a_runner_does_not_remember_the_server_tells_it(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    runner = await own_stigmer.stack.start_runner()
    talk = await Talk.begin(own_stigmer, openai_server)
    await talk.say("one", *WRITES)
    second, _ = await talk.say("two")
    await talk.say("three")
    remembered, forgotten = await talk.fork(atExecutionId=second), await talk.fork(atExecutionId=second)
    await talk.say("four", session=remembered)
    asked = talk.asked
    lost = await talk.fork(atExecutionId=second)
    runner.terminate()
    await runner.wait()
    await own_stigmer.stack.start_runner(STIGMER_AGENT_RUNNER_DATA=str(own_stigmer.stack.folder / "elsewhere"))

    await talk.say("four", session=forgotten)
    assert talk.asked == asked
    original, talk.session = talk.session, forgotten
    again = await talk.fork()
    await talk.say("five", session=again)
    assert talk.asked == [*asked, "assistant: Answer to four.", "user: five"]

    await own_stigmer.call(SESSION, "delete", {"value": original})
    status = await own_stigmer.finish(await talk.start("six", session=lost))
    assert phase(status) == "EXECUTION_FAILED"
    assert status.error == (
        f"the session cannot begin: it was forked from {original} at {second}, and neither this runner nor the server "
        "has what was said there any more"
    )


def test_what_is_known_of_a_session_later_is_not_in_its_fork() -> None:
    def planned(number: str, content: str) -> list[Any]:
        args = {"todos": [{"content": content, "status": "pending"}]}
        call = {"id": number, "name": "write_todos", "args": args}
        return [
            AIMessage("", id=f"asks-{number}", tool_calls=[call]),
            ToolMessage("ok", id=f"gives-{number}", tool_call_id=number),
        ]

    messages = [
        HumanMessage("one", id="aex-1"),
        *planned("1", "early"),
        AIMessage("done", id="a1"),
        HumanMessage("two", id="aex-2"),
        *planned("2", "late"),
        AIMessage("done", id="a2"),
    ]
    values: dict[str, Any] = {
        "messages": messages,
        "todos": ["late"],
        "_summarization_event": {"cutoff_index": 5},
        "files": {"/a": 1},
    }

    def forked(execution: str, message: str = "") -> Any:
        return cut(values, Fork(session_id="s", thread="t", execution_id=execution, message_id=message))

    early = forked("aex-1")
    assert [each.id for each in early["messages"]] == ["aex-1", "asks-1", "gives-1", "a1"]
    assert (early["todos"], early["files"]) == ([{"content": "early", "status": "pending"}], {"/a": 1})
    assert early["_summarization_event"] is None
    assert [each.id for each in forked("aex-2", "asks-2")["messages"]][-2:] == ["asks-2", "gives-2"]
    assert forked("aex-2", "aex-2")["_summarization_event"] == {"cutoff_index": 5}
    assert forked("aex-2") == values
    assert forked("aex-3") is None


def _workspaces(root: Path, most_bytes: int = 1000) -> FolderWorkspaces:
    return FolderWorkspaces(root, HostSandbox(), WorkspaceLimits(most_bytes=most_bytes))


async def _folder(workspaces: FolderWorkspaces, thread: str) -> Path:
    folder = (await workspaces.open(thread)).folder
    assert folder is not None
    return folder


async def test_files_are_copied_as_they_are_and_no_link_is_followed(tmp_path: Path) -> None:
    workspaces = _workspaces(tmp_path / "workspaces")
    (secret := tmp_path / "secret").mkdir()
    (secret / "key").write_text("do not copy")
    source = await _folder(workspaces, "old")
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "run.sh").write_text("echo hi")
    (source / "deep" / "er" / "run.sh").chmod(0o750)
    (source / "out").symlink_to(secret)
    (source / "lost").symlink_to("nowhere")
    os.mkfifo(source / "pipe")

    await copy_workspace(workspaces, "old", "new")
    target = await _folder(workspaces, "new")
    copied = target / "deep" / "er" / "run.sh"
    assert (copied.read_text(), copied.stat().st_mode & 0o777) == ("echo hi", 0o750)
    assert copied.stat().st_mtime_ns == (source / "deep" / "er" / "run.sh").stat().st_mtime_ns
    assert ((target / "out").readlink(), (target / "lost").readlink()) == (secret, Path("nowhere"))
    assert not (target / "pipe").exists()

    copied.write_text("changed")
    await copy_workspace(workspaces, "old", "new")
    assert copied.read_text() == "changed"
    assert sorted(each.name for each in (tmp_path / "workspaces").iterdir()) == sorted(map(name_of, ("old", "new")))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
async def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    workspaces = _workspaces(tmp_path / "workspaces")
    source = await _folder(workspaces, "old")
    (source / "closed").mkdir(mode=0)
    with pytest.raises(WorkspaceFileError, match="cannot be copied"):
        await copy_workspace(workspaces, "old", "new")
    (source / "closed").chmod(0o700)
    await copy_workspace(workspaces, "old", "new")
    assert (await _folder(workspaces, "new") / "closed").is_dir()


async def test_more_than_a_workspace_may_hold_is_not_copied(tmp_path: Path) -> None:
    workspaces = _workspaces(tmp_path / "workspaces", most_bytes=10)
    (await _folder(workspaces, "old") / "a").write_text("x" * 11)
    with pytest.raises(WorkspaceFileError, match="holds more than 10 bytes"):
        await copy_workspace(workspaces, "old", "new")
    assert not list((await _folder(workspaces, "new")).iterdir())


async def test_folders_that_are_too_deep_are_not_copied(tmp_path: Path) -> None:
    workspaces = _workspaces(tmp_path / "workspaces")
    source = await _folder(workspaces, "old")
    (source / "/".join("a" * 100)).mkdir(parents=True)
    await copy_workspace(workspaces, "old", "new")
    assert (await _folder(workspaces, "new") / "/".join("a" * 100)).is_dir()
    (source / "/".join("a" * 101)).mkdir(parents=True)
    with pytest.raises(WorkspaceFileError, match="more than 100 folders in one another"):
        await copy_workspace(workspaces, "old", "third")
    assert not list((await _folder(workspaces, "third")).iterdir())
