"""A turn that is being taken: what it is taken with, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from loguru import logger
from stigmer_grpc.errors import DeadlineExceededError, UnavailableError
from stigmer_runner.files import KeptFile
from stigmer_runner.redaction import Redactor

from agent_runner.contract import ResolvedRun
from agent_runner.files.exchange import Exchange, told
from agent_runner.models.catalog import ModelChoice
from agent_runner.status.builder import StatusBuilder
from agent_runner.status.reporter import StatusReporter
from agent_runner.status.teller import Teller
from agent_runner.turn.conversation import Conversation
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.equipment import Equipment
from agent_runner.turn.inbox import Inbox
from agent_runner.turn.middleware import TurnContext

T = TypeVar("T")

_AWAY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a turn is taken with."""

    definition: AgentDefinition
    choices: tuple[ModelChoice, ...]
    equipment: Equipment


@dataclass(slots=True, kw_only=True)
class Taken:
    """A turn that is being taken."""

    run: ResolvedRun
    message: str
    builder: StatusBuilder
    redactor: Redactor
    inbox: Inbox
    reporter: StatusReporter
    teller: Teller
    stop: asyncio.Event
    files: Exchange | None = None
    model: str = ""

    def tell_beginning(self, choice: ModelChoice, notices: Mapping[str, str]) -> None:
        """Report that the turn is in progress, and what the person should know of it."""
        self.model = str(choice)
        self.builder.start()
        if choice.fallback:
            logger.warning("{}: no model is configured: the scripted model answers", self.run.execution_id)
            self.builder.notice(
                "scripted",
                "No model is configured for this runner, so the built-in scripted model answers. No AI is involved.",
            )
        for key, text in notices.items():
            self.builder.notice(key, text)
        self.reporter.soon()

    async def bring_files(self) -> tuple[KeptFile, ...]:
        """Bring to the workspace what people have put into the session, waiting for a server that is away.

        Gives all that they have put.

        Raises:
            ResourceError: There are files, and no workspace.
            RpcError: The server refused, or is still away when the worker stops.
        """
        if self.files is None:
            return ()
        files, failed = await self._patiently(self.files.bring)
        if failed:
            self.builder.notice("files:in", told("Files could not be brought to the workspace:", failed))
        return files

    async def take_files(self) -> None:
        """Take to the server what the agent has made, and tell it, waiting for a server that is away.

        Raises:
            ExecutionEndedError: The execution is gone or over.
            RpcError: The server refused, or is still away when the worker stops.
        """
        if self.files is None:
            return
        made, left = await self._patiently(self.files.take)
        self.builder.made(made)
        if left:
            self.builder.notice("files:out", told("Files stay in the workspace alone:", left))

    async def deliver(self) -> None:
        """Report the end, waiting for a server that is away.

        Raises:
            ExecutionEndedError: The server takes no more of this execution.
            RpcError: The server refused, or is still away when the worker stops.
        """
        await self._patiently(self.reporter.flush)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the server until it is there: only this attempt knows all that is in the status."""
        while True:
            try:
                return await call()
            except (UnavailableError, DeadlineExceededError):
                if self.stop.is_set():
                    raise
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AWAY_SECONDS):
                        await self.stop.wait()

    def tell_so_far(self, conversation: Conversation, context: TurnContext) -> None:
        """Bring the status to what the checkpoint holds."""
        self.builder.keep_answers(conversation.answers)
        for event in conversation.events():
            self.builder.observe(event)
        context.call_ids |= self.builder.call_ids | conversation.earlier_calls
        self.reporter.soon()
