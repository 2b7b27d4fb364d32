"""The contract of a sandbox, over every one that runs here, and what only some of them promise."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from stigmer_sandbox import (
    Command,
    CommandError,
    Ending,
    HostSandbox,
    Limits,
    LocalSandbox,
    Pipes,
    Sandbox,
    SandboxUnavailableError,
)

MEBIBYTE = 2**20


@pytest.fixture(params=["local", "host"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return LocalSandbox() if request.param == "local" else HostSandbox()


def shell(script: str, **more: object) -> Command:
    return Command(arguments=("sh", "-c", script), **more)  # type: ignore[arg-type]


def exists(path: str) -> bool:
    return Path(path).exists()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def processes_with(mark: str) -> list[int]:
    """Every process of this machine that has the mark among its arguments."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(int(entry.name))
    return found


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> str:
    """A number to sleep for, by which the processes of one test are known."""
    return f"{1000 + abs(hash(request.node.nodeid)) % 100_000}.{os.getpid()}"


async def test_a_command_gets_its_input_and_gives_outputs_and_code(sandbox: Sandbox) -> None:
    await sandbox.check()
    finished = await sandbox.run(shell("cat; echo wrong >&2; exit 3", stdin=b"given\n"))
    assert (finished.code, finished.stdout, finished.stderr) == (3, b"given\n", b"wrong\n")
    assert (finished.ending, finished.truncated) == (Ending.EXITED, False)


async def test_a_command_finds_its_own_environment_and_nothing_of_ours(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "s3cret")
    finished = await sandbox.run(shell("env", environment={"THEIRS": "a b\n$c"}))
    assert b"THEIRS=a b\n$c" in finished.stdout
    assert b"OURS" not in finished.stdout
    names = {line.partition(b"=")[0] for line in finished.stdout.splitlines() if b"=" in line}
    assert names - {b"PWD"} == {b"THEIRS", b"PATH", b"HOME", b"TMPDIR", b"LANG"}


async def test_arguments_arrive_as_they_are(sandbox: Sandbox) -> None:
    odd = ("a b", "$(id)", "'", '"', "", "-n", "ü\n")
    finished = await sandbox.run(Command(arguments=("printf", "[%s]", *odd)))
    assert finished.stdout.decode() == "".join(f"[{text}]" for text in odd)


async def test_files_are_there_before_the_command_and_gone_after_it(sandbox: Sandbox) -> None:
    command = Command(arguments=("sh", "deep/say"), files={"deep/say": b"echo from a file; pwd; echo x > left"})
    finished = await sandbox.run(command)
    said, place = finished.stdout.decode().splitlines()
    assert said == "from a file"
    assert place == "/workspace" or not exists(place)
    assert (await sandbox.run(shell("ls"))).stdout == b""


async def test_a_workspace_is_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "before").write_text("old")
    command = shell("cat before given; echo new > after", workspace=tmp_path, files={"given": b" and given"})
    assert (await sandbox.run(command)).stdout == b"old and given"
    assert (tmp_path / "after").read_text() == "new\n"


@pytest.mark.parametrize("name", ["../up", "/abs", "a/../../up", "", ".", "nul\0"])
async def test_a_file_outside_of_the_workspace_is_refused(sandbox: Sandbox, name: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        await sandbox.run(shell("true", files={name: b""}))
    with pytest.raises(CommandError):
        await sandbox.run(shell("true", files={name: b""}, workspace=tmp_path / "inner"))
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - quick


async def test_no_link_in_a_workspace_is_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    target, workspace = tmp_path / "target", tmp_path / "workspace"
    target.mkdir()
    (target / "file").write_text("untouched")
    workspace.mkdir()
    (workspace / "folder").symlink_to(target)
    (workspace / "file").symlink_to(target / "file")
    for name in ("folder/new", "file", "folder/file"):
        with pytest.raises(CommandError):
            await sandbox.run(shell("true", files={name: b"changed"}, workspace=workspace))
    assert [path.read_text() for path in target.iterdir()] == ["untouched"]


@pytest.mark.parametrize("arguments", [(), ("",), ("no-such-program",), ("a\0b",)])
async def test_what_cannot_be_begun_is_refused(sandbox: Sandbox, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        await sandbox.run(Command(arguments=arguments))


async def test_a_command_ends_when_its_time_is_over_with_all_that_it_started(sandbox: Sandbox, mark: str) -> None:
    script = f"echo begun; sleep {mark} & sleep {mark}"
    finished = await sandbox.run(shell(script, limits=Limits(seconds=0.5)))
    assert (finished.ending, finished.code, finished.stdout) == (Ending.TIME, 137, b"begun\n")
    assert processes_with(mark) == []


async def test_what_a_command_leaves_running_ends_with_it(sandbox: Sandbox, mark: str) -> None:
    finished = await sandbox.run(shell(f"sleep {mark} >/dev/null 2>&1 </dev/null & echo done"))
    assert (finished.ending, finished.stdout) == (Ending.EXITED, b"done\n")
    assert processes_with(mark) == []


async def test_a_cancelled_command_ends_before_its_caller_goes_on(sandbox: Sandbox, mark: str) -> None:
    running = asyncio.create_task(sandbox.run(shell(f"sleep {mark}")))
    async with asyncio.timeout(10):
        while not processes_with(mark):  # noqa: ASYNC110 - nobody tells when a process begins
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()
    assert processes_with(mark) == []


async def test_output_past_the_limit_is_dropped_and_does_not_stop_the_command(sandbox: Sandbox) -> None:
    script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo end >&2; exit 4"
    finished = await sandbox.run(shell(script, limits=Limits(output_bytes=1000)))
    assert (len(finished.stdout), len(finished.stderr)) == (1000, 1000)
    assert (finished.code, finished.truncated) == (4, True)


async def test_input_that_is_not_read_does_no_harm(sandbox: Sandbox) -> None:
    finished = await sandbox.run(shell("exec 0<&-; echo fine", stdin=bytes(5 * MEBIBYTE)))
    assert (finished.code, finished.stdout) == (0, b"fine\n")


async def test_a_command_that_takes_too_much_memory_ends(sandbox: Sandbox) -> None:
    script = "x = bytearray(400 * 2**20); import time; time.sleep(30)"
    limits = Limits(memory_bytes=100 * MEBIBYTE, seconds=20)
    finished = await sandbox.run(Command(arguments=("python3", "-c", script), limits=limits))
    assert finished.ending is Ending.MEMORY
    assert finished.code in {137, 1}


async def test_a_command_that_starts_too_many_processes_ends(sandbox: Sandbox, mark: str) -> None:
    script = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep {mark} & done; wait; sleep {mark}"
    finished = await sandbox.run(shell(script, limits=Limits(processes=8, seconds=20)))
    # Where the kernel counts, it stops the ninth from starting, and the shell says so.
    assert finished.ending is Ending.PROCESSES or b"fork" in finished.stderr.lower()
    assert processes_with(mark) == []


@pytest.mark.timeout(60)
async def test_a_fork_bomb_ends() -> None:
    # Bounded by itself: should the sandbox fail, the machine is not to be lost with it.
    script = "b() { [ $1 -gt 9 ] || { b $(($1 + 1)) & b $(($1 + 1)) & wait; sleep 1; }; }; b 0; sleep 20"
    finished = await LocalSandbox().run(shell(script, limits=Limits(processes=50, seconds=3)))
    assert finished.ending in {Ending.PROCESSES, Ending.TIME} or b"fork" in finished.stderr.lower()
    assert (await LocalSandbox().run(shell("echo alive"))).stdout == b"alive\n"


async def test_many_commands_at_once_do_not_see_each_other(sandbox: Sandbox) -> None:
    finished = await asyncio.gather(
        *(sandbox.run(shell("echo $ME > mine; sleep 0.1; cat *", environment={"ME": str(n)})) for n in range(12))
    )
    assert [each.stdout for each in finished] == [f"{n}\n".encode() for n in range(12)]


async def test_folders_that_are_shown_can_be_read_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("shown")
    script = f"cat {tmp_path}/data; echo x > {tmp_path}/data || echo refused"
    finished = await LocalSandbox().run(shell(script, readable=(tmp_path,)))
    assert finished.stdout == b"shownrefused\n"
    with pytest.raises(CommandError):
        await LocalSandbox().run(shell("true", readable=(tmp_path / "none",)))


async def test_a_large_file_and_a_full_scratch_are_errors_of_the_command() -> None:
    limits = Limits(file_bytes=MEBIBYTE, scratch_bytes=3 * MEBIBYTE)
    script = (
        "head -c 2000000 /dev/zero > big || echo too large; "
        "for i in 1 2 3 4 5; do head -c 1000000 /dev/zero > f$i || echo full; done"
    )
    finished = await LocalSandbox().run(shell(script, limits=limits))
    assert b"full" in finished.stdout
    assert b"No space left" in finished.stderr


async def test_with_the_network_a_command_reaches_what_the_machine_does() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"reached")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    script = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 5).recv(100).decode())"
    command = Command(arguments=("python3", "-c", script))
    async with server:
        assert (await LocalSandbox().run(command)).code == 1
        reached = await LocalSandbox().run(Command(arguments=command.arguments, network=True))
    assert reached.stdout == b"reached\n"


async def test_without_bubblewrap_nothing_is_run(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SandboxUnavailableError, match=r"No permissions.*apt-get install bubblewrap"):
        await LocalSandbox(bubblewrap=str(broken)).check()
    unnamed = LocalSandbox(bubblewrap=str(broken))
    unnamed._program = None
    with pytest.raises(SandboxUnavailableError, match="not installed"):
        await unnamed.run(shell("true"))


@pytest.mark.parametrize("kills", [2, 3])
async def test_a_probe_that_a_signal_ended_is_tried_again(tmp_path: Path, kills: int) -> None:
    real = LocalSandbox()._program
    program, count = tmp_path / "bwrap", tmp_path / "count"
    program.write_text(
        f'#!/bin/sh\necho >> {count}\n[ $(wc -l < {count}) -gt {kills} ] || kill -KILL $$\nexec {real} "$@"\n'
    )
    program.chmod(0o700)
    sandbox = LocalSandbox(bubblewrap=str(program))
    if kills == 2:
        await sandbox.check()
    else:
        with pytest.raises(SandboxUnavailableError, match="ended by signal 9"):
            await sandbox.check()


async def test_nothing_is_left_open(sandbox: Sandbox) -> None:
    await sandbox.run(shell("true"))
    before = open_files()
    for _ in range(10):
        await sandbox.run(shell("true", files={"a": b"b"}))
        with pytest.raises(CommandError):
            await sandbox.run(shell("true", files={"../a": b"b"}))
    assert open_files() <= before


async def ask(pipes: Pipes, question: bytes) -> bytes:
    pipes.input.write(question + b"\n")
    await pipes.input.drain()
    return await pipes.output.readline()


async def test_a_command_can_be_talked_with_and_goes_when_its_input_ends(sandbox: Sandbox) -> None:
    answers: list[bytes] = []

    async def talk(pipes: Pipes) -> None:
        answers.extend([await ask(pipes, b"one"), await ask(pipes, b"two")])

    finished = await sandbox.run(shell("while read -r line; do echo got $line; done; echo bye >&2; exit 3"), talk)
    assert answers == [b"got one\n", b"got two\n"]
    assert (finished.ending, finished.code, finished.stderr) == (Ending.EXITED, 3, b"bye\n")
    assert finished.stdout == b""


async def test_a_command_that_does_not_go_is_ended_when_all_was_said(sandbox: Sandbox, mark: str) -> None:
    async def talk(pipes: Pipes) -> None:
        assert await pipes.output.readline() == b"here\n"

    finished = await sandbox.run(shell(f"echo here; sleep {mark} & sleep {mark}"), talk)
    assert finished.ending is Ending.DISMISSED
    assert processes_with(mark) == []


async def test_a_command_that_nobody_listens_to_any_more_is_ended_however_much_it_writes(sandbox: Sandbox) -> None:
    async def talk(pipes: Pipes) -> None:
        assert await pipes.output.readline() == b"y\n"

    finished = await sandbox.run(shell("yes"), talk)
    assert finished.ending is Ending.DISMISSED


async def test_what_a_command_says_last_is_heard_and_then_its_output_ends(sandbox: Sandbox) -> None:
    heard = bytearray()

    async def talk(pipes: Pipes) -> None:
        heard.extend(await pipes.output.read())

    finished = await sandbox.run(shell("echo last"), talk)
    assert (finished.ending, bytes(heard)) == (Ending.EXITED, b"last\n")


async def test_a_talk_that_fails_or_lasts_ends_the_command(sandbox: Sandbox, mark: str) -> None:
    async def fail(_: Pipes) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await sandbox.run(shell(f"sleep {mark}"), fail)

    async def listen(pipes: Pipes) -> None:
        await pipes.output.read()

    finished = await sandbox.run(shell(f"sleep {mark}", limits=Limits(seconds=0.3)), listen)
    assert finished.ending is Ending.TIME
    assert processes_with(mark) == []


async def test_who_is_cancelled_while_talking_leaves_no_process_behind(sandbox: Sandbox, mark: str) -> None:
    begun = asyncio.Event()

    async def talk(pipes: Pipes) -> None:
        await pipes.output.readline()
        begun.set()
        await pipes.output.readline()

    running = asyncio.create_task(sandbox.run(shell(f"echo here; sleep {mark}"), talk))
    async with asyncio.timeout(20):
        await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert processes_with(mark) == []
