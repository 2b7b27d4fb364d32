"""Agents in containers of Docker or Podman: what their engine is told, and what becomes of what it made."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agent_runner.settings import Settings
from agent_runner.workspace.choosing import choose
from agent_runner.workspace.daytona.api import POLICY
from agent_runner.workspace.folders import FolderWorkspaces
from agent_runner.workspace.limits import WorkspaceLimits
from stigmer_sandbox import (
    Command,
    ContainerOptions,
    ContainerSandbox,
    Ending,
    Limits,
    LocalSandbox,
    Pipes,
    SandboxUnavailableError,
    guarded_client,
)

LIMITS = Limits(seconds=20)


@pytest.fixture
def docker(engine: Callable[[str], Path]) -> Path:
    return engine("docker")


@pytest.fixture
def options(docker: Path) -> ContainerOptions:
    return ContainerOptions(program=str(docker), owner="tests")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work, with a comma"
    made.mkdir()
    if not os.getuid():
        os.chown(made, 1000, 1000)
    return made


def state(program: Path) -> Path:
    return program.parent / "engine"


def asked(program: Path, verb: str) -> list[list[str]]:
    """What the engine was asked for, without the supervisor's text."""
    lines = map(json.loads, (state(program) / "log").read_text().splitlines())
    return [[word for word in words if "\n" not in word] for words in lines if words[0] == verb]


def containers(program: Path) -> list[str]:
    listed = subprocess.run([program, "ps", "--all", "--quiet", "--filter", "label=x"], check=True, capture_output=True)
    del listed  # what has ended is taken off the list by that
    return sorted(file.stem for file in state(program).glob("stigmer-*.json"))


def values(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


def command(folder: Path | None, script: str, **more: Any) -> Command:
    return replace(Command(arguments=("/bin/sh", "-c", script), workspace=folder, limits=LIMITS), **more)


def owner(path: Path) -> int:
    return path.stat().st_uid


def remove_all(program: Path) -> None:
    subprocess.run([program, "rm", "--force", *containers(program)], check=True)


async def test_a_container_has_no_rights_and_nothing_but_its_folders(
    options: ContainerOptions, docker: Path, folder: Path, tmp_path: Path
) -> None:
    skill = tmp_path / "skill"
    skill.mkdir()
    sandbox = ContainerSandbox(options)
    script = "id -u; grep CapEff /proc/self/status; touch /x 2>&1; ls /home 2>&1"
    told = await sandbox.run(command(folder, script, readable=(skill,), environment={"TOKEN": "the-only-secret"}))
    assert told.stdout.decode().splitlines()[0] == str(os.getuid() or 1000)
    assert b"0000000000000000" in told.stdout or os.getuid()
    (started,) = asked(docker, "run")
    assert {"--rm", "--init", "--read-only", "--detach"} <= set(started)
    assert values(started, "--cap-drop") == ["ALL"]
    assert "no-new-privileges" in values(started, "--security-opt")
    assert values(started, "--network") == ["none"]
    assert values(started, "--user") == [f"{os.getuid() or 1000}:{os.getuid() or 1000}"]
    assert values(started, "--memory") == [str(LIMITS.memory_bytes + 64 * 2**20)]
    assert int(values(started, "--pids-limit")[0]) >= LIMITS.processes
    assert values(started, "--mount") == [
        f"type=bind,source={skill},target={skill},readonly",
        f'type=bind,"source={folder}",target=/workspace',
    ]
    assert sandbox.owner == (None if os.getuid() else 1000)
    assert "the-only-secret" not in (state(docker) / "log").read_text()


async def test_one_container_serves_a_workspace(options: ContainerOptions, docker: Path, folder: Path) -> None:
    sandbox = ContainerSandbox(options)
    for number in range(3):
        await sandbox.run(command(folder, f"echo {number} >> file"))
    assert (await sandbox.run(command(folder, "cat file"))).stdout == b"0\n1\n2\n"
    assert len(asked(docker, "run")) == 1
    assert await ContainerSandbox(options).run(command(folder, "wc -l < file"))
    assert len(containers(docker)) == 1


async def test_a_container_that_is_gone_is_made_again(options: ContainerOptions, docker: Path, folder: Path) -> None:
    sandbox = ContainerSandbox(options)
    await sandbox.run(command(folder, "echo kept > file"))
    await asyncio.to_thread(remove_all, docker)
    assert (await sandbox.run(command(folder, "cat file"))).stdout == b"kept\n"


async def test_a_container_that_nobody_uses_ends_by_itself(
    options: ContainerOptions, docker: Path, folder: Path
) -> None:
    sandbox = ContainerSandbox(replace(options, idle_seconds=0.4))
    busy = asyncio.create_task(sandbox.run(command(folder, "sleep 1.5; echo done")))
    assert (await busy).stdout == b"done\n", "a command in flight is a use"
    async with asyncio.timeout(15):
        while containers(docker):  # noqa: ASYNC110 - it tells nobody of its end
            await asyncio.sleep(0.05)
    assert (await sandbox.run(command(folder, "echo again"))).stdout == b"again\n"


async def test_a_command_that_ends_its_supervisor_leaves_nothing(
    options: ContainerOptions, docker: Path, folder: Path
) -> None:
    sandbox = ContainerSandbox(options)
    script = "(while :; do date +%N > beat; sleep 0.02; done) & until test -s beat; do :; done; kill -9 $PPID; sleep 30"
    assert (await sandbox.run(command(folder, script))).code == 137
    assert containers(docker) == []
    before = (folder / "beat").read_text()
    assert (await sandbox.run(command(folder, "sleep 0.2; cat beat"))).stdout.decode() == before


async def test_a_container_that_dies_under_a_command_is_not_asked_twice(
    options: ContainerOptions, docker: Path, folder: Path
) -> None:
    sandbox = ContainerSandbox(options)
    running = asyncio.create_task(sandbox.run(command(folder, "echo x >> ran; sleep 30")))
    async with asyncio.timeout(15):
        while not (folder / "ran").exists():  # noqa: ASYNC110 - no file tells of itself
            await asyncio.sleep(0.02)
    await asyncio.to_thread(remove_all, docker)
    assert (await running).code != 0
    assert (folder / "ran").read_text() == "x\n"


async def test_networks_do_not_share_a_container(options: ContainerOptions, docker: Path, folder: Path) -> None:
    sandbox = ContainerSandbox(options)
    without = (await sandbox.run(command(folder, "cat /proc/net/dev"))).stdout.decode()
    assert [line.split(":")[0].strip() for line in without.splitlines() if ":" in line] == ["lo"]
    await sandbox.run(command(folder, "true", network=True))
    assert [values(each, "--network") for each in asked(docker, "run")] == [["none"], []]
    await sandbox.remove(folder)
    assert containers(docker) == []


async def test_a_command_without_a_workspace_has_a_container_of_its_own(
    options: ContainerOptions, docker: Path
) -> None:
    sandbox = ContainerSandbox(options)
    finished = await sandbox.run(command(None, "cat; pwd; ls", stdin=b"in "))
    assert finished.stdout == b"in /workspace\n"
    slow = await sandbox.run(command(None, "sleep 30", limits=replace(LIMITS, seconds=0.5)))
    assert slow.ending is Ending.TIME
    assert containers(docker) == []


async def test_one_talks_with_a_command_in_a_container_of_its_own(
    options: ContainerOptions, docker: Path, folder: Path
) -> None:
    heard: list[bytes] = []

    async def talk(pipes: Pipes) -> None:
        for word in (b"one\n", b"two\n"):
            pipes.input.write(word)
            heard.append(await pipes.output.readline())

    given = command(
        folder, 'echo aside >&2; while read -r word; do echo "$TOKEN $word"; done', environment={"TOKEN": "t"}
    )
    finished = await ContainerSandbox(options).run(given, talk)
    assert heard == [b"t one\n", b"t two\n"]
    assert finished.stderr == b"aside\n"
    assert containers(docker) == []


async def test_too_much_memory_or_too_many_processes_end_a_command(options: ContainerOptions, folder: Path) -> None:
    sandbox = ContainerSandbox(options)
    limits = replace(LIMITS, memory_bytes=100 * 2**20, processes=8)
    hungry = "python3 -c 'import time; held = bytearray(150 * 2**20); time.sleep(20)'"
    assert (await sandbox.run(command(folder, hungry, limits=limits))).ending is Ending.MEMORY
    many = "for each in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 20 & done; wait"
    assert (await sandbox.run(command(folder, many, limits=limits))).ending is Ending.PROCESSES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"program": ""}, "neither docker nor podman is found"),
        ({"program": "/nowhere/docker"}, "cannot be run"),
        ({"image": "other:1", "pull": False}, "there is no image other:1 on this machine; fetch it, or allow it"),
        ({"image": "missing:1"}, "manifest for missing:1 not found"),
    ],
)
async def test_what_is_missing_is_told(options: ContainerOptions, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(SandboxUnavailableError, match=reason):
        await ContainerSandbox(replace(options, **change)).check()


async def test_an_engine_that_is_away_is_told(options: ContainerOptions, docker: Path) -> None:
    (state(docker) / "down").touch()
    with pytest.raises(SandboxUnavailableError, match=r"Is the docker daemon running.*see that its service runs"):
        await ContainerSandbox(options).check()


async def test_podman_without_root_is_told_who_commands_are(engine: Callable[[str], Path], folder: Path) -> None:
    podman = engine("podman")
    (state(podman) / "rootless").touch()
    sandbox = ContainerSandbox(ContainerOptions(program=str(podman), owner="tests"))
    await sandbox.check()
    assert sandbox.name == "containers of podman"
    assert values(asked(podman, "run")[0], "--userns") == ["keep-id"]


async def test_workspaces_go_with_their_containers(options: ContainerOptions, docker: Path, tmp_path: Path) -> None:
    workspaces = FolderWorkspaces(tmp_path / "workspaces", ContainerSandbox(options), WorkspaceLimits(command=LIMITS))
    for thread in ("old", "new"):
        await (await workspaces.open(thread)).run("/bin/true")
    old = (await workspaces.open("old")).folder
    assert old is not None
    long_ago = time.time() - 40 * 86_400
    os.utime(old, (long_ago, long_ago))
    tidying = asyncio.create_task(workspaces.tidy())
    async with asyncio.timeout(15):
        while old.exists():  # noqa: ASYNC110 - the file system tells nobody
            await asyncio.sleep(0.02)
    tidying.cancel()
    assert len(containers(docker)) == 1
    assert next(each for each in asked(docker, "ps") if "status=exited" in each)[-2:] == ["--filter", "status=exited"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root's containers have another user than the runner")
async def test_files_from_before_belong_to_the_commands_of_containers(
    options: ContainerOptions, tmp_path: Path
) -> None:
    root, limits = tmp_path / "workspaces", WorkspaceLimits(command=LIMITS)
    before = await FolderWorkspaces(root, LocalSandbox(), limits).open("thread-1")
    beside = tmp_path / "beside"
    beside.touch()
    await before.run("/bin/sh", "-c", f"mkdir folder; echo one > folder/file; ln -s {beside} link")
    after = await FolderWorkspaces(root, ContainerSandbox(options), limits).open("thread-1")
    ran = await after.run("/bin/sh", "-c", "echo two >> folder/file; touch folder/more; cat folder/file")
    assert (ran.finished.stdout, ran.finished.stderr) == (b"one\ntwo\n", b"")
    assert owner(beside) == 0, "no link was followed"


@pytest.mark.parametrize(
    ("sandbox", "name"),
    [
        ("auto", "local namespaces"),
        ("local", "local namespaces"),
        ("docker", "containers of docker"),
        ("host", "the machine itself"),
        ("off", None),
    ],
)
async def test_the_operator_chooses(docker: Path, tmp_path: Path, sandbox: Any, name: str | None) -> None:
    settings = Settings(sandbox=sandbox, container_program=docker, data_folder=tmp_path)
    async with guarded_client(POLICY) as client:
        chosen = await choose(settings, client)
    assert (chosen.workspaces.name if chosen.workspaces else None) == name


async def test_containers_stand_in_where_namespaces_cannot_be_made(
    docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stigmer_sandbox.commands.local._find", lambda: None)
    async with guarded_client(POLICY) as client:
        chosen = await choose(Settings(sandbox="auto", container_program=docker, data_folder=tmp_path), client)
        alone = await choose(Settings(sandbox="local", data_folder=tmp_path), client)
    assert chosen.workspaces is not None
    assert chosen.workspaces.name == "containers of docker"
    assert alone.workspaces is None
