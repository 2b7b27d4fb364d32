"""The server under measurement, its bare peer, and what is sent to both."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import grpc
import grpc.aio
from stigmer_protos.descriptors import kind_by_enum_name, message_type, pool
from stigmer_server.testing import ServerProcess

Call = Callable[[], Awaitable[Any]]
MINIMAL = (("x-stigmer-return", "minimal"),)
COMMIT_SECONDS = 0.002
"""What a commit takes more on the slower disk."""
BARE_FOLLOW, BARE_TELL = "/bare/follow", "/bare/tell"


class Answers(grpc.GenericRpcHandler):
    """Answers every call with the bytes that came with it, and tells every follower what it is told."""

    def __init__(self) -> None:
        self._followers: set[asyncio.Event] = set()
        self._state = b""

    def service(self, handler_call_details: Any) -> Any:
        untyped: Any = grpc
        match handler_call_details.method:
            case "/bare/follow":
                return untyped.unary_stream_rpc_method_handler(self._follow)
            case "/bare/tell":
                return untyped.unary_unary_rpc_method_handler(self._tell)
            case _:
                return untyped.unary_unary_rpc_method_handler(self._echo)

    async def _echo(self, request: Any, context: Any) -> Any:
        return request

    async def _follow(self, request: Any, context: Any) -> None:
        told = asyncio.Event()
        self._followers.add(told)
        await context.write(request)
        while True:
            await told.wait()
            told.clear()
            await context.write(self._state)

    async def _tell(self, request: Any, context: Any) -> bytes:
        self._state = request
        for follower in self._followers:
            follower.set()
        return b""


async def serve_bare() -> None:
    server: Any = grpc.aio.server(handlers=(Answers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


@asynccontextmanager
async def bare(script: Path) -> AsyncGenerator[tuple[str, int]]:
    """The peer, in a process of its own: its address and its process id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), "--serve-bare"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip(), process.pid
    process.stdin.close()
    await process.wait()


@asynccontextmanager
async def ours(folder: Path | None = None, **options: Any) -> AsyncGenerator[ServerProcess]:
    """The server, ready, in a process of its own and with nothing that runs executions; `options` are the process's."""
    with TemporaryDirectory() as temporary:
        # With its bytecode, as installers leave a package; compiling it at every start takes seconds, and memory.
        process = ServerProcess(folder or Path(temporary), LOG_LEVEL="error", PYTHONDONTWRITEBYTECODE="", **options)
        await process.ready()
        yield process
        await process.close()


class Client:
    """Raw calls over one connection."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._methods: dict[str, Any] = {}

    async def __call__(self, kind: str, verb: str, request: bytes, metadata: Any = None) -> bytes:
        path = path_of(kind, verb)
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self.channel.unary_unary(path)
        return await method(request, metadata=metadata)


def path_of(kind: str, verb: str) -> str:
    services = kind_by_enum_name(kind).services
    (name,) = (name for name in services if verb in pool().FindServiceByName(name).methods_by_name)
    return f"/{name}/{verb}"


def resource(kind: str, name: str) -> Any:
    """A resource of about a kilobyte."""
    described = kind_by_enum_name(kind)
    message: Any = message_type(described.message)()
    message.api_version, message.kind = described.api_version, described.name
    message.metadata.name, message.metadata.org = name, "local"
    text = "Read the commits since the last tag and write release notes for people. " * 12
    match kind:
        case "agent":
            message.metadata.owner_scope = 2
            message.spec.instructions = text
        case "workflow":
            message.metadata.owner_scope = 2
            message.spec.definition = (
                "document: {dsl: 1.0.0, namespace: bench, name: flow, version: 0.1.0}\n"
                "do:\n  - greet: {set: {greeting: hello}}\n"
            )
        case "agent_execution":
            message.spec.message = "Write the notes."
        case "workflow_execution" | "agent_instance":
            message.metadata.owner_scope = 2
        case _:
            message.metadata.owner_scope = 2
            message.spec.description = text
            message.spec.data["REGION"].value = "eu-west-1"
    return message


async def create(api: Client, kind: str, name: str, **spec: str) -> Any:
    """Create a resource, and return it."""
    message = resource(kind, name)
    for field, value in spec.items():
        setattr(message.spec, field, value)
    message.ParseFromString(await api(kind, "create", message.SerializeToString()))
    return message


def report(execution_id: str, kind: str = "agent_execution") -> Any:
    """A runner's report that the execution goes on, to be filled."""
    package = kind_by_enum_name(kind).message.rpartition(".")[0]
    name = {"agent_execution": "AgentExecution", "workflow_execution": "WorkflowExecution"}[kind]
    request: Any = message_type(f"{package}.{name}UpdateStatusInput")()
    request.execution_id = execution_id
    request.status.phase = 2
    return request


async def long_run(api: Client, workflow_id: str, name: str, tasks: int) -> str:
    """Create a workflow execution with so many tasks of a kilobyte, and return its id."""
    run = await create(api, "workflow_execution", name, workflow_id=workflow_id)
    for numbers in batches(tasks, 64):
        request = report(run.metadata.id, "workflow_execution")
        for number in numbers:
            task = request.status.tasks.add(task_id=f"/do/{number}/step", task_name=f"step {number}")
            task.output_value.struct_value.fields["text"].string_value = "x" * 940
        await api("workflow_execution", "updateStatus", request.SerializeToString(), MINIMAL)
    return str(run.metadata.id)


def batches(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def resident_megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def most_megabytes(pid: int) -> float:
    """What a process has held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def serve_slowly() -> None:
    """Be a stigmer-server whose disk takes `COMMIT_SECONDS` longer for a commit."""
    from stigmer_server.__main__ import main
    from stigmer_sqlite.writer import Writer

    commit = Writer._commit_now  # noqa: SLF001 - the one place that waits for the disk

    def slow(self: Writer, transactions: int) -> None:
        time.sleep(COMMIT_SECONDS)
        commit(self, transactions)

    with patch.object(Writer, "_commit_now", slow):
        main()


if __name__ == "__main__":
    serve_slowly()
