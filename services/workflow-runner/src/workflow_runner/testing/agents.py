"""The agents of the peer: executions and files in memory, which a test ends and makes as it likes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from stigmer_grpc import (
    CallContext,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    Service,
    UnavailableError,
    UnimplementedError,
    bind,
)
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors
from stigmer_runner import fill_value

_PACKAGE = "ai.stigmer.agentic"
_EXECUTION = f"{_PACKAGE}.agentexecution.v1.AgentExecution"
_SESSION = f"{_PACKAGE}.session.v1.Session"
_FILES = "ai.stigmer.files.v1"
_PIECE = 1024 * 1024
_DRY_RUN = "x-stigmer-dry-run"
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
        self.files: dict[str, dict[str, bytes]] = {}
        """Id of a session or an execution to its files: path to content."""
        self.keeps_files = True
        """Whether the server is one that keeps files."""
        self.puts = 0
        """How many files were put."""
        self.attempts = 0
        """How often one was to be created, again or not."""
        self.lost_answers = 0
        """How many more creations are done, and not answered."""
        self.lost_puts = 0
        """How many more files are put, and not answered."""
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
            bind(pool, f"{_SESSION}CommandController", {"create": self._open}),
            bind(pool, f"{_SESSION}QueryController", {"get": self._get_session}),
            bind(pool, f"{_PACKAGE}.agentinstance.v1.AgentInstanceQueryController", {"get": self._get_instance}),
            bind(pool, f"{_FILES}.FileCommandController", {"put": self._put}),
            bind(pool, f"{_FILES}.FileQueryController", {"list": self._list, "get": self._content}),
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

    async def end(
        self,
        execution: Message,
        text: str = "",
        *,
        output: Any = None,
        error: str = "",
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Have an agent end: with what it says, an answer by a schema, or an error, and with files that it has made."""
        status = execution.status
        self.files[execution.metadata.id] = dict(files)
        for path, content in files.items():
            status.artifacts.add(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
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
        found.status.default_instance_id = f"ain-{request.slug}"
        return found

    async def _open(self, request: Message, context: CallContext) -> Message:
        made: Message = descriptors.message_type(_SESSION)()
        made.CopyFrom(request)
        key = str(context.metadata[_KEY])
        made.metadata.id = self.keys.setdefault(key, f"ses-{len(self.keys) + 1}")
        self.files.setdefault(made.metadata.id, {})
        self._lose_answer()
        return made

    async def _get_session(self, request: Message, _: CallContext) -> Message:
        found: Message = descriptors.message_type(_SESSION)()
        found.metadata.id, found.spec.agent_instance_id = request.value, "ain-clerk"
        return found

    async def _get_instance(self, request: Message, _: CallContext) -> Message:
        found: Message = descriptors.message_type(f"{_PACKAGE}.agentinstance.v1.AgentInstance")()
        found.metadata.id, found.spec.agent_id = request.value, request.value.replace("ain-", "agt-")
        return found

    async def _put(self, requests: AsyncIterator[Message], _: CallContext) -> Message:
        header = (await anext(requests)).header
        content = b"".join([part.chunk async for part in requests])
        if header.path.startswith("/"):
            raise InvalidArgumentError(f"{header.path!r} is absolute")
        if hashlib.sha256(content).hexdigest() != header.sha256:
            raise InvalidArgumentError("is another file")
        self.files.setdefault(header.session_id, {})[header.path] = content
        self.puts += 1
        if self.lost_puts:
            self.lost_puts -= 1
            raise UnavailableError("the answer is lost")
        return _file(header.path, content)

    async def _list(self, request: Message, _: CallContext) -> Message:
        if not self.keeps_files:
            raise UnimplementedError("no files here")
        files = self.files.get(request.resource_id, {})
        return descriptors.message_type(f"{_FILES}.FileList")(entries=[_file(*each) for each in files.items()])

    async def _content(self, request: Message, _: CallContext) -> AsyncIterator[Message]:
        content = self.files[request.resource_id].get(request.path)
        if content is None:
            raise NotFoundError(f"no file {request.path}")
        for start in range(0, len(content), _PIECE):
            yield descriptors.message_type(f"{_FILES}.FilePart")(chunk=content[start : start + _PIECE])

    def _lose_answer(self) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            raise UnavailableError("the answer is lost")

    async def _create(self, request: Message, context: CallContext) -> Message:
        if context.metadata.get(_DRY_RUN):
            return request
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
        self._lose_answer()
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


def _file(path: str, content: bytes) -> Message:
    digest = hashlib.sha256(content).hexdigest()
    return descriptors.message_type(f"{_FILES}.WorkspaceFile")(path=path, bytes=len(content), sha256=digest)
