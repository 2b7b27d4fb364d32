"""Running workflows to their end."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from workflow_runner import names
from workflow_runner.testing.peer import Execution, PeerServer

HEADER = "document: {dsl: 1.0.3, namespace: test, name: test, version: 1.0.0}\n"
_LIMIT_SECONDS = 60.0


StartRunner = Callable[..., Awaitable["Runs"]]
"""Starts a runner with the given settings."""


class Runs:
    """Runs workflows on a worker of this process."""

    def __init__(self, client: Client, peer: PeerServer, queue: str) -> None:
        self.client = client
        self.peer = peer
        self.queue = queue
        peer.events.wake = self._wake
        peer.children.begin, peer.children.cancel, peer.children.tell = self._begin, self._cancel, self._tell
        peer.agents.tell = self._tell_of_agent

    def add(self, definition: str, data: Any = None, **more: Any) -> Execution:
        """Give the server an execution of a document; the header may be left out."""
        text = definition if definition.lstrip().startswith("document:") else HEADER + definition
        made = Execution(id=f"wex-{uuid.uuid4().hex}", definition=text, input=data, **more)
        return self.peer.add(made)

    async def publish(self, type_: str, data: Any = None, **attributes: Any) -> dict[str, Any]:
        """Publish an event, as somebody else does."""
        event = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/test", "type": type_, "data": data}
        await self.peer.events.add(event | attributes)
        return event | attributes

    async def _wake(self, execution_id: str, listener: str) -> None:
        run = self.client.get_workflow_handle(f"{names.WORKFLOW}/{execution_id}")
        with contextlib.suppress(RPCError):  # the run has ended meanwhile
            await run.signal(names.EVENT, {"id": uuid.uuid4().hex, "listener": listener})

    async def _begin(self, execution: Execution) -> None:
        await self.start(execution)

    async def _cancel(self, execution: Execution) -> None:
        await self.client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}").cancel()

    async def _tell(self, execution: Execution) -> None:
        waiting = self.client.get_async_activity_handle(task_token=execution.callback)
        with contextlib.suppress(RPCError):  # nobody waits any more
            await waiting.complete({"id": execution.id, "phase": execution.phase})

    async def _tell_of_agent(self, token: bytes, well: bool) -> None:
        waiting = self.client.get_async_activity_handle(task_token=token)
        with contextlib.suppress(RPCError):  # nobody waits any more
            await (waiting.complete({}) if well else waiting.fail(ApplicationError("it has ended", non_retryable=True)))

    def whole(self, execution: Execution) -> Any:
        """Return the output, also where the peer was told of it apart."""
        if not execution.status.HasField("large_output"):
            return execution.output
        return json.loads(self.peer.values.text(execution.id, execution.status.large_output.key))

    async def start(self, execution: Execution) -> WorkflowHandle[Any, Any]:
        """Start it as the server does."""
        return await self.client.start_workflow(
            names.WORKFLOW,
            {"execution_id": execution.id, "org": "acme"},
            id=f"{names.WORKFLOW}/{execution.id}",
            task_queue=self.queue,
        )

    async def recover(self, execution: Execution, from_task: str = "") -> WorkflowHandle[Any, Any]:
        """Start a further run of an execution that failed, as the server does; it begins with a task, by pointer."""
        execution.recoveries += 1
        execution.begin_at = from_task
        execution.status.phase = 1
        for name in ("error", "completed_at", "output", "output_value", "error_details"):
            execution.status.ClearField(name)
        return await self.client.start_workflow(
            names.WORKFLOW,
            {"execution_id": execution.id, "org": "acme"},
            id=f"{names.WORKFLOW}/{execution.id}/recovery-{execution.recoveries}",
            task_queue=self.queue,
        )

    async def run(self, definition: str, data: Any = None, **more: Any) -> Execution:
        """Run a document to its end, however it ends."""
        execution = self.add(definition, data, **more)
        handle = await self.start(execution)
        async with asyncio.timeout(_LIMIT_SECONDS):
            try:
                await handle.result()
            except WorkflowFailureError:
                _must(execution.phase in ("FAILED", "CANCELLED"), execution)
            else:
                _must(execution.phase == "COMPLETED", execution)
        return execution

    async def output(self, definition: str, data: Any = None, **more: Any) -> Any:
        """Run a document that completes, and return its output."""
        execution = await self.run(definition, data, **more)
        _must(execution.phase == "COMPLETED", execution)
        return execution.output

    async def error(self, definition: str, data: Any = None, **more: Any) -> Any:
        """Run a document that faults, and return its problem details."""
        execution = await self.run(definition, data, **more)
        _must(execution.phase == "FAILED", execution)
        return execution.error


def _must(holds: object, execution: Execution) -> None:
    if not holds:
        raise AssertionError(f"{execution.id} is {execution.phase}: {execution.error or execution.output!r}")
