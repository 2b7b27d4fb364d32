"""A client of a container engine: Docker, or Podman, which speaks the same API over its socket.

It knows containers and nothing of workflows. The API's version is left out of paths, which means the engine's own.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

import httpx2
from stigmer_sandbox import Ending, Finished

MANAGED = "ai.stigmer.managed"
REMOVE_AFTER = "ai.stigmer.remove-after-seconds"
"""Label: how long after its end a container is removed by whoever looks."""
KILL_AT = "ai.stigmer.kill-at"
"""Label: when a container may not run any longer, in seconds since the epoch."""
_HEADER_BYTES = 8
_STDERR = 2
_ANSWER_SECONDS = 60.0
_OK, _NOT_FOUND, _CONFLICT = 200, 404, 409

PullPolicy = Literal["ifNotPresent", "always", "never"]


class EngineError(Exception):
    """The engine refused something, or cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to be run."""

    image: str
    name: str | None = None
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    ports: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ports of this machine's loopback interface, and those of the container that they lead to."""
    volumes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Folders of this machine or named volumes, and where the container has them."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    network: bool = False
    stdin: bytes | None = None
    memory_bytes: int = 0
    processes: int = 0
    remove_itself: bool = False

    def encoded(self) -> dict[str, Any]:
        """Return the body of the request that creates it."""
        ports = {_port(inside): [{"HostIp": "127.0.0.1", "HostPort": own}] for own, inside in self.ports.items()}
        return {
            "Image": self.image,
            "Cmd": list(self.command) or None,
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "Labels": {MANAGED: "true", **self.labels},
            "ExposedPorts": {port: {} for port in ports},
            "AttachStdin": self.stdin is not None,
            "OpenStdin": self.stdin is not None,
            "StdinOnce": self.stdin is not None,
            "Tty": False,
            "HostConfig": {
                "AutoRemove": self.remove_itself,
                "Binds": [f"{own}:{inside}" for own, inside in self.volumes.items()],
                "PortBindings": ports,
                "NetworkMode": "bridge" if self.network else "none",
                "Memory": self.memory_bytes,
                "PidsLimit": self.processes or None,
                "SecurityOpt": ["no-new-privileges"],
            },
        }


class ContainerEngine:
    """An engine at a unix socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        transport = httpx2.AsyncHTTPTransport(uds=str(socket))
        self._http = httpx2.AsyncClient(transport=transport, base_url="http://engine", timeout=_ANSWER_SECONDS)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def check(self) -> None:
        """Find out whether it answers. Raises: EngineError."""
        await self._ask("GET", "/_ping")

    async def pull(self, image: str, policy: PullPolicy) -> None:
        """Have an image here. Raises: EngineError."""
        if policy != "always":
            found = await self._send("GET", f"/images/{quote(image, safe='/:@')}/json")
            if found.status_code == _OK:
                return
            if policy == "never":
                raise EngineError(f"there is no image {image} on this machine, and it may not be pulled")
        query = {"fromImage": image if _has_tag(image) else f"{image}:latest"}
        try:
            async with self._http.stream("POST", "/images/create", params=query, timeout=None) as answer:
                # What goes wrong during the pull stands in the stream, whose status was sent before.
                lines = [json.loads(line) async for line in answer.aiter_lines() if line.strip()]
        except (httpx2.HTTPError, ValueError) as error:
            raise EngineError(f"the image {image} cannot be pulled: {error!r}") from error
        failed = next((line.get("error") or line.get("message") for line in lines if line.keys() & _FAILURES), None)
        if failed or answer.is_error:
            raise EngineError(f"the image {image} cannot be pulled: {failed or answer.reason_phrase}")

    async def create(self, spec: ContainerSpec) -> str:
        """Make a container and return its id. Raises: EngineError."""
        query = {} if spec.name is None else {"name": spec.name}
        return str((await self._ask("POST", "/containers/create", params=query, json=spec.encoded()))["Id"])

    async def run(self, container: str, stdin: bytes | None, *, most_bytes: int) -> Finished:
        """Start a container, give it its input, and return how it ended. Raises: EngineError."""
        began = time.monotonic()
        feeding = None if stdin is None else await self._attach(container)
        try:
            await self.start(container)
            (stdout, stderr, truncated), _ = await asyncio.gather(
                self._logs(container, most_bytes), _feed(feeding, stdin)
            )
        finally:
            if feeding is not None:
                feeding.close()
        ended = await self._ask("POST", f"/containers/{container}/wait", timeout=None)
        state = (await self._ask("GET", f"/containers/{container}/json"))["State"]
        return Finished(
            code=int(ended["StatusCode"]),
            stdout=stdout,
            stderr=stderr,
            ending=Ending.MEMORY if state.get("OOMKilled") else Ending.EXITED,
            truncated=truncated,
            seconds=time.monotonic() - began,
        )

    async def start(self, container: str) -> None:
        """Start a container. Raises: EngineError."""
        await self._ask("POST", f"/containers/{container}/start")

    async def remove(self, container: str) -> None:
        """End and remove a container; one that is gone is no error. Raises: EngineError."""
        query = {"force": "true", "v": "true"}
        await self._ask("DELETE", f"/containers/{container}", params=query, missing_is_fine=True)

    async def kill(self, container: str) -> None:
        """End a container; one that has ended is no error. Raises: EngineError."""
        answer = await self._send("POST", f"/containers/{container}/kill")
        if answer.is_error and answer.status_code not in (_NOT_FOUND, _CONFLICT):
            raise EngineError(_said(answer))

    async def tidy(self, now: float) -> None:
        """Remove what was to be removed by now, whoever made it. Raises: EngineError."""
        query = {"all": "true", "filters": json.dumps({"label": [MANAGED]})}
        for listed in await self._ask("GET", "/containers/json", params=query):
            labels: dict[str, str] = listed.get("Labels") or {}
            if KILL_AT in labels and float(labels[KILL_AT]) < now:
                await self.remove(listed["Id"])
            elif REMOVE_AFTER in labels and listed.get("State") == "exited":
                found = await self._ask("GET", f"/containers/{listed['Id']}/json", missing_is_fine=True)
                if found and _seconds(found["State"]["FinishedAt"]) + float(labels[REMOVE_AFTER]) < now:
                    await self.remove(listed["Id"])

    async def _logs(self, container: str, most_bytes: int) -> tuple[bytes, bytes, bool]:
        """Return what a container writes, until it ends."""
        query = {"follow": "true", "stdout": "true", "stderr": "true"}
        output = _Output(most_bytes)
        try:
            async with self._http.stream("GET", f"/containers/{container}/logs", params=query, timeout=None) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise EngineError(_said(answer))
                async for chunk in answer.aiter_raw():
                    output.take(chunk)
        except httpx2.HTTPError as error:
            raise EngineError(f"the engine at {self.socket} cannot be used: {error!r}") from error
        return bytes(output.stdout), bytes(output.stderr), output.truncated

    async def _attach(self, container: str) -> asyncio.StreamWriter:
        """Return the input of a container that is about to be started: a connection that stops being HTTP."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError as error:
            raise EngineError(f"the engine at {self.socket} cannot be reached: {error}") from error
        request = f"POST /containers/{container}/attach?stream=1&stdin=1 HTTP/1.1"
        writer.write(f"{request}\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
            writer.close()
            raise EngineError(f"the engine does not take the input: {head.splitlines()[0].decode()}")
        return writer

    async def _ask(self, method: str, path: str, *, missing_is_fine: bool = False, **more: Any) -> Any:
        answer = await self._send(method, path, **more)
        if answer.status_code == _NOT_FOUND and missing_is_fine:
            return None
        if answer.is_error:
            raise EngineError(_said(answer))
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.json() if is_json and answer.content else None

    async def _send(self, method: str, path: str, **more: Any) -> httpx2.Response:
        try:
            return await self._http.request(method, path, **more)
        except httpx2.HTTPError as error:
            raise EngineError(f"the engine at {self.socket} cannot be used: {error!r}") from error


_FAILURES = frozenset({"error", "message"})


class _Output:
    """What a container writes, taken apart: eight bytes say which stream a frame belongs to, and its length."""

    def __init__(self, most_bytes: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.truncated = False
        self._most = most_bytes
        self._rest = bytearray()

    def take(self, chunk: bytes) -> None:
        self._rest += chunk
        while len(self._rest) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._rest[4:8], "big")
            if len(self._rest) < end:
                return
            stream = self.stderr if self._rest[0] == _STDERR else self.stdout
            room = self._most - len(self.stdout) - len(self.stderr)
            frame = self._rest[_HEADER_BYTES:end]
            self.truncated |= len(frame) > room
            stream += frame[: max(0, room)]
            del self._rest[:end]


async def _feed(writer: asyncio.StreamWriter | None, stdin: bytes | None) -> None:
    if writer is None or stdin is None:
        return
    try:
        writer.write(stdin)
        await writer.drain()
        writer.write_eof()
    except ConnectionError:
        # It ended without reading all of it.
        writer.close()


def _said(answer: httpx2.Response) -> str:
    try:
        said: Any = answer.json()
    except ValueError:
        said = None
    message = cast("dict[str, Any]", said).get("message") if isinstance(said, dict) else None
    return str(message or f"the engine answers {answer.status_code} {answer.reason_phrase}")


def _port(inside: str) -> str:
    return inside if "/" in inside else f"{inside}/tcp"


def _has_tag(image: str) -> bool:
    return "@" in image or ":" in image.rpartition("/")[2]


def _seconds(moment: str) -> float:
    """Return a time of the engine's, RFC 3339 with nanoseconds, in seconds since the epoch."""
    text = moment.replace("Z", "+00:00")
    whole, dot, rest = text.partition(".")
    zone = rest[rest.index("+") :] if "+" in rest else "+00:00"
    return datetime.fromisoformat(f"{whole}{zone}" if dot else text).timestamp()
