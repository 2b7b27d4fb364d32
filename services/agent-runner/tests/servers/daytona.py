"""Stands for Daytona: its HTTP API with the platform's states, and sandboxes that are containers of `engine.py`.

As the real one does, it makes sandboxes that are ready after a while, takes names once, refuses a wrong key, stops what
it is told to stop and keeps the files, ends nothing but the shell of a command that takes too long, follows links where
it uploads and downloads, and mixes both outputs of a command. What it cannot show are the platform's own limits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import uuid
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "dtn_the-key"
HOME = "/home/daytona"
IMAGE = "docker.io/library/python:3.12"
USER = os.getuid() or 1000
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "DAYTONA_SANDBOX_USER": "daytona"}
ENTERED = ["--mount", "--pid", "--net", "--ipc", "--uts"] + (
    ["--user", "--preserve-credentials"] if os.getuid() else []
)
AS_USER = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--"] if os.getuid() == 0 else []


@dataclass
class Box:
    """A sandbox."""

    name: str
    wanted: dict[str, Any]
    folder: Path
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "creating"
    container: str = ""


class Daytona:
    """The platform, and what was asked of it."""

    def __init__(self, docker: Path, folder: Path) -> None:
        self.boxes: dict[str, Box] = {}
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.failing: list[int] = []
        """What it answers next, in place of doing anything."""
        self.docker_program = docker
        self._folder = folder
        self._lock = threading.RLock()
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, answer = platform.answer(self.command, self.path, dict(self.headers), body)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                kind = "application/octet-stream" if isinstance(answer, bytes) else "application/json"
                try:
                    self.send_response(status)
                    self.send_header("content-type", kind)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the base class's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/api"

    def close(self) -> None:
        """End everything."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for box in self.boxes.values():
            self.stop(box)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Answer a request."""
        url = urlsplit(target)
        parts = [unquote(part) for part in url.path.split("/")[2:]]
        with self._lock:
            self.asked.append((method, "/".join(parts)))
            self.bodies.append(body)
            if self.failing:
                return self.failing.pop(0), {"message": "try again"}
        given = {name.lower(): value for name, value in headers.items()}
        if given.get("authorization") != f"Bearer {KEY}":
            return 401, {"message": "Invalid credentials", "statusCode": 401}
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        match method, parts:
            case "GET", ["sandbox"]:
                return 200, {"items": [told(box) for box in self.boxes.values()], "nextCursor": None}
            case "POST", ["sandbox"]:
                return self.create(json.loads(body))
            case _, ["sandbox", name, *verb]:
                return self.of_box(method, name, verb, body)
            case _, ["toolbox", id_, *rest]:
                return self.of_toolbox(method, self.boxes[id_], "/".join(rest), query, given, body)
            case _:
                return 404, {"message": f"Cannot {method} {url.path}"}

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            if any(box.name == wanted["name"] for box in self.boxes.values()):
                return 409, {"message": f"Sandbox with name {wanted['name']} already exists"}
            if wanted.get("snapshot") == "missing":
                return 400, {"message": "Snapshot missing not found"}
            box = Box(name=wanted["name"], wanted=wanted, folder=self._folder / uuid.uuid4().hex)
            for folder in (box.folder / "home", box.folder / "tmp"):
                folder.mkdir(parents=True)
                os.chown(folder, USER, USER)
            self.boxes[box.id] = box
            return 200, self.told(box)

    def of_box(self, method: str, name: str, verb: list[str], body: bytes) -> tuple[int, Any]:
        with self._lock:
            box = next((box for box in self.boxes.values() if name in (box.name, box.id)), None)
            if box is None:
                return 404, {"message": f"Sandbox with ID or name {name} not found"}
            match method, verb:
                case "GET", []:
                    said = self.told(box)
                    self.proceed(box)
                    return 200, said
                case "DELETE", []:
                    self.stop(box)
                    box.state = "destroying"
                case "POST", ["start"]:
                    box.state = "starting"
                case "POST", ["stop"]:
                    self.stop(box)
                case "POST", ["network-settings"]:
                    box.wanted |= json.loads(body)
                    self.stop(box)
                    self.run(box)
                case _:
                    return 404, {"message": f"Cannot {method} {verb}"}
            return 200, self.told(box)

    def proceed(self, box: Box) -> None:
        """What was begun is done by the next look."""
        if box.state in ("creating", "starting"):
            self.run(box)
        elif box.state == "destroying":
            del self.boxes[box.id]
            shutil.rmtree(box.folder, ignore_errors=True)

    def run(self, box: Box) -> None:
        box.container = f"stigmer-box-{uuid.uuid4().hex}"
        options = ["--detach", "--rm", "--init", "--name", box.container, "--user", f"{USER}:{USER}"]
        options += ["--network", "none"] if box.wanted["networkBlockAll"] else []
        for own, inside in (("home", HOME), ("tmp", "/tmp")):  # noqa: S108 - the sandbox's own
            options += ["--mount", f"type=bind,source={box.folder / own},target={inside}"]
        self.docker("run", *options, "--workdir", "/", IMAGE, "sleep", "600")
        box.state = "started"

    def stop(self, box: Box) -> None:
        if box.container:
            self.docker("rm", "--force", box.container)
        box.container, box.state = "", "stopped"

    def docker(self, *words: str) -> None:
        subprocess.run([self.docker_program, *words], check=True, capture_output=True)

    def of_toolbox(
        self, method: str, box: Box, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        if box.state != "started":
            return 400, {"message": "bad request: failed to get runner info: Sandbox is not started"}
        match method, path:
            case "POST", "process/execute":
                return self.execute(box, json.loads(body))
            case "POST", "files/bulk-upload":
                return upload(box, headers["content-type"], body)
            case "GET", "files/download":
                file = inside(box, query["path"])
                return (
                    (200, file.read_bytes())
                    if file.is_file()
                    else (404, {"error": f"stat {query['path']}: no such file"})
                )
            case _:
                return 404, {"message": f"Cannot {method} {path}"}

    def execute(self, box: Box, asked: dict[str, Any]) -> tuple[int, Any]:
        # As `docker exec` does, without a program of its own for each.
        first = json.loads((self.docker_program.parent / "engine" / f"{box.container}.json").read_text())["first"]
        entered = [*ENTERED, f"--wdns={asked.get('cwd') or HOME}", "--", *AS_USER, "sh", "-c", asked["command"]]
        process = subprocess.Popen(
            [shutil.which("nsenter") or "nsenter", "--target", str(first), *entered],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=asked.get("timeout") or 360)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return 408, {"error": "command execution timeout"}
        return 200, {"exitCode": process.returncode, "result": said.decode("utf-8", "replace")}

    def told(self, box: Box) -> dict[str, Any]:
        return {
            "id": box.id,
            "name": box.name,
            "organizationId": "org",
            "user": "daytona",
            "env": {},
            "labels": box.wanted.get("labels") or {},
            "public": False,
            "networkBlockAll": box.wanted["networkBlockAll"],
            "target": box.wanted.get("target") or "us",
            "state": box.state,
            "autoStopInterval": box.wanted.get("autoStopInterval"),
            "autoDeleteInterval": box.wanted.get("autoDeleteInterval"),
            "toolboxProxyUrl": f"{self.url}/toolbox",
        }


def told(box: Box) -> dict[str, Any]:
    return {"id": box.id, "name": box.name, "state": box.state, "labels": box.wanted.get("labels") or {}}


def upload(box: Box, kind: str, body: bytes) -> tuple[int, Any]:
    """Write the files of a form, each with its path before it."""
    form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    paths: dict[str, str] = {}
    for part in form.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        index, _, what = name.removeprefix("files[").partition("].")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if what == "path":
            paths[index] = content.decode().strip()
            continue
        file = inside(box, paths[index])
        for folder in reversed(file.parents):
            if not folder.exists():
                folder.mkdir()
                os.chown(folder, USER, USER)
        file.write_bytes(content)
        os.chown(file, USER, USER)
    return 200, {"files": [{"path": path} for path in paths.values()]}


def inside(box: Box, path: str) -> Path:
    for root, own in ((HOME, "home"), ("/tmp", "tmp")):  # noqa: S108 - the sandbox's own
        if path.startswith(f"{root}/"):
            return box.folder / own / path.removeprefix(f"{root}/")
    return box.folder / "nowhere"
