"""Where agents work: a shell and files in a sandbox, kept between executions, and skills that are read on demand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agent_runner.testing import Stigmer, enum_name, phase
from agent_runner.workspace.backend import SandboxBackend
from agent_runner.workspace.folders import FolderWorkspaces
from agent_runner.workspace.limits import WorkspaceLimits
from agent_runner.workspace.port import Workspaces
from stigmer_sandbox import Limits, LocalSandbox

DONE = "EXECUTION_COMPLETED"


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    limits = WorkspaceLimits(most_bytes=100_000, command=Limits(seconds=20, output_bytes=50_000))
    return FolderWorkspaces(tmp_path / "workspaces", LocalSandbox(), limits)


async def opened(workspaces: Workspaces, thread: str = "thread-1", **options: Any) -> Any:
    return SandboxBackend(await workspaces.open(thread, **options), options.get("readable", ()))


async def test_file_tools_and_the_shell_see_the_same_files(workspaces: Workspaces) -> None:
    tools = await opened(workspaces)
    written = await tools.awrite("/notes/a.txt", "one\ntwo\n")
    assert (written.error, written.path) == (None, "/workspace/notes/a.txt")
    said = await tools.aexecute("cat notes/a.txt; pwd; echo three >> notes/a.txt")
    assert (said.output, said.exit_code) == ("one\ntwo\n/workspace\n", 0)
    assert (await tools.aedit("/notes/a.txt", "two", "2")).error is None
    read = await tools.aread("/workspace/notes/a.txt")
    assert read.file_data["content"].splitlines() == ["one", "2", "three"]
    assert [entry["path"] for entry in (await tools.als("/")).entries] == ["/workspace/notes"]
    assert [match["path"] for match in (await tools.agrep("three")).matches] == ["/workspace/notes/a.txt"]
    assert [match["path"] for match in (await tools.aglob("**/*.txt")).matches] == ["/workspace/notes/a.txt"]
    (file,) = await tools.adownload_files(["/notes/a.txt"])
    assert file.content == b"one\n2\nthree\n"
    assert (await tools.adelete("/notes")).error is None
    assert "not found" in (await tools.adelete("/notes")).error
    assert (await tools.aread("/notes/a.txt")).error


async def test_a_workspace_is_kept_for_its_thread_and_no_other(workspaces: Workspaces) -> None:
    await (await opened(workspaces)).aexecute("echo mine > kept")
    assert (await (await opened(workspaces)).aexecute("cat kept")).output == "mine\n"
    assert (await (await opened(workspaces, "thread-2")).aexecute("ls")).output == ""
    assert (await (await opened(workspaces, "../thread-1")).aexecute("ls")).output == ""


async def test_nothing_leads_out_of_the_workspace(workspaces: Workspaces, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the host's")
    tools = await opened(workspaces)
    await tools.aexecute(f"ln -s {secret} link; ln -s {tmp_path} folder; ln -s /etc etc")
    for path in ("link", "folder/secret.txt", str(secret), f"/workspace/../{secret}", "../../secret.txt"):
        assert (await tools.aread(path)).error, path
        (file,) = await tools.adownload_files([path])
        assert file.content is None
    await tools.awrite("folder/secret.txt", "overwritten")
    await tools.aupload_files([("link", b"overwritten")])
    assert secret.read_text() == "the host's"
    assert (
        "Operation not permitted" in (await tools.aexecute("touch /usr/x 2>&1 || echo Operation not permitted")).output
    )


async def test_commands_have_the_environment_of_the_run_and_no_network_unless_given(workspaces: Workspaces) -> None:
    tools = await opened(workspaces, environment={"TOKEN": "t-1"})
    said = await tools.aexecute('echo "$TOKEN"; env | grep -c STIGMER; cat /proc/net/dev')
    lines = said.output.splitlines()
    assert lines[:2] == ["t-1", "0"]
    assert [line.split(":")[0].strip() for line in lines if ":" in line] == ["lo"]


async def test_a_command_that_takes_too_long_is_ended(workspaces: Workspaces) -> None:
    said = await (await opened(workspaces)).aexecute("echo begun; sleep 60", timeout=1)
    assert said.output == "begun\n\n(ended: the command used too much time)"


async def test_output_is_bounded(workspaces: Workspaces) -> None:
    said = await (await opened(workspaces)).aexecute("yes | head -c 10000000")
    assert said.truncated
    assert len(said.output) <= 100_000


async def test_a_full_workspace_can_only_be_tidied_up(workspaces: Workspaces) -> None:
    tools = await opened(workspaces)
    filled = await tools.aexecute("head -c 200000 /dev/zero > big")
    assert "(the workspace holds more than 100000 bytes, or has" in filled.output
    refused = await tools.aexecute("head -c 50000 /dev/zero > more")
    assert refused.exit_code != 0
    assert (await tools.aexecute("rm -f big more")).output == ""
    assert (await tools.aexecute("head -c 50000 /dev/zero > more && echo fine")).output == "fine\n"


async def test_what_is_long_unused_is_removed(workspaces: Workspaces, tmp_path: Path) -> None:
    tools = await opened(workspaces)
    await tools.aexecute("mkdir -p $(printf 'deep/%.0s' $(seq 800)); chmod 0 deep")
    await opened(workspaces, "thread-2")
    old = tmp_path / "workspaces" / tools.id
    long_ago = time.time() - 40 * 86_400
    os.utime(old, (long_ago, long_ago))
    tidying = asyncio.create_task(workspaces.tidy())
    async with asyncio.timeout(10):
        while old.exists():  # noqa: ASYNC110 - the file system tells nobody
            await asyncio.sleep(0.01)
    tidying.cancel()
    assert len(list((tmp_path / "workspaces").iterdir())) == 1


def archive(files: Mapping[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
            file.writestr(info, text)
    return made.getvalue()


async def push(stigmer: Stigmer, name: str, files: Mapping[str, str], tag: str = "") -> str:
    """Push a skill; gives its hash."""
    data = archive(files)
    request = {"name": name, "scope": 2, "org": "local", "artifact": base64.b64encode(data).decode(), "tag": tag}
    await stigmer.call("skill.v1.SkillCommandController", "push", request)
    return hashlib.sha256(data).hexdigest()


def skill_reference(slug: str, version: str = "") -> dict[str, Any]:
    return {"scope": 2, "org": "local", "kind": 43, "slug": slug, "version": version}


STYLE = "---\nname: house-style\ndescription: How we write here.\n---\n# Style\nWrite short sentences.\n"


@pytest.mark.slow
async def test_an_agent_reads_its_skills_and_runs_their_scripts(stigmer: Stigmer) -> None:
    files = {"SKILL.md": STYLE, "count.sh": '#!/bin/sh\nwc -w < "$1"\n', "more/rules.txt": "No adverbs.\n"}
    hash_ = await push(stigmer, "house-style", files)
    folder = f"{stigmer.stack.data}/skills/{hash_}"
    text = f"""
turns:
  - tool_calls: [{{name: read_file, args: {{file_path: {folder}/SKILL.md}}}}]
  - tool_calls: [{{name: write_file, args: {{file_path: /text.txt, content: one two three}}}}]
  - tool_calls: [{{name: execute, args: {{command: '{folder}/count.sh text.txt; cat {folder}/more/rules.txt'}}}}]
  - tool_calls: [{{name: execute, args: {{command: 'echo spoiled > {folder}/SKILL.md'}}}}]
  - text: done
"""
    agent = await stigmer.agent(skillRefs=[skill_reference("house-style")])
    status = await stigmer.run(agent, "Count", model=stigmer.stack.script("skills", text))
    assert phase(status) == DONE
    read, _, counted, spoiled = status.tool_calls
    assert "Write short sentences." in read.result
    assert "3\nNo adverbs." in counted.result
    assert "Read-only file system" in spoiled.result or "Permission denied" in spoiled.result


@pytest.mark.slow
async def test_a_skill_is_used_in_the_version_that_is_named(stigmer: Stigmer) -> None:
    first = await push(stigmer, "versioned", {"SKILL.md": "# One\nThe first.\n"}, tag="stable")
    await push(stigmer, "versioned", {"SKILL.md": "# Two\nThe second.\n"})
    name = stigmer.stack.script("versions", "turns: [{text: done}]")
    for version in ("stable", first):
        agent = await stigmer.agent(skillRefs=[skill_reference("versioned", version)])
        assert phase(await stigmer.run(agent, "Go", model=name)) == DONE
        assert (stigmer.stack.data / "skills" / first / "SKILL.md").read_text() == "# One\nThe first.\n"


@pytest.mark.slow
async def test_a_workspace_lives_as_long_as_its_session(stigmer: Stigmer) -> None:
    write = "turns:\n  - tool_calls: [{name: execute, args: {command: echo kept > note.txt}}]\n  - text: done\n"
    read = "turns:\n  - tool_calls: [{name: execute, args: {command: cat note.txt}}]\n  - text: done\n"
    agent = await stigmer.agent()
    first = await stigmer.execute(agent, "Write", model=stigmer.stack.script("ws-write", write))
    await stigmer.finish(first.metadata.id)
    second = await stigmer.execute(
        agent, "Read", model=stigmer.stack.script("ws-read", read), session=first.spec.session_id
    )
    (call,) = (await stigmer.finish(second.metadata.id)).tool_calls
    assert (enum_name(call, "status"), "kept" in call.result) == ("TOOL_CALL_COMPLETED", True)
    other = await stigmer.run(agent, "Read", model="scripted:ws-read")
    assert "No such file" in other.tool_calls[0].result


@pytest.mark.slow
async def test_a_secret_in_the_shell_is_in_no_report(stigmer: Stigmer) -> None:
    call = '{name: execute, args: {command: "echo $TOKEN-$OPENAI_API_KEY-"}}'
    text = f"turns:\n  - tool_calls: [{call}]\n  - text: $result\n"
    status = await stigmer.run(
        await stigmer.agent(),
        "Tell",
        model=stigmer.stack.script("secret", text),
        secrets={"TOKEN": "tok-secret-1", "OPENAI_API_KEY": "sk-secret-2"},
    )
    assert phase(status) == DONE
    assert "secret" not in str(status).replace("scripted:secret", "")
    assert status.tool_calls[0].result.startswith("***")
    assert "--" in status.tool_calls[0].result, "what is there for the model is not there for commands"


@pytest.mark.slow
async def test_without_a_sandbox_there_is_no_shell(own_stigmer: Stigmer) -> None:
    await own_stigmer.stack.start_runner(STIGMER_AGENT_SANDBOX="off")
    text = (
        "turns:\n  - tool_calls: [{name: execute, args: {command: ls}}]\n"
        "  - tool_calls: [{name: write_file, args: {file_path: /a.txt, content: x}}]\n  - text: done\n"
    )
    status = await own_stigmer.run(await own_stigmer.agent(), "Go", model=own_stigmer.stack.script("off", text))
    assert [enum_name(call, "status") for call in status.tool_calls] == ["TOOL_CALL_FAILED", "TOOL_CALL_COMPLETED"]
    assert not (own_stigmer.stack.data / "workspaces").exists()
