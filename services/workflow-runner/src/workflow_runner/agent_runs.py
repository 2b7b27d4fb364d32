"""Runs of agents for a run: what they are told, the files that they get, and those that they have made.

Files go into the agent's session by an activity of their own, which is in history before the agent starts: repeated
later, it would undo what the agent has made of them. Workflow code.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from stigmer_dsl.errors import WorkflowError
from temporalio.exceptions import FailureError, is_cancelled_exception

from workflow_runner import names
from workflow_runner.call_messages import AgentArguments, AgentRequest, CallAnswer, CollectRequest, Started
from workflow_runner.errands import TRANSFER_LIMIT, until_it_works
from workflow_runner.executions import Executions
from workflow_runner.messages import MOST_BYTES, Limits
from workflow_runner.room import Room
from workflow_runner.sizes import checked_size, size_of

_OF_FILES = frozenset({"files", "collect"})


class AgentRuns:
    """The agents of one run."""

    def __init__(self, executions: Executions, room: Room, limits: Limits) -> None:
        """Start them with `executions`; what they are given takes its `room` in messages."""
        self._executions = executions
        self._room = room
        self._limits = limits

    async def run(self, request: AgentRequest, begun: Callable[[str], None]) -> CallAnswer:
        """Run an agent, and return how that ended; `begun` is told the execution's id.

        Raises:
            WorkflowError: It cannot be run.
        """
        arguments = request["arguments"]
        told: Any = {key: value for key, value in arguments.items() if key not in _OF_FILES}
        self._refuse_too_much(told)
        if files := arguments.get("files"):
            size = checked_size(files, f"the files for the agent {arguments['agent']} take", self._most)
            told["session"] = await self._ready_session(request, size)
        answer = await self._executions.run(names.START_AGENT, {**request, "arguments": told}, begun=begun)
        patterns = arguments.get("collect")
        return await self._collected(answer["output"], patterns) if patterns and "output" in answer else answer

    @property
    def _most(self) -> int:
        return self._limits.get("max_value_bytes", MOST_BYTES)

    def _refuse_too_much(self, arguments: AgentArguments) -> None:
        most = self._limits.get("max_agent_bytes")
        if most is not None and (size := size_of(arguments)) > most:
            detail = (
                f"message, environment and settings of the agent {arguments['agent']} take {size} bytes, more than "
                f"the {most} that an agent can be told: give it the rest in `files`"
            )
            raise WorkflowError.standard("configuration", detail)

    async def _ready_session(self, request: AgentRequest, size: int) -> str:
        """Return the session that has the files, which take most of the request: `size` bytes."""
        async with self._room.taken(size):
            started: Started = await _done(names.READY_SESSION, request)
        if "error" in started:
            raise WorkflowError.from_dict(started["error"])
        return started.get("id", "")

    async def _collected(self, ended: Any, patterns: list[str]) -> CallAnswer:
        """Return an agent's end with the content of files that it has made."""
        wanted: CollectRequest = {"execution": ended["id"], "patterns": patterns, "most": self._most}
        found: CallAnswer = await _done(names.COLLECT_FILES, wanted)
        if "output" not in found:
            return found
        contents = {file["path"]: file for file in found["output"]}
        listed = [contents.pop(file["path"], file) for file in ended["files"]]
        return {"output": {**ended, "files": [*listed, *contents.values()]}}


async def _done(activity: str, argument: Any) -> Any:
    """Return what an errand gives that may bring large files."""
    try:
        return await until_it_works(activity, argument, limit=TRANSFER_LIMIT)
    except FailureError as error:
        if is_cancelled_exception(error):
            raise asyncio.CancelledError from None
        raise
