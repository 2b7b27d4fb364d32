"""Tries to get out of the sandbox, or to see or change what is not the command's."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from stigmer_sandbox import Command, Limits, LocalSandbox

FOREIGN = Path.home()
CALL = "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); "

SHELL = {
    "read the home of the one who runs it": f"ls {FOREIGN}",
    "read the shadow file": "cat /etc/shadow",
    "read another user's files": "ls /root /home/* /var/lib",
    "write to a program": "echo x >> /usr/bin/env",
    "write a program": "touch /usr/local/bin/evil",
    "write to the root": "touch /evil",
    "write to the configuration": "touch /etc/evil",
    "write over its own user": "echo root:x:0:0::/:/bin/sh > /etc/passwd",
    "set a kernel variable": "cat /proc/sys/kernel/hostname > /proc/sys/kernel/domainname",
    "write any file of the kernel": "find /proc -not -path '/proc/[0-9]*' -type f -writable 2>/dev/null | grep .",
    "trigger the kernel": "echo h > /proc/sysrq-trigger",
    "set its own user map": "echo 0 0 1 > /proc/self/uid_map",
    "read the machine's kernel log": "dmesg",
    "mount a file system": "mount -t tmpfs none /tmp",
    "unmount its own cover": "umount /workspace",
    "remount the programs for writing": "mount -o remount,rw /usr",
    "make a user namespace": "unshare -U true",
    "make a mount namespace": "unshare -m true",
    "enter another namespace": "nsenter -t 1 -m true",
    "become root": "su -c true root",
    "become root by sudo": "sudo -n true",
    "kill foreign processes": "kill -9 $(cat /proc/$PPID/stat | cut -d' ' -f4 | grep -v '^[01]$')",
    "see foreign processes": "ls -d /proc/[0-9]* | wc -l | awk '{exit $1 < 8}'",
    "read the environment of its parent": "cat /proc/$PPID/environ | grep -a STIGMER_CANARY",
    "read a raw disk": "cat /dev/vda /dev/sda",
    "read memory": "cat /dev/mem /dev/kmem /proc/kcore",
    "make a device": "mknod disk b 254 0",
    "talk to a container engine": "ls /var/run/docker.sock /run/containerd",
    "talk to the system's services": "ls /run/systemd /run/dbus",
    "leave by a link": "ln -s /proc/1/root out && cat out/etc/shadow",
    "leave by a foreign root": "ls /proc/1/root" + str(FOREIGN),
    "leave by chroot": "chroot / true",
    "load a module": "modprobe dummy",
    "set the clock": "date -s 2001-01-01",
    "rename the machine": "hostname evil",
    "raise its own limits": "ulimit -Hf unlimited",
    "raise its priority": "nice -n -10 sh -c 'test $(nice) -lt 0'",
    "look for addresses": "ip addr | grep -v -e 127.0.0.1 -e ::1 | grep -w inet",
    "ask the cloud for credentials": "curl -m 2 http://169.254.169.254/",
}
PYTHON = {
    "trace a process": CALL + "sys.exit(libc.ptrace(16, 1, 0, 0) == 0)",
    "read another process's memory": CALL + "sys.exit(libc.syscall(310, 1, 0, 0, 0, 0, 0) == 0)",
    "open a file by its handle": CALL + "sys.exit(libc.open_by_handle_at(0, 0, 0) == 0 or ctypes.get_errno() != 1)",
    "use io_uring": CALL + "sys.exit(libc.syscall(425, 1, 0) != -1 or ctypes.get_errno() != 1)",
    "use bpf": CALL + "sys.exit(libc.syscall(321, 0, 0, 0) != -1 or ctypes.get_errno() != 1)",
    "use the kernel's keys": CALL + "sys.exit(libc.syscall(250, 0, 0, 0) != -1 or ctypes.get_errno() != 1)",
    "use userfaultfd": CALL + "sys.exit(libc.syscall(323, 0) != -1 or ctypes.get_errno() != 1)",
    "clone into new namespaces": CALL + "sys.exit(libc.unshare(0x10000000) == 0)",
    "hide flags in clone3": CALL + "sys.exit(libc.syscall(435, 0, 0) != -1 or ctypes.get_errno() != 38)",
    "use the other table of calls": CALL + "sys.exit(libc.syscall(0x40000000 + 39) != -1)",
    "type into the terminal": CALL + "sys.exit(libc.ioctl(0, 0x5412, b'x') == 0 or ctypes.get_errno() != 1)",
    "gain rights by a program": CALL + "sys.exit(libc.prctl(39, 0, 0, 0, 0) != 1)",
}


@pytest.mark.parametrize("script", SHELL.values(), ids=SHELL.keys())
async def test_a_shell_does_not_get_away_with_it(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STIGMER_CANARY", "s3cret")
    finished = await LocalSandbox().run(Command(arguments=("sh", "-c", script), limits=Limits(seconds=10)))
    assert finished.code != 0, finished.stdout
    assert b"s3cret" not in finished.stdout


@pytest.mark.parametrize("script", PYTHON.values(), ids=PYTHON.keys())
async def test_a_program_does_not_get_away_with_it(script: str) -> None:
    finished = await LocalSandbox().run(Command(arguments=("python3", "-c", script), limits=Limits(seconds=10)))
    assert finished.code == 0, (finished.code, finished.stderr)


async def test_an_abstract_socket_of_the_machine_is_out_of_reach() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0stigmer-test")
        listener.listen()
        script = "import socket; socket.socket(socket.AF_UNIX).connect('\\0stigmer-test')"
        finished = await LocalSandbox().run(Command(arguments=("python3", "-c", script)))
    assert b"ConnectionRefusedError" in finished.stderr


async def test_variables_of_the_command_do_not_reach_what_makes_the_sandbox(tmp_path: Path) -> None:
    """A library that is loaded first would run outside."""
    for name in ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"):
        command = Command(arguments=("true",), environment={name: str(tmp_path / "evil.so")})
        finished = await LocalSandbox().run(command)
        assert b"bwrap" not in finished.stderr


def command_lines() -> list[bytes]:
    return [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]


async def test_secrets_of_the_command_are_no_arguments_that_others_can_read() -> None:
    command = Command(arguments=("sleep", "2"), environment={"TOKEN": "very-s3cret"}, limits=Limits(seconds=1))
    running = asyncio.create_task(LocalSandbox().run(command))
    await asyncio.sleep(0.3)
    lines = await asyncio.to_thread(command_lines)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert any(b"sleep\x002" in line for line in lines)
    assert not any(b"very-s3cret" in line for line in lines)
