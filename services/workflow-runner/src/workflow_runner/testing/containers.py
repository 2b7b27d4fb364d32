"""A container engine for tests: Docker's API over a unix socket, with processes of this machine as containers.

It answers with the statuses, bodies and frames that Docker's reference tells, and checks what Docker checks. What it
cannot show is what a kernel does: namespaces, images, limits.
"""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_JSON = "application/json"
_NO_CONTENT = 204
_STREAM = "application/vnd.docker.multiplexed-stream"


@dataclass
class FakeContainer:
    """A container, which is a process once it is started."""

    id: str
    name: str
    config: dict[str, Any]
    process: asyncio.subprocess.Process | None = None
    stdin: bytes = b""
    fed: asyncio.Event = field(default_factory=asyncio.Event)
    finished_at: str = "0001-01-01T00:00:00Z"
    killed: bool = False


class Engine:
    """The engine, and what was asked of it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.images = {"alpine:latest"}
        self.registry = {"busybox:latest", "acme/tool:1"}
        """What can be pulled."""
        self.pulled: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.containers: dict[str, FakeContainer] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._processes: list[asyncio.subprocess.Process] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection from now on."""
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End everything."""
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            # Read to the end, because a process with a full pipe is never told of as ended.
            await process.communicate()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).decode():
                method, target, _ = line.split(" ", 2)
                length = 0
                while text := (await reader.readline()).decode().strip():
                    name, _, value = text.partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = json.loads(await reader.readexactly(length)) if length else None
                if not await self._answer(method, target, body, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(
        self, method: str, target: str, body: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a request; False: the connection is used up."""
        url = urlsplit(target)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match method, parts:
            case "GET", ["_ping"]:
                _send(writer, 200, b"OK", "text/plain")
            case "GET", ["images", *name, "json"]:
                image = _tagged("/".join(name))
                known = image in self.images
                _send(writer, *((200, {"Id": image}) if known else _missing(f"No such image: {image}")))
            case "POST", ["images", "create"]:
                self._pull(writer, query["fromImage"])
            case "POST", ["containers", "create"]:
                self._create(writer, query.get("name", f"some-{uuid.uuid4().hex[:8]}"), body)
            case "GET", ["containers", "json"]:
                label = json.loads(query["filters"])["label"][0]
                held = [each for each in self.containers.values() if label in each.config["Labels"]]
                _send(writer, 200, [_listed(each) for each in held])
            case _, ["containers", given, *rest]:
                container = self.containers.get(given)
                if container is None:
                    _send(writer, *_missing(f"No such container: {given}"))
                else:
                    return await self._of_container(container, method, rest, reader, writer)
            case _:
                _send(writer, 404, {"message": "page not found"})
        await writer.drain()
        return True

    async def _of_container(
        self,
        container: FakeContainer,
        method: str,
        rest: list[str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        match method, rest:
            case "POST", ["attach"]:
                writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
                await writer.drain()
                container.stdin = await reader.read()
                container.fed.set()
                return False
            case "POST", ["start"]:
                await self._start(container)
                _send(writer, 204)
            case "GET", ["logs"]:
                await _logs(container, writer)
                return False
            case "POST", ["wait"]:
                _send(writer, 200, {"StatusCode": await _code(container)})
                await self._ended(container)
            case "GET", ["json"]:
                state = {"Status": _state(container), "OOMKilled": False, "FinishedAt": container.finished_at}
                _send(writer, 200, {"Id": container.id, "State": state})
            case "POST", ["kill"]:
                running = _state(container) == "running"
                _kill(container)
                if running:
                    _send(writer, 204)
                else:
                    _send(writer, 409, {"message": f"container {container.id} is not running"})
            case "DELETE", []:
                _kill(container)
                del self.containers[container.id]
                _send(writer, 204)
            case _:
                _send(writer, 404, {"message": "page not found"})
        await writer.drain()
        return True

    def _pull(self, writer: asyncio.StreamWriter, image: str) -> None:
        self.pulled.append(image)
        if image not in self.registry | self.images:
            _send(writer, 404, {"message": f"pull access denied for {image}, repository does not exist"})
            return
        self.images.add(image)
        lines = b"".join(json.dumps({"status": status}).encode() + b"\r\n" for status in ("Pulling", "Downloaded"))
        _send(writer, 200, lines, _JSON)

    def _create(self, writer: asyncio.StreamWriter, name: str, config: dict[str, Any]) -> None:
        image = _tagged(config["Image"])
        if image not in self.images:
            _send(writer, *_missing(f"No such image: {image}"))
        elif any(each.name == name for each in self.containers.values()):
            _send(writer, 409, {"message": f'Conflict. The container name "/{name}" is already in use'})
        else:
            self.created.append(config)
            made = FakeContainer(id=uuid.uuid4().hex * 2, name=name, config=config)
            self.containers[made.id] = made
            _send(writer, 201, {"Id": made.id, "Warnings": []})

    async def _start(self, container: FakeContainer) -> None:
        config = container.config
        environment = dict(each.split("=", 1) for each in config["Env"])
        container.process = await asyncio.create_subprocess_exec(
            *(config["Cmd"] or ["true"]),
            env={"PATH": os.environ["PATH"], **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._processes.append(container.process)

    async def _ended(self, container: FakeContainer) -> None:
        container.finished_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
        if container.config["HostConfig"]["AutoRemove"]:
            self.containers.pop(container.id, None)


async def _logs(container: FakeContainer, writer: asyncio.StreamWriter) -> None:
    """Follow what a container writes, in frames that begin with the stream and the length."""
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {_STREAM}\r\nConnection: close\r\n\r\n".encode())
    process = container.process
    if process is None or process.stdin is None:
        return
    if container.config["OpenStdin"]:
        await container.fed.wait()
        with contextlib.suppress(ConnectionError):
            process.stdin.write(container.stdin)
            await process.stdin.drain()
    process.stdin.close()

    async def copy(stream: asyncio.StreamReader | None, number: int) -> None:
        while stream is not None and (chunk := await stream.read(8192)):
            writer.write(bytes((number, 0, 0, 0)) + len(chunk).to_bytes(4, "big") + chunk)
            await writer.drain()

    await asyncio.gather(copy(process.stdout, 1), copy(process.stderr, 2))


async def _code(container: FakeContainer) -> int:
    code = 0 if container.process is None else await container.process.wait()
    return 128 - code if code < 0 else code


def _state(container: FakeContainer) -> str:
    if container.process is None:
        return "created"
    return "running" if container.process.returncode is None else "exited"


def _listed(container: FakeContainer) -> dict[str, Any]:
    return {"Id": container.id, "Labels": container.config["Labels"], "State": _state(container)}


def _kill(container: FakeContainer) -> None:
    if container.process is not None and container.process.returncode is None:
        container.process.kill()


def _tagged(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


def _missing(message: str) -> tuple[int, dict[str, str]]:
    return 404, {"message": message}


def _send(writer: asyncio.StreamWriter, status: int, body: Any = None, kind: str = _JSON) -> None:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Some\r\n"
    if content:
        head += f"Content-Type: {kind}\r\n"
    if status != _NO_CONTENT:
        head += f"Content-Length: {len(content)}\r\n"
    writer.write(f"{head}\r\n".encode() + content)


@contextlib.asynccontextmanager
async def container_engine(socket: Path) -> AsyncGenerator[Engine]:
    """Serve at `socket` until the block ends."""
    engine = Engine(socket)
    server = await asyncio.start_unix_server(engine.accept, str(socket))
    try:
        yield engine
    finally:
        server.close()
        await engine.close()
