"""For tests and benchmarks: a whole stack of real processes, and its client.

The server is started as a process, never imported: services know each other by their contract only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stigmer_grpc.channel import Channel
from stigmer_grpc.client import connect
from stigmer_protos import descriptors
from stigmer_runner.testing import free_port
from temporalio.client import Client

AGENTIC = "ai.stigmer.agentic"
FILES = "ai.stigmer.files.v1"
START_SECONDS = 60.0
RUN_SECONDS = 60.0
FINAL = ("EXECUTION_COMPLETED", "EXECUTION_FAILED", "EXECUTION_CANCELLED", "EXECUTION_TERMINATED")


@dataclass(slots=True, kw_only=True)
class Stack:
    """A running server, its runners, and what a client does with them."""

    folder: Path
    temporal: str
    address: str
    queue: str
    environment: dict[str, str]
    server_environment: Mapping[str, str] = field(default_factory=dict[str, str])
    server: asyncio.subprocess.Process | None = None
    processes: list[asyncio.subprocess.Process] = field(default_factory=list[asyncio.subprocess.Process])

    async def start_server(self) -> None:
        """Start the server, anew after `kill_server`, and wait until it serves."""
        environment = {
            **self.environment,
            "GRPC_PORT": self.address.rpartition(":")[2],
            "DB_PATH": str(self.folder / "server" / "stigmer.db"),
            "STORAGE_PATH": str(self.folder / "server" / "storage"),
            "TEMPORAL_HOST_PORT": self.temporal,
            "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": self.queue,
            **self.server_environment,
        }
        with (self.folder / "server.log").open("ab") as log:
            self.server = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stigmer_server", env=environment, stdout=log, stderr=log
            )
        async with connect(self.address, pool=descriptors.pool()) as channel:
            await channel.ready(START_SECONDS)

    async def kill_server(self) -> None:
        """End the server without giving it time."""
        if self.server is not None and self.server.returncode is None:
            self.server.kill()
            await self.server.wait()

    @property
    def data(self) -> Path:
        """The runners' data folder."""
        return self.folder / "data"

    async def start_runner(self, **extra: str) -> asyncio.subprocess.Process:
        """Start one more runner, with more variables, and wait until it takes work."""
        ready = self.folder / f"ready-{len(self.processes)}"
        log = self.folder / f"runner-{len(self.processes)}.log"
        environment = {
            **self.environment,
            "TEMPORAL_HOST_PORT": self.temporal,
            "STIGMER_BACKEND_ENDPOINT": self.address,
            "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": self.queue,
            "STIGMER_AGENT_RUNNER_DATA": str(self.data),
            "STIGMER_RUNNER_READY_FILE": str(ready),
            "STIGMER_SCRIPTS_FOLDER": str(self.folder / "scripts"),
            "STIGMER_AGENT_STATUS_SECONDS": "0.05",
            "STIGMER_RUNNER_GRACE_SECONDS": "1",
            **extra,
        }
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent_runner", env=environment, stdout=file, stderr=file
            )
        self.processes.append(process)
        async with asyncio.timeout(START_SECONDS):
            while not ready.exists():
                if process.returncode is not None:
                    raise AssertionError(log.read_text())
                await asyncio.sleep(0.05)
        return process

    async def stop(self) -> None:
        """Stop the runners; one that does not end with 0 is an error."""
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
        for process in self.processes:
            async with asyncio.timeout(20):
                code = await process.wait()
            if code not in (0, -signal.SIGKILL):
                raise AssertionError(f"a runner ended with {code}\n{self.logs()}")

    def logs(self) -> str:
        """What the runners logged."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("runner-*.log")))

    def script(self, name: str, text: str) -> str:
        """Write a script; gives the name of the model that says it."""
        (self.folder / "scripts").mkdir(exist_ok=True)
        (self.folder / "scripts" / f"{name}.yaml").write_text(text)
        return f"scripted:{name}"


class Stigmer:
    """A client of the stack."""

    def __init__(self, stack: Stack, channel: Channel, temporal: Client) -> None:
        self.stack = stack
        self.temporal = temporal
        self._channel = channel

    async def call(self, service: str, method: str, request: Mapping[str, Any]) -> Any:
        """Call the server."""
        return await self._channel.service(f"{AGENTIC}.{service}").unary(method, request)

    async def agent(
        self,
        instructions: str = "You are a test agent.",
        *,
        annotations: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> str:
        """Declare an agent; gives its id."""
        name = f"agent-{uuid.uuid4().hex[:12]}"
        agent = {
            "api_version": "agentic.stigmer.ai/v1",
            "kind": "Agent",
            "metadata": {
                "name": name,
                "org": "local",
                "owner_scope": "organization",
                "annotations": dict(annotations or {}),
            },
            "spec": {"instructions": instructions, **spec},
        }
        created = await self.call("agent.v1.AgentCommandController", "apply", agent)
        return str(created.metadata.id)

    async def execute(
        self,
        agent: str,
        message: str,
        *,
        model: str = "",
        session: str = "",
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Any:
        """Create an execution of an agent, or in a session."""
        values = {name: {"value": value} for name, value in (env or {}).items()}
        values |= {name: {"value": value, "is_secret": True} for name, value in (secrets or {}).items()}
        spec: dict[str, Any] = {"message": message, "runtime_env": values, "execution_config": {"model_name": model}}
        spec |= {"session_id": session} if session else {"agent_id": agent}
        execution = {
            "api_version": "agentic.stigmer.ai/v1",
            "kind": "AgentExecution",
            "metadata": {"name": f"execution-{uuid.uuid4().hex[:12]}", "org": "local"},
            "spec": spec,
        }
        return await self.call("agentexecution.v1.AgentExecutionCommandController", "create", execution)

    async def session(self, agent: str) -> str:
        """A new session with an agent; gives its id."""
        found = await self.call("agentinstance.v1.AgentInstanceQueryController", "getByAgent", {"agent_id": agent})
        session = {
            "api_version": "agentic.stigmer.ai/v1",
            "kind": "Session",
            "metadata": {
                "name": f"session-{uuid.uuid4().hex[:12]}",
                "org": "local",
                "owner_scope": "organization",
            },
            "spec": {"agent_instance_id": found.items[0].metadata.id},
        }
        return str((await self.call("session.v1.SessionCommandController", "create", session)).metadata.id)

    async def put_file(self, session: str, path: str, content: bytes) -> None:
        """Put a file into a session."""
        part: Any = descriptors.message_type(f"{FILES}.PutFilePart")
        sent = [part(header={"session_id": session, "path": path}), part(chunk=content)]
        await self._channel.service(f"{FILES}.FileCommandController").client_stream("put", sent)

    async def delete_file(self, session: str, path: str) -> None:
        """Take a file out of a session."""
        request = {"session_id": session, "path": path}
        await self._channel.service(f"{FILES}.FileCommandController").unary("delete", request)

    async def files(self, owner: str) -> dict[str, bytes]:
        """The files of a session, or of an execution, with what is in them."""
        queries = self._channel.service(f"{FILES}.FileQueryController")
        listed = await queries.unary("list", {"resource_id": owner})
        found: dict[str, bytes] = {}
        for entry in sorted(listed.entries, key=lambda entry: entry.path):
            parts: AsyncIterator[Any] = queries.stream("get", {"resource_id": owner, "path": entry.path})
            found[entry.path] = b"".join([part.chunk async for part in parts])
        return found

    async def get(self, execution_id: str) -> Any:
        """The execution."""
        return await self.call("agentexecution.v1.AgentExecutionQueryController", "get", {"value": execution_id})

    def live(self, execution_id: str) -> AsyncIterator[Any]:
        """What is new of an execution, with the words of its agent."""
        service = self._channel.service(f"{AGENTIC}.agentexecution.v1.AgentExecutionLiveController")
        return service.stream("follow", {"value": execution_id})

    async def follow(
        self, execution_id: str, until: Callable[[Any], bool], *, seconds: float = RUN_SECONDS
    ) -> list[Any]:
        """Every status seen until one fits."""
        seen: list[Any] = []
        service = self._channel.service(f"{AGENTIC}.agentexecution.v1.AgentExecutionQueryController")
        try:
            async with asyncio.timeout(seconds):
                stream: AsyncIterator[Any] = service.stream("subscribe", {"value": execution_id})
                async for execution in stream:
                    seen.append(execution.status)
                    if until(execution.status):
                        return seen
        except TimeoutError:
            # The last thing seen tells more than the time-out.
            raise AssertionError(f"not within {seconds} s: {seen[-1] if seen else None}\n{self.stack.logs()}") from None
        raise AssertionError(f"the stream ended: {seen[-1] if seen else None}\n{self.stack.logs()}")

    async def finish(self, execution_id: str, *, seconds: float = RUN_SECONDS) -> Any:
        """The final status."""
        return (await self.follow(execution_id, lambda status: phase(status) in FINAL, seconds=seconds))[-1]

    async def run(self, agent: str, message: str, **options: Any) -> Any:
        """The final status of a new execution."""
        execution = await self.execute(agent, message, **options)
        return await self.finish(execution.metadata.id)

    async def workflow_ended(self, execution_id: str) -> Any:
        """The description of the execution's run on Temporal, once it is closed."""
        handle = self.temporal.get_workflow_handle(f"stigmer/agent-execution/invoke/{execution_id}")
        with contextlib.suppress(Exception):  # how it ended is read from its description
            async with asyncio.timeout(RUN_SECONDS):
                await handle.result()
        return await handle.describe()


def enum_name(message: Any, name: str) -> str:
    """The name of the value of an enum field."""
    number = getattr(message, name)
    return str(message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number[number].name)


def phase(status: Any) -> str:
    """The name of a status's phase."""
    return enum_name(status, "phase")


@contextlib.asynccontextmanager
async def run_stack(folder: Path, temporal: str, **server: str) -> AsyncGenerator[Stack]:
    """A server with its own database and queue, and more variables, and no runner yet."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    port, queue = free_port(), f"agents-{uuid.uuid4().hex[:8]}"
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    stack = Stack(
        folder=folder,
        temporal=temporal,
        address=f"127.0.0.1:{port}",
        queue=queue,
        environment=base,
        server_environment=server,
    )
    try:
        await stack.start_server()
        yield stack
        await stack.stop()
    finally:
        await stack.kill_server()
        for process in stack.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def client_of(stack: Stack) -> AsyncGenerator[Stigmer]:
    """A client of `stack`, on this event loop."""
    async with connect(stack.address, pool=descriptors.pool()) as channel:
        yield Stigmer(stack, channel, await Client.connect(stack.temporal))
