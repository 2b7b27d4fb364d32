"""Executions that runs start at the peer, by `run: workflow`: created once, told of their end, and cancelled."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from stigmer_grpc import CallContext, FailedPreconditionError, NotFoundError, Service, bind
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors
from stigmer_runner import read_value

if TYPE_CHECKING:
    from workflow_runner.testing.peer import Execution, PeerServer

_PACKAGE = "ai.stigmer.agentic.workflowexecution.v1"
_WORKFLOW = "ai.stigmer.agentic.workflow.v1"
_KEY = "x-stigmer-idempotency-key"
_ENDED = frozenset({3, 4, 5})
_PIECE = 1024 * 1024

Begin = Callable[["Execution"], Awaitable[None]]
"""Starts an execution, as the server has Temporal do."""
Tell = Callable[["Execution"], Awaitable[None]]
"""Ends the activity that waits for an execution."""


class PeerChildren:
    """It keeps to what stigmer-server promises: the same key creates once, and who waits is told once it is over."""

    def __init__(self, peer: PeerServer) -> None:
        self._peer = peer
        self.workflows: dict[str, str] = {}
        """Slug of each workflow that can be run, to its document."""
        self.begin: Begin | None = None
        self.cancel: Begin | None = None
        self.tell: Tell | None = None
        self.created: list[Execution] = []
        self._by_key: dict[str, Execution] = {}
        self._told: set[str] = set()

    def services(self) -> list[Service]:
        """Return the services, bound, but for the one that takes reports, too."""
        pool = descriptors.pool()
        return [
            bind(pool, f"{_WORKFLOW}.WorkflowQueryController", {"getByReference": self._workflow}),
            bind(pool, f"{_PACKAGE}.WorkflowExecutionQueryController", {"get": self._get}),
            bind(pool, f"{_PACKAGE}.WorkflowExecutionControlController", {"cancel": self._cancel}),
            bind(pool, f"{_PACKAGE}.WorkflowExecutionTransferController", {"getOutput": self._output}),
        ]

    async def create(self, request: Message, context: CallContext) -> Message:
        """Create an execution, unless that was done for the same key."""
        key = str(context.metadata.get(_KEY, ""))
        made = self._by_key.get(key)
        if made is None:
            made = self._by_key[key] = self._made(request)
            self.created.append(made)
            if self.begin is not None:
                await self.begin(made)
        return self._message(made)

    async def ended(self, execution: Execution) -> None:
        """Tell whoever waits for an execution that is over, once."""
        if execution.callback and execution.id not in self._told and self.tell is not None:
            self._told.add(execution.id)
            await self.tell(execution)

    def _made(self, request: Message) -> Execution:
        from workflow_runner.testing.peer import Execution

        spec = request.spec
        document = self.workflows[spec.workflow_id]
        made = Execution(
            id=f"wex-{uuid.uuid4().hex}",
            definition=document,
            callback=spec.callback_token,
            labels=dict(request.metadata.labels),
        )
        if spec.HasField("large_input"):
            values, key = self._peer.values.kept, spec.large_input.key
            if (spec.large_input_of, key) not in values:
                raise NotFoundError(f"{spec.large_input_of} has no value {key}")
            values[made.id, key] = values[spec.large_input_of, key]
            made.large_input = spec.large_input
        else:
            made.input = read_value(spec.input)
        return self._peer.add(made)

    async def _workflow(self, request: Message, _: CallContext) -> Message:
        if request.slug not in self.workflows:
            raise NotFoundError(f"Workflow not found: {request.slug}")
        found: Message = descriptors.message_type(f"{_WORKFLOW}.Workflow")()
        found.metadata.id, found.metadata.org, found.metadata.slug = request.slug, request.org, request.slug
        found.spec.document.namespace, found.spec.document.version = "test", "1.0.0"
        found.spec.document.name = request.slug
        return found

    async def _get(self, request: Message, _: CallContext) -> Message:
        return self._message(self._peer.find(request.value))

    async def _cancel(self, request: Message, _: CallContext) -> Message:
        execution = self._peer.find(request.id)
        if execution.status.phase in _ENDED:
            raise FailedPreconditionError(f"{execution.id} has ended")
        if self.cancel is not None:
            await self.cancel(execution)
        return self._message(execution)

    async def _output(self, request: Message, _: CallContext) -> AsyncIterator[Message]:
        execution = self._peer.find(request.execution_id)
        status, part = execution.status, self._part()
        if status.HasField("large_output"):
            text = self._peer.values.text(execution.id, status.large_output.key)
        else:
            text = json.dumps(execution.output).encode()
        for start in range(0, len(text), _PIECE):
            yield part(chunk=text[start : start + _PIECE])

    @staticmethod
    def _part() -> Any:
        return descriptors.message_type(f"{_PACKAGE}.OutputPart")

    @staticmethod
    def _message(execution: Execution) -> Message:
        made: Message = descriptors.message_type(f"{_PACKAGE}.WorkflowExecution")()
        made.metadata.id = execution.id
        made.status.CopyFrom(execution.status)
        return made
