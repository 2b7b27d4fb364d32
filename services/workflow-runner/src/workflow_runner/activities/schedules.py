"""Telling the server that it is time for a schedule."""

from typing import Any

from stigmer_runner import StigmerServer
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.report import final_refusals

_SERVICE = "ai.stigmer.schedules.v1.ScheduleController"


class Schedules:
    """The schedules of the server."""

    def __init__(self, server: StigmerServer) -> None:
        self._server = server

    @activity.defn(name=names.FIRE)
    async def fire(self, request: Any) -> Any:
        """Have the execution of a moment made, once however often this is repeated, and return its id.

        Raises:
            RpcError: The server is away, or refuses it.
        """
        with final_refusals():
            async with heartbeats(SERVER_SECONDS):
                return (await self._server.call(_SERVICE, "fire", request)).execution_id
