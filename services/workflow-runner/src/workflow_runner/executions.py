"""Executions of other workflows and of agents that a run starts, waits for, and stops.

The server keeps and starts them. The run waits in an activity that nobody works on: the server ends it when the
execution has ended, by a token that the execution was created with. So nothing is asked again and again, and it may
take weeks. How the execution ended is then read from the server, where it is told in full. Workflow code.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import FailureError, is_cancelled_exception

from workflow_runner import names
from workflow_runner.call_messages import CallAnswer, Started

Ask = Callable[[str, Any], workflow.ActivityHandle[Any]]
"""Begins an activity that may be repeated without harm, and goes on however long it takes."""

Room = Callable[[Mapping[str, Any]], AbstractAsyncContextManager[None]]

_ONCE = RetryPolicy(maximum_attempts=1)
_FOR_EVER = timedelta(days=3650)
"""The limits of a task are the run's own: they stand still while the run is held."""
_TOKEN_LIMIT = timedelta(seconds=30)


class Executions:
    """What one run has started."""

    def __init__(self, ask: Ask, tokens: dict[str, str], room: Room) -> None:
        """Use `ask` for words with the server; `tokens` has those of activities that wait, by their keys.

        There is `room` for a request once it fits into a message with others that have just been made.
        """
        self._ask = ask
        self._room = room
        self._tokens = tokens

    async def start(self, activity: str, request: Mapping[str, Any]) -> str:
        """Start an execution that nobody waits for, and return its id.

        Raises:
            WorkflowError: It cannot be started.
        """
        return await self._started(activity, {**request, "token": ""})

    async def run(
        self, activity: str, request: Mapping[str, Any], *, begun: Callable[[str], None] | None = None
    ) -> CallAnswer:
        """Start an execution and return how it ended; one that is not wanted any more is cancelled.

        Args:
            activity: What starts it, once however often it is repeated.
            request: Its argument, which gets the `token` of whoever waits.
            begun: Is told its id.

        Raises:
            WorkflowError: It cannot be started.
        """
        waiting, token = await self._waiting()
        try:
            execution = await self._started(activity, {**request, "token": token})
        except BaseException:
            waiting.cancel()
            raise
        if begun is not None:
            begun(execution)
        try:
            await waiting
        except FailureError as error:
            # How it ended is read below.
            if is_cancelled_exception(error):
                await self._ask(names.CANCEL_EXECUTION, execution)
                raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            await self._ask(names.CANCEL_EXECUTION, execution)
            raise
        return cast("CallAnswer", await self._ask(names.READ_EXECUTION, execution))

    async def _started(self, activity: str, request: Mapping[str, Any]) -> str:
        # What was asked for may exist even if the run is cancelled before it hears of it.
        async with self._room(request):
            starting = self._ask(activity, request)
            try:
                started: Started = await asyncio.shield(starting)
            except asyncio.CancelledError:
                started = await starting
                if "id" in started:
                    await self._ask(names.CANCEL_EXECUTION, started["id"])
                raise
        if "error" in started:
            raise WorkflowError.from_dict(started["error"])
        return started.get("id", "")

    async def _waiting(self) -> tuple[workflow.ActivityHandle[Any], str]:
        """Return an activity that nobody works on until the server ends it, and the token by which it does.

        The worker that makes it may be lost before it has told the token: then another one is made.
        """
        while True:
            key = workflow.uuid4().hex
            waiting = workflow.start_activity(
                names.AWAIT_EXECUTION, key, result_type=RawValue, start_to_close_timeout=_FOR_EVER, retry_policy=_ONCE
            )
            # One that is given up may end as it likes, and nobody asks how.
            waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            try:
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(lambda key=key: key in self._tokens, timeout=_TOKEN_LIMIT)
                    return waiting, self._tokens.pop(key)
            except BaseException:
                waiting.cancel()
                raise
            waiting.cancel()
