"""What every kind of workspace does; the same sentences hold wherever it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace.daytona.api import POLICY, DaytonaApi
from agent_runner.workspace.daytona.settings import DaytonaSettings
from agent_runner.workspace.daytona.workspaces import DaytonaWorkspaces
from agent_runner.workspace.folders import FolderWorkspaces
from agent_runner.workspace.limits import WorkspaceLimits
from agent_runner.workspace.port import Workspace, Workspaces
from stigmer_sandbox import (
    CommandError,
    ContainerOptions,
    ContainerSandbox,
    Ending,
    HostSandbox,
    Limits,
    LocalSandbox,
    Sandbox,
    guarded_client,
)
from stigmer_sandbox.commands.container import OWNER

MOST = 100_000
LIMITS = WorkspaceLimits(most_bytes=MOST, command=Limits(seconds=20, output_bytes=50_000))

Make = Callable[[WorkspaceLimits], Awaitable[Workspaces]]


def _on_this_machine(sandbox: Sandbox, folder: Path) -> Make:
    async def make(limits: WorkspaceLimits) -> Workspaces:
        return FolderWorkspaces(folder / "workspaces", sandbox, limits)

    return make


ENGINE = os.environ.get("STIGMER_TEST_CONTAINER_PROGRAM", "")
"""The program of a real Docker or Podman, to be held to the same."""
KINDS = ["local", "host", "docker", "daytona", *(["real engine"] if ENGINE else [])]


@pytest.fixture(params=KINDS)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Make]:
    match request.param:
        case "local":
            yield _on_this_machine(LocalSandbox(), tmp_path)
        case "host":
            yield _on_this_machine(HostSandbox(), tmp_path)
        case "docker":
            options = ContainerOptions(program=str(request.getfixturevalue("engine")("docker")), owner="tests")
            yield _on_this_machine(ContainerSandbox(options), tmp_path)
        case "real engine":
            owner = f"tests-{uuid.uuid4().hex}"
            options = ContainerOptions(program=ENGINE, owner=owner, pull=False)
            yield _on_this_machine(ContainerSandbox(options), tmp_path)
            remove_containers(owner)
        case _:
            platform = request.getfixturevalue("daytona")
            settings = DaytonaSettings(api_key="dtn_the-key", api_url=platform.url, look_seconds=0.01)
            async with guarded_client(POLICY) as client:
                yield _at_daytona(DaytonaApi(client, settings), settings)


def remove_containers(owner: str) -> None:
    listing = [ENGINE, "ps", "--all", "--quiet", "--filter", f"label={OWNER}={owner}"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    if names:
        subprocess.run([ENGINE, "rm", "--force", "--volumes", *names], check=True, capture_output=True)


def _at_daytona(api: DaytonaApi, settings: DaytonaSettings) -> Make:
    async def make(limits: WorkspaceLimits) -> Workspaces:
        return DaytonaWorkspaces(api, settings, limits)

    return make


@pytest.fixture
async def workspaces(make: Make) -> Workspaces:
    return await make(LIMITS)


@pytest.fixture
async def workspace(workspaces: Workspaces) -> Workspace:
    return await workspaces.open("thread-1")


async def shell(workspace: Workspace, script: str, *arguments: str, seconds: float | None = None) -> str:
    """What a script says, which must end well."""
    finished = (await workspace.run("/bin/sh", "-c", script, "sh", *arguments, seconds=seconds)).finished
    assert (finished.code, finished.stderr) == (0, b"")
    return finished.stdout.decode()


async def appears(workspace: Workspace, name: str) -> None:
    async with asyncio.timeout(15):
        while name not in [entry.path for entry in await workspace.entries()]:  # noqa: ASYNC110 - no file tells of itself
            await asyncio.sleep(0.02)


async def test_commands_can_be_run(workspaces: Workspaces) -> None:
    assert await workspaces.unusable() == ""
    assert workspaces.name


async def test_outputs_and_exit_code_are_told_apart(workspace: Workspace) -> None:
    outcome = await workspace.run("/bin/sh", "-c", "cat; echo aside >&2; exit 7", stdin=b"in\0put\xff")
    finished = outcome.finished
    assert (finished.code, finished.stdout, finished.stderr) == (7, b"in\0put\xff", b"aside\n")
    assert (finished.ending, finished.truncated, outcome.is_full) == (Ending.EXITED, False, False)


async def test_a_signal_is_an_exit_code(workspace: Workspace) -> None:
    assert (await workspace.run("/bin/sh", "-c", "kill -TERM $$")).finished.code == 128 + 15


async def test_arguments_reach_the_command_as_they_are(workspace: Workspace) -> None:
    odd = ("", " a  b ", "'\"$(id)`id`\\", "two\nlines", "ünï✓", "-n")
    told = await shell(workspace, "for each; do printf '%s\\0' \"$each\"; done", *odd)
    assert told.split("\0")[:-1] == list(odd)


async def test_commands_begin_in_the_workspace(workspace: Workspace) -> None:
    assert await shell(workspace, "pwd") in (f"{workspace.root}\n", f"{workspace.folder}\n")


async def test_a_program_that_is_not_there_is_told(workspace: Workspace) -> None:
    with pytest.raises(CommandError, match="no-such-program"):
        await workspace.run("no-such-program")


async def test_a_command_that_takes_too_long_is_ended(workspace: Workspace) -> None:
    finished = (await workspace.run("/bin/sh", "-c", "echo begun; sleep 60", seconds=1)).finished
    assert (finished.ending, finished.stdout) == (Ending.TIME, b"begun\n")


async def test_output_is_bounded(workspace: Workspace) -> None:
    finished = (await workspace.run("/bin/sh", "-c", "head -c 3000000 /dev/zero; echo end >&2")).finished
    assert (finished.truncated, len(finished.stdout), finished.stderr) == (True, 50_000, b"end\n")


async def test_nothing_that_a_command_started_outlives_it(workspace: Workspace) -> None:
    script = "(while :; do date +%N > beat; sleep 0.02; done) > /dev/null 2>&1 & until test -s beat; do :; done"
    await shell(workspace, script)
    assert await _is_still(workspace)


async def test_what_is_cancelled_is_ended(workspace: Workspace) -> None:
    script = "while :; do date +%N > beat; sleep 0.02; done"
    running = asyncio.create_task(workspace.run("/bin/sh", "-c", script))
    await appears(workspace, "beat")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await _is_still(workspace)


async def _is_still(workspace: Workspace) -> bool:
    """Whether nobody writes the time down any more."""
    return await shell(workspace, 'before=$(cat beat); sleep 0.2; test "$before" = "$(cat beat)" && echo still') != ""


async def test_files_keep_every_byte(workspace: Workspace) -> None:
    for content in (b"", b"text\n", bytes(range(256)) * 64, b"\r\n\xef\xbb\xbf"):
        await workspace.write("a/b/file.bin", content)
        assert await workspace.read("a/b/file.bin", most=MOST) == content
        assert (await workspace.run("/bin/cat", "a/b/file.bin")).finished.stdout == content


async def test_files_have_any_name(workspace: Workspace) -> None:
    names = ["with space", "ünï✓", "quote'\"`$x", "-rf", "two\nlines", "a\\b", "#?%2F", ".hidden", " ", "x" * 200]
    for name in names:
        await workspace.write(name, b"one")
    script = 'for each; do cat "./$each" && printf two > "./$each"; done'
    assert await shell(workspace, script, *names) == "one" * len(names)
    for name in names:
        assert await workspace.read(name, most=MOST) == b"two"
    assert [entry.path for entry in await workspace.entries()] == sorted(names)


async def test_files_are_listed_with_their_sizes(workspace: Workspace) -> None:
    await shell(workspace, "mkdir -p a/empty; printf 12345 > a/five; ln -s five a/link; mkfifo a/pipe; touch none")
    entries = await workspace.entries()
    assert [(entry.path, entry.size, entry.is_folder) for entry in entries] == [
        ("a", 0, True),
        ("a/empty", 0, True),
        ("a/five", 5, False),
        ("none", 0, False),
    ]
    assert all(entry.modified > 1_600_000_000 for entry in entries)


async def test_folders_are_left_out_of_the_list_with_all_that_is_in_them(workspace: Workspace) -> None:
    await shell(workspace, "mkdir -p a/node_modules/b node_modules; touch a/x a/node_modules/b/y node_modules/z cache")
    entries = await workspace.entries(without={"node_modules", "cache"})
    assert [entry.path for entry in entries] == ["a", "a/x", "cache"]


async def test_what_is_written_can_be_changed_by_commands(workspace: Workspace) -> None:
    await workspace.write("folder/file", b"one\n")
    assert await shell(workspace, "echo two >> folder/file; echo x > folder/more; cat folder/file") == "one\ntwo\n"
    await workspace.write("folder/file", b"short")
    assert await workspace.read("folder/file", most=MOST) == b"short"


async def test_a_file_that_is_not_there_is_told(workspace: Workspace) -> None:
    await shell(workspace, "mkdir folder; echo x > file; mkfifo pipe")
    for path in ("missing", "folder", "folder/missing", "file/below", "pipe"):
        with pytest.raises(WorkspaceFileError, match=path) as told:
            await workspace.read(path, most=MOST)
        assert told.value.missing
    for path in ("folder", "file/below", "pipe"):
        with pytest.raises(WorkspaceFileError, match=path):
            await workspace.write(path, b"x")


async def test_a_file_that_is_larger_than_wanted_is_told(workspace: Workspace) -> None:
    await workspace.write("file", b"12345")
    assert await workspace.read("file", most=5) == b"12345"
    with pytest.raises(WorkspaceFileError, match="more than 4 bytes") as told:
        await workspace.read("file", most=4)
    assert not told.value.missing


async def test_paths_stay_in_the_workspace(workspace: Workspace) -> None:
    for path in ("", "..", "../out", "a/../../out", "/etc/passwd", "nul\0"):
        with pytest.raises(WorkspaceFileError, match="stay in the workspace"):
            await workspace.read(path, most=MOST)
        with pytest.raises(WorkspaceFileError, match="stay in the workspace"):
            await workspace.write(path, b"x")


async def test_links_are_not_followed_from_outside(workspace: Workspace) -> None:
    await shell(workspace, "mkdir real; echo mine > real/file; ln -s real/file link; ln -s real folder; ln -s /etc etc")
    for path in ("link", "folder/file", "etc/passwd"):
        with pytest.raises(WorkspaceFileError):
            await workspace.read(path, most=MOST)
    for path in ("link", "folder/file", "etc/new"):
        with pytest.raises(WorkspaceFileError):
            await workspace.write(path, b"other")
    assert await shell(workspace, "cat real/file") == "mine\n"


async def test_a_full_workspace_can_only_be_tidied_up(workspace: Workspace) -> None:
    filled = await workspace.run("/bin/sh", "-c", "head -c 200000 /dev/zero > big")
    assert filled.is_full
    refused = await workspace.run("/bin/sh", "-c", "head -c 50000 /dev/zero > more")
    assert refused.finished.code != 0
    with pytest.raises(WorkspaceFileError, match=f"more than {MOST} bytes"):
        await workspace.write("more", b"x" * 50_000)
    assert not (await workspace.run("/bin/rm", "-f", "big", "more")).is_full
    assert await shell(workspace, "head -c 50000 /dev/zero > more && echo fine") == "fine\n"


async def test_a_command_may_remove_the_workspace_itself(workspace: Workspace) -> None:
    removed = await workspace.run("/bin/sh", "-c", 'echo x > file; rm -rf "$PWD"; echo done')
    assert removed.finished.stdout == b"done\n"
    assert await workspace.entries() == ()
    assert await shell(workspace, "echo again > file; cat file") == "again\n"
    await workspace.run("/bin/sh", "-c", 'rm -rf "$PWD"')
    await workspace.write("other", b"fine")
    assert await workspace.read("other", most=10) == b"fine"


async def test_folders_deeper_than_can_be_looked_into_are_too_much_and_can_be_tidied_up(
    workspaces: Workspaces,
) -> None:
    workspace = await workspaces.open("thread-1")
    made = await workspace.run("/bin/sh", "-c", "mkdir -p $(printf 'a/%.0s' $(seq 1500)); echo fine > file")
    assert (made.finished.code, made.is_full) == (0, True)
    again = await workspaces.open("thread-1")
    listed = [entry for entry in await again.entries() if not entry.is_folder]
    assert [(entry.path, entry.size) for entry in listed] == [("file", 5)]
    with pytest.raises(WorkspaceFileError, match="100 folders in one another"):
        await again.write("more", b"x")
    assert not (await again.run("/bin/rm", "-rf", "a")).is_full


async def test_what_would_be_too_much_is_not_written(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceFileError, match=f"more than {MOST} bytes"):
        await workspace.write("big", b"x" * (MOST + 1))
    assert await workspace.entries() == ()


async def test_the_environment_is_the_commands_own(workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STIGMER_API_KEY", "of-the-runner")
    given = {"TOKEN": "t-1 'quoted' $HOME", "LINES": "two\nlines", "EMPTY": "", "DOCKER_HOST": "tcp://nowhere"}
    workspace = await workspaces.open("thread-1", environment=given)
    told = await shell(workspace, 'printf "%s|%s|%s|%s" "$TOKEN" "$LINES" "${EMPTY-unset}" "$DOCKER_HOST"')
    assert told == "t-1 'quoted' $HOME|two\nlines||tcp://nowhere"
    assert "of-the-runner" not in await shell(workspace, "env")


async def test_secrets_are_in_no_list_of_processes(workspaces: Workspaces) -> None:
    workspace = await workspaces.open("thread-1", environment={"TOKEN": "the-only-secret"})
    running = asyncio.create_task(workspace.run("/bin/sh", "-c", "touch begun; until test -e go; do sleep 0.02; done"))
    await appears(workspace, "begun")
    listed = _command_lines()
    await workspace.write("go", b"")
    await running
    assert b"until test -e go" in listed
    assert b"the-only-secret" not in listed


def _command_lines() -> bytes:
    found: list[bytes] = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                found.append((process / "cmdline").read_bytes())
            except OSError:  # gone meanwhile
                continue
    return b"\n".join(found)


async def test_a_workspace_is_kept_between_opens_and_is_its_threads_alone(workspaces: Workspaces) -> None:
    await shell(await workspaces.open("thread-1"), "echo mine > kept")
    assert await shell(await workspaces.open("thread-1", network=True), "cat kept") == "mine\n"
    for other in ("thread-2", "../thread-1", "thread-1/", ""):
        assert await (await workspaces.open(other)).entries() == ()


async def test_a_workspace_is_kept_by_who_comes_next(make: Make) -> None:
    await shell(await (await make(LIMITS)).open("thread-1"), "echo mine > kept")
    workspace = await (await make(LIMITS)).open("thread-1")
    assert await workspace.read("kept", most=MOST) == b"mine\n"
    assert await shell(workspace, "cat kept") == "mine\n"


async def test_what_is_removed_is_gone(workspaces: Workspaces) -> None:
    await shell(await workspaces.open("thread-1"), "mkdir -p deep/er; echo mine > deep/er/file; chmod 0 deep")
    await (await workspaces.open("thread-2")).write("other", b"x")
    await workspaces.remove("thread-1")
    await workspaces.remove("thread-1")
    await workspaces.remove("never-was")
    assert await (await workspaces.open("thread-1")).entries() == ()
    assert await shell(await workspaces.open("thread-2"), "cat other") == "x"


async def test_readable_folders_are_seen_and_cannot_be_changed(workspaces: Workspaces, tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "abc"
    (skill / "more").mkdir(parents=True)
    (skill / "SKILL.md").write_text("# Skill\n")
    (skill / "more" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (skill / "more" / "run.sh").chmod(0o555)
    workspace = await workspaces.open("thread-1", readable=(skill,))
    seen = workspace.seen(skill)
    assert await shell(workspace, 'cat "$1/SKILL.md"; "$1/more/run.sh"', seen) == "# Skill\nran\n"
    assert await workspace.entries() == ()


async def test_commands_of_one_workspace_run_side_by_side(workspace: Workspace) -> None:
    first = asyncio.create_task(workspace.run("/bin/sh", "-c", "until test -e b; do sleep 0.02; done; touch a"))
    second = await workspace.run("/bin/sh", "-c", "touch b; until test -e a; do sleep 0.02; done; echo both")
    assert ((await first).finished.code, second.finished.stdout) == (0, b"both\n")


async def test_a_workspaces_name_tells_nothing_of_the_thread(workspaces: Workspaces) -> None:
    workspace = await workspaces.open("secret-thread-name")
    await shell(workspace, "true")
    assert workspace.id
    assert "secret" not in workspace.id
    assert os.sep not in workspace.id
