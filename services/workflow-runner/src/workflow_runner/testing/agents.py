"""The agents of the peer: executions in memory, which a test ends as it likes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from stigmer_grpc import CallContext, FailedPreconditionError, NotFoundError, Service, UnavailableError, bind
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors
from stigmer_runner import fill_value

_PACKAGE = "ai.stigmer.agentic"
_EXECUTION = f"{_PACKAGE}.agentexecution.v1.AgentExecution"
_KEY = "x-stigmer-idempotency-key"
COMPLETED, FAILED, CANCELLED = 3, 4, 5
_AI = 2

Tell = Callable[[bytes, bool], Awaitable[None]]
"""Ends the activity that a token stands for, well or not."""


class PeerAgents:
    """Agents and their executions. It keeps to what stigmer-server promises: a key makes one execution."""

    def __init__(self) -> None:
        self.slugs = {"clerk"}
        """Of the agents that there are."""
        self.executions: dict[str, Message] = {}
        """As they were created."""
        self.tokens: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        """Idempotency key to the execution that it made."""
        self.attempts = 0
        """How often one was to be created, again or not."""
        self.lost_answers = 0
        """How many more creations are done, and not answered."""
        self.tell: Tell | None = None
        self._changed = asyncio.Condition()

    def services(self) -> list[Service]:
        """Return the services, bound."""
        pool = descriptors.pool()
        return [
            bind(pool, f"{_PACKAGE}.agent.v1.AgentQueryController", {"getByReference": self._find}),
            bind(pool, f"{_EXECUTION}CommandController", {"create": self._create}),
            bind(pool, f"{_EXECUTION}QueryController", {"get": self._get}),
            bind(pool, f"{_EXECUTION}ControlController", {"cancel": self._cancel}),
        ]

    async def begun(self, number: int = 1) -> Message:
        """Wait until so many executions were made, and return the last of them."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.executions) >= number)
        return [*self.executions.values()][number - 1]

    async def cancelled(self, execution: Message) -> None:
        """Wait until an execution was cancelled."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: execution.status.phase == CANCELLED)

    async def end(self, execution: Message, text: str = "", *, output: Any = None, error: str = "") -> None:
        """Have an agent end: with what it says, an answer by a schema, or an error."""
        status = execution.status
        status.phase = FAILED if error else COMPLETED
        status.error = error
        status.usage.model_calls = 2
        status.messages.add(type=_AI, content=text)
        if output is not None:
            fill_value(status.output, output)
        await self._told(execution)

    async def _told(self, execution: Message) -> None:
        if self.tell is not None:
            await self.tell(self.tokens[execution.metadata.id], execution.status.phase == COMPLETED)

    async def _find(self, request: Message, _: CallContext) -> Message:
        if request.slug not in self.slugs:
            raise NotFoundError(f"Agent not found: {request.org}/{request.slug}")
        found: Message = descriptors.message_type(f"{_PACKAGE}.agent.v1.Agent")()
        found.metadata.id, found.metadata.slug = f"agt-{request.slug}", request.slug
        return found

    async def _create(self, request: Message, context: CallContext) -> Message:
        self.attempts += 1
        key = str(context.metadata[_KEY])
        if key not in self.keys:
            made: Message = descriptors.message_type(_EXECUTION)()
            made.CopyFrom(request)
            made.metadata.id = self.keys[key] = f"aex-{len(self.executions) + 1}"
            made.spec.session_id = made.spec.session_id or "ses-1"
            self.tokens[made.metadata.id] = made.spec.callback_token
            self.executions[made.metadata.id] = made
            async with self._changed:
                self._changed.notify_all()
        if self.lost_answers:
            self.lost_answers -= 1
            raise UnavailableError("the answer is lost")
        return self.executions[self.keys[key]]

    async def _get(self, request: Message, _: CallContext) -> Message:
        return self.executions[request.value]

    async def _cancel(self, request: Message, _: CallContext) -> Message:
        execution = self.executions[request.id]
        if execution.status.phase in (COMPLETED, FAILED):
            raise FailedPreconditionError("it has ended")
        execution.status.phase = CANCELLED
        async with self._changed:
            self._changed.notify_all()
        await self._told(execution)
        return execution
