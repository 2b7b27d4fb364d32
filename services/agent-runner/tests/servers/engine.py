"""Stands for the command line of Docker or Podman: containers are real processes in namespaces of this machine.

It understands the options that are used here and refuses others, and has what engines have: containers that outlive
whoever made them, `exec` whose processes outlive the one that asked, names that are taken, images that are missing.
What it cannot show is an engine's own: images, and limits of control groups. To who is not root, everybody in a
container is the same user.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

STATE = Path(sys.argv[0]).resolve().parent / "engine"
NAME = Path(sys.argv[0]).name
FLAGS = {"--detach", "--rm", "--init", "--interactive", "--read-only", "--force", "--volumes", "--all", "--quiet"}
VALUED = {
    *("--name", "--label", "--user", "--cap-drop", "--security-opt", "--userns", "--pids-limit", "--memory"),
    *("--tmpfs", "--network", "--mount", "--workdir", "--entrypoint", "--filter", "--format"),
}


def main() -> int:
    words = sys.argv[1:]
    with (STATE / "log").open("a") as log:
        log.write(json.dumps(words) + "\n")
    if (STATE / "down").exists() and words != ["--version"]:
        return fail(
            1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
        )
    match words:
        case ["--version"]:
            print("podman version 5.2.0" if NAME == "podman" else "Docker version 27.3.1, build peer")
        case ["info", "--format", "{{json .}}"]:
            rootless = (STATE / "rootless").exists()
            print(json.dumps({"host": {"security": {"rootless": rootless}}} if NAME == "podman" else {"ID": "peer"}))
        case ["image", "inspect", image]:
            return 0 if image in images() else fail(1, f"Error response from daemon: No such image: {image}")
        case ["pull", image]:
            if "missing" in image:
                return fail(1, f"Error response from daemon: manifest for {image} not found: manifest unknown")
            (STATE / "images").write_text(json.dumps([*images(), image]))
        case [verb, *rest] if verb in VERBS:
            options, words = parsed(rest)
            return VERBS[verb](options, words)
        case _:
            return fail(125, f"unknown command: {' '.join(words)}")
    return 0


def run(options: dict[str, list[str]], words: list[str]) -> int:
    image, *command = words
    if image not in images():
        return fail(125, f"Unable to find image '{image}' locally")
    name = options["--name"][0]
    gone(name)
    try:
        file = os.open(STATE / f"{name}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return fail(125, f'Conflict. The container name "/{name}" is already in use by container "{name}".')
    given, told = os.pipe()
    detached = "--detach" in options
    process = subprocess.Popen(
        [BUBBLEWRAP, "--info-fd", str(told), *boxed(options), "--", *as_user(options["--user"][0], command)],
        pass_fds=(told,),
        start_new_session=True,
        stdin=subprocess.DEVNULL if detached or "--interactive" not in options else subprocess.PIPE,
        stdout=subprocess.DEVNULL if detached else subprocess.PIPE,
        stderr=subprocess.DEVNULL if detached else subprocess.PIPE,
    )
    os.close(told)
    info = b""
    while chunk := os.read(given, 4096):
        info += chunk
    first = json.loads(info)["child-pid"]
    state = {
        "first": first,
        "user": options["--user"][0],
        "labels": options.get("--label", []),
        "arguments": sys.argv[1:],
    }
    os.write(file, json.dumps(state).encode())
    os.close(file)
    if not detached:
        code = relayed(process)
        gone(name)
        return code
    until = time.monotonic() + 10
    while gone(name) is not None and time.monotonic() < until:
        with suppress(OSError):
            # All is in place when the first process has started the command.
            if Path(f"/proc/{first}/task/{first}/children").read_text().strip():
                print(name)
                return 0
        time.sleep(0.002)
    return fail(125, "the container has ended at once")


def execute(options: dict[str, list[str]], words: list[str]) -> int:
    name, *command = words
    container = gone(name)
    if container is None:
        return fail(1, f"Error response from daemon: No such container: {name}")
    root = Path("/proc", str(container["first"]), "root", "usr", "bin", command[0])
    if not root.exists():
        return fail(127, f'OCI runtime exec failed: exec: "{command[0]}": executable file not found in $PATH: unknown')
    folder = options.get("--workdir", ["/"])[0]
    entered = ["--mount", "--pid", "--net", "--ipc", "--uts", f"--wdns={folder}"]
    entered += [] if ROOT else ["--user", "--preserve-credentials"]
    inside = as_user(container["user"], command)
    process = subprocess.Popen(
        [shutil.which("nsenter") or "nsenter", "--target", str(container["first"]), *entered, "--", *inside],
        env=ENVIRONMENT,
        start_new_session=True,
        stdin=subprocess.PIPE if "--interactive" in options else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return relayed(process)


def remove(options: dict[str, list[str]], names: list[str]) -> int:
    for name in names:
        container = gone(name)
        if container is not None:
            with suppress(ProcessLookupError):
                os.kill(container["first"], 9)
        (STATE / f"{name}.json").unlink(missing_ok=True)
    return 0


def listed(options: dict[str, list[str]], _: list[str]) -> int:
    wanted = [each.partition("=")[2] for each in options["--filter"] if each.startswith("label=")]
    states = [each.partition("=")[2] for each in options["--filter"] if each.startswith("status=")]
    for file in STATE.glob("stigmer-*.json"):
        container = gone(file.stem)
        if container is not None and set(wanted) <= set(container["labels"]) and states in ([], ["running"]):
            print(file.stem)
    return 0


def inspected(options: dict[str, list[str]], words: list[str]) -> int:
    if gone(words[0]) is None:
        return fail(1, f"Error: No such object: {words[0]}")
    print("true")
    return 0


VERBS = {"run": run, "exec": execute, "rm": remove, "ps": listed, "inspect": inspected}
BUBBLEWRAP = json.loads((STATE / "settings").read_text())["bubblewrap"]
ROOT = os.getuid() == 0
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def boxed(options: dict[str, list[str]]) -> list[str]:
    made = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--clearenv"]
    made += ["--cap-add", "ALL"] if ROOT else ["--unshare-user"]
    made = made if options.get("--network") == ["none"] else [each for each in made if each != "--unshare-net"]
    for path in ("/usr", "/bin", "/sbin", "/lib", "/lib64"):
        is_link = Path(path).is_symlink()
        made += ["--symlink", str(Path(path).readlink()), path] if is_link else ["--ro-bind-try", path, path]
    made += ["--proc", "/proc", "--dev-bind", "/dev", "/dev"]
    for each in options.get("--tmpfs", ()):
        made += ["--perms", "1777", "--tmpfs", each.partition(":")[0]]
    for each in options.get("--mount", ()):
        pairs = [field.partition("=") for field in next(csv.reader([each]))]
        fields = {name: value for name, _, value in pairs}
        for parent in reversed(Path(fields["target"]).parents):
            made += [] if parent == Path("/") else ["--perms", "0755", "--dir", str(parent)]
        made += ["--ro-bind" if "readonly" in fields else "--bind", fields["source"], fields["target"]]
    made += ["--remount-ro", "/"] if "--read-only" in options else []
    for name, value in ENVIRONMENT.items():
        made += ["--setenv", name, value]
    return [*made, "--chdir", options["--workdir"][0]]


def as_user(user: str, command: list[str]) -> list[str]:
    """A command without any right, and as another user where this one may become one."""
    if not ROOT:
        return command
    number = user.partition(":")[0]
    rights = ("--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
    return [shutil.which("setpriv") or "setpriv", "--reuid", number, "--regid", number, *rights, "--", *command]


def relayed(process: subprocess.Popen[bytes]) -> int:
    def copy(source: Any, target: Any, *, close: bool) -> None:
        with suppress(OSError, ValueError):
            while chunk := os.read(source.fileno(), 65536):
                target.write(chunk)
                target.flush()
        if close:
            with suppress(OSError):
                target.close()

    if process.stdin is not None:
        threading.Thread(target=copy, args=(sys.stdin, process.stdin), kwargs={"close": True}, daemon=True).start()
    outputs: list[tuple[IO[bytes] | None, Any]] = [(process.stdout, sys.stdout), (process.stderr, sys.stderr)]
    threads = [
        threading.Thread(target=copy, args=(given, told.buffer), kwargs={"close": False}, daemon=True)
        for given, told in outputs
    ]
    for thread in threads:
        thread.start()
    code = process.wait()
    for thread in threads:
        thread.join(1)
    return code if code >= 0 else 128 - code


def gone(name: str) -> dict[str, Any] | None:
    """A container that runs; one that has ended is removed, because all of them were made with --rm."""
    file = STATE / f"{name}.json"
    try:
        container = json.loads(file.read_text())
        state = Path(f"/proc/{container['first']}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        file.unlink(missing_ok=True)
        return None
    except ValueError:  # it is being made
        return None
    if state in "ZX":
        file.unlink(missing_ok=True)
        return None
    return container


def parsed(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    while words and words[0].startswith("--"):
        option, *words = words
        if option in VALUED:
            value, *words = words
            options.setdefault(option, []).append(value)
        elif option in FLAGS:
            options[option] = []
        else:
            sys.exit(fail(125, f"unknown flag: {option}"))
    return options, words


def images() -> list[str]:
    return json.loads((STATE / "images").read_text())


def fail(code: int, why: str) -> int:
    print(why, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
