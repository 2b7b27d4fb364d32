"""Agents at Daytona: what the platform is asked for, and what becomes of sandboxes that stop, fail or go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_runner.errors import WorkspaceFileError
from agent_runner.settings import Settings
from agent_runner.testing import Stigmer, phase
from agent_runner.workspace.choosing import choose
from agent_runner.workspace.daytona.api import POLICY, DaytonaApi
from agent_runner.workspace.daytona.sandbox import PLACE
from agent_runner.workspace.daytona.settings import DaytonaSettings
from agent_runner.workspace.daytona.workspaces import DaytonaWorkspaces
from agent_runner.workspace.limits import WorkspaceLimits
from agent_runner.workspace.port import Workspace
from stigmer_sandbox import Ending, Limits, SandboxUnavailableError, guarded_client

KEY = "dtn_the-key"
LIMITS = WorkspaceLimits(days=7, command=Limits(seconds=20))


class At:
    """Workspaces at a platform."""

    def __init__(self, client: Any, platform: Any) -> None:
        self.client = client
        self.settings = DaytonaSettings(api_key=KEY, api_url=platform.url, look_seconds=0.01, wait_seconds=10)

    def workspaces(self, **changes: Any) -> DaytonaWorkspaces:
        settings = replace(self.settings, **changes)
        return DaytonaWorkspaces(DaytonaApi(self.client, settings), settings, LIMITS)

    async def open(self, thread: str = "thread-1", **options: Any) -> Workspace:
        return await self.workspaces().open(thread, **options)


@pytest.fixture
async def at(daytona: Any) -> AsyncGenerator[At]:
    async with guarded_client(POLICY) as client:
        yield At(client, daytona)


def only(platform: Any) -> Any:
    (box,) = platform.boxes.values()
    return box


async def said(workspace: Workspace, script: str, **more: Any) -> str:
    finished = (await workspace.run("/bin/sh", "-c", script, **more)).finished
    assert (finished.code, finished.stderr) == (0, b"")
    return finished.stdout.decode()


async def test_a_sandbox_is_made_as_the_operator_says(at: At, daytona: Any) -> None:
    workspaces = at.workspaces(snapshot="tools-1", target="eu", idle_seconds=600.0)
    workspace = await workspaces.open("thread-1", environment={"TOKEN": "the-only-secret"})
    assert daytona.boxes == {}, "nothing is made before it is needed"
    assert workspace.id == ""
    assert await said(workspace, 'echo "$TOKEN"; pwd') == "the-only-secret\n/home/daytona/workspace\n"
    box = only(daytona)
    assert workspace.id == box.id
    assert box.wanted == {
        "name": box.name,
        "labels": {"ai.stigmer.managed": "agent-runner"},
        "public": False,
        "networkBlockAll": True,
        "autoStopInterval": 10,
        "autoDeleteInterval": 7 * 1440,
        "target": "eu",
        "snapshot": "tools-1",
    }
    executed = [body for (_, path), body in zip(daytona.asked, daytona.bodies, strict=True) if path.endswith("execute")]
    assert not any(b"the-only-secret" in body for body in executed), "what is executed is in a list of processes"
    assert "the-only-secret" not in await said(workspace, "cat /tmp/.stigmer/* 2>/dev/null | tr -d '\\0'")


async def test_a_sandbox_is_found_again_and_started(at: At, daytona: Any) -> None:
    workspace = await at.open()
    await said(workspace, "echo kept > file")
    daytona.stop(only(daytona))
    assert await said(await at.open(), "cat file") == "kept\n"
    daytona.stop(only(daytona))
    assert await said(workspace, "cat file") == "kept\n", "it was stopped while it was open"
    daytona.stop(only(daytona))
    assert await workspace.read("file", most=100) == b"kept\n"
    assert len([path for method, path in daytona.asked if (method, path) == ("POST", "sandbox")]) == 1


async def test_two_who_come_at_once_share_a_sandbox(at: At, daytona: Any) -> None:
    first, second = await asyncio.gather(at.open(), at.open())
    assert await asyncio.gather(said(first, "echo 1"), said(second, "echo 2")) == ["1\n", "2\n"]
    assert only(daytona).state == "started"


async def test_a_sandbox_that_is_deleted_is_made_anew(at: At, daytona: Any) -> None:
    workspace = await at.open()
    await said(workspace, "echo mine > file")
    await at.workspaces().remove("thread-1")
    assert only(daytona).state == "destroying"
    other = await at.open("thread-2")
    await said(other, "true")
    await at.workspaces().remove(other.id)
    assert {box.state for box in daytona.boxes.values()} == {"destroying"}
    assert await said(await at.open(), "ls") == ""


async def test_looking_for_files_makes_no_sandbox_and_leaves_the_network(at: At, daytona: Any) -> None:
    assert await (await at.open()).entries() == ()
    assert daytona.boxes == {}
    workspace = await at.open(network=True)
    await said(workspace, "true")
    assert not only(daytona).wanted["networkBlockAll"]
    await (await at.open()).write("file", b"x")
    assert not only(daytona).wanted["networkBlockAll"]
    assert await said(await at.open(), "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat file") == "lo\nx"
    assert only(daytona).wanted["networkBlockAll"]


async def test_a_passing_failure_is_lived_through(at: At, daytona: Any) -> None:
    workspace = await at.open()
    daytona.failing = [502, 429, 503]
    assert await said(workspace, "echo fine") == "fine\n"
    daytona.failing = [503] * 10
    with pytest.raises(SandboxUnavailableError, match="Daytona answers 503: try again"):
        await workspace.run("/bin/true")


async def test_a_command_of_which_nothing_is_known_is_not_run_again(at: At, daytona: Any) -> None:
    workspace = await at.open()
    await said(workspace, "true")
    execute, ran = daytona.execute, list[str]()

    def lost(box: Any, asked: dict[str, Any]) -> tuple[int, Any]:
        answer = execute(box, asked)
        if "supervisor" in asked["command"] and " run " in asked["command"]:
            ran.append(asked["command"])
            return 502, {"message": "upstream"}
        return answer

    daytona.execute = lost
    with pytest.raises(SandboxUnavailableError, match="502"):
        await workspace.run("/bin/sh", "-c", "echo x >> ran")
    assert len(ran) == 1
    daytona.execute = execute
    assert await said(workspace, "cat ran") == "x\n"


async def test_a_command_that_ends_its_supervisor_is_told_as_killed(at: At) -> None:
    workspace = await at.open()
    assert (await workspace.run("/bin/sh", "-c", "kill -9 $PPID; sleep 5")).finished.code == 137
    assert await said(workspace, "echo fine") == "fine\n"


async def test_too_much_memory_ends_a_command(at: At) -> None:
    workspace = await at.workspaces().open("thread-1")
    hungry = "python3 -c 'import time; held = bytearray(700 * 2**20); time.sleep(20)'"
    assert (await workspace.run("/bin/sh", "-c", hungry)).finished.ending is Ending.MEMORY


async def test_large_files_cross_whole(at: At) -> None:
    workspace = await at.open()
    content = bytes(range(256)) * 5000
    await workspace.write("large", content)
    assert await workspace.read("large", most=len(content)) == content
    with pytest.raises(WorkspaceFileError, match="more than 1000000 bytes"):
        await workspace.read("large", most=1_000_000)
    assert await said(workspace, "ls /tmp/.stigmer | grep -v py$ || true") == "", "nothing is left of the way"


async def test_a_turn_begins_with_few_requests(at: At, daytona: Any) -> None:
    await said(await at.open(), "echo kept > file")
    daytona.asked.clear()
    assert [entry.path for entry in await (await at.open()).entries()] == ["file"]
    assert sorted(path.rpartition("/")[2] for _, path in daytona.asked if "toolbox" in path) == [
        *["bulk-upload"] * 2, *["execute"] * 2,
    ]  # fmt: skip
    assert len(daytona.asked) == 5, "and it is looked for once"


async def test_more_than_is_wanted_is_not_fetched(at: At, daytona: Any) -> None:
    await said(await at.open(), "true")
    api = DaytonaApi(at.client, at.settings)
    box = await api.find(only(daytona).id)
    assert box is not None
    place = f"{PLACE}/swapped"
    await api.upload(box, place, b"x" * 1000)
    daytona.asked.clear()
    with pytest.raises(SandboxUnavailableError, match=r"answers too much: .*more than the cap of 999"):
        await api.download(box, place, most=999)
    assert len(daytona.asked) == 1, "what is too much is so the next time, too"


async def test_skills_are_there_as_they_are_here(at: At, tmp_path: Path) -> None:
    skill = tmp_path / "abc"
    (skill / "more").mkdir(parents=True)
    (skill / "more" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (skill / "more" / "run.sh").chmod(0o555)
    workspace = await at.open(readable=(skill,))
    seen = workspace.seen(skill)
    assert (
        await said(workspace, f"{seen}/more/run.sh; touch {seen}/new 2>/dev/null || echo refused") == "ran\nrefused\n"
    )
    await said(workspace, f"chmod -R u+w {seen}; echo spoiled > {seen}/more/run.sh; touch {seen}/new")
    assert await said(await at.open(readable=(skill,)), f"{seen}/more/run.sh; ls {seen}") == "ran\nmore\n"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"api_key": ""}, "there is no key: set DAYTONA_API_KEY"),
        ({"api_key": "wrong"}, r"Daytona refuses the key \(DAYTONA_API_KEY\)"),
        ({"api_url": "http://127.0.0.1:9/api"}, r"cannot be reached: .*\(DAYTONA_API_URL\)"),
        ({"api_url": "http://169.254.169.254/api"}, "never allowed"),
    ],
)
async def test_why_daytona_cannot_be_used_is_told(at: At, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SandboxUnavailableError, match=reason):
        raise SandboxUnavailableError(await at.workspaces(**changes).unusable())


async def test_a_sandbox_that_cannot_be_had_is_told(at: At, daytona: Any) -> None:
    with pytest.raises(SandboxUnavailableError, match="400: Snapshot missing not found"):
        await (await at.workspaces(snapshot="missing").open("thread-1")).run("/bin/true")
    with pytest.raises(SandboxUnavailableError, match=r"/nowhere/at/all cannot be made .*STIGMER_DAYTONA_FOLDER"):
        await (await at.workspaces(folder="/nowhere/at/all").open("thread-2")).run("/bin/true")

    def never(_: object) -> None:
        """Leave it as it is."""

    daytona.proceed = never
    with pytest.raises(SandboxUnavailableError, match="is still creating"):
        await (await at.workspaces(wait_seconds=0.1).open("thread-3")).run("/bin/true")
    (box,) = [box for box in daytona.boxes.values() if box.state == "creating"]
    box.state = "error"
    with pytest.raises(SandboxUnavailableError, match=r"is still (starting|error)"):
        await (await at.workspaces(wait_seconds=0.1).open("thread-3")).run("/bin/true")


async def test_the_operator_chooses_daytona(daytona: Any, tmp_path: Path) -> None:
    settings = Settings(sandbox="daytona", daytona_api_key=KEY, daytona_api_url=daytona.url, data_folder=tmp_path)
    async with guarded_client(POLICY) as client:
        chosen = await choose(settings, client)
        wrong = await choose(settings.model_copy(update={"daytona_api_key": "wrong"}), client)
    assert chosen.workspaces is not None
    assert chosen.workspaces.name == "sandboxes of Daytona"
    assert chosen.sandbox is not None, "MCP servers that are programs run here"
    assert wrong.workspaces is None
    assert KEY in settings.keys


@pytest.mark.slow
async def test_an_agent_works_where_its_operator_says(own_stigmer: Stigmer, daytona: Any) -> None:
    text = (
        "turns:\n  - tool_calls: [{name: write_file, args: {file_path: /a/note.txt, content: kept}}]\n"
        "  - tool_calls: [{name: execute, args: {command: 'cat a/note.txt; echo in $PWD'}}]\n"
        "  - tool_calls: [{name: ls, args: {path: /a}}]\n  - text: done\n"
    )
    model = own_stigmer.stack.script("elsewhere", text)
    places: dict[str, dict[str, str]] = {
        "/workspace": {
            "STIGMER_AGENT_SANDBOX": "docker",
            "STIGMER_AGENT_CONTAINER_PROGRAM": str(daytona.docker_program),
        },
        "/home/daytona/workspace": {
            "STIGMER_AGENT_SANDBOX": "daytona",
            "DAYTONA_API_KEY": KEY,
            "DAYTONA_API_URL": daytona.url,
        },
    }
    for folder, variables in places.items():
        runner = await own_stigmer.stack.start_runner(**variables)
        status = await own_stigmer.run(await own_stigmer.agent(), "Go", model=model)
        assert phase(status) == "EXECUTION_COMPLETED"
        _, ran, listed = status.tool_calls
        assert f"keptin {folder}" in ran.result
        assert f"{folder}/a/note.txt" in listed.result
        assert KEY not in str(status)
        runner.terminate()
        await runner.wait()
