"""Finding out what a run is to do."""

import asyncio
import json
from typing import Any

from loguru import logger
from stigmer_dsl.errors import DocumentError, WorkflowError
from stigmer_dsl.model import Workflow
from stigmer_dsl.parse import parse
from stigmer_grpc.errors import RpcError
from stigmer_runner import RUNTIME, StigmerServer, read_value
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.report import Reporting
from workflow_runner.messages import Limits, LoadAnswer, Loaded, LoadRequest
from workflow_runner.tasks import unsupported

_SPEC = "/spec"


class Loading:
    """Loads runs."""

    def __init__(self, server: StigmerServer, reporting: Reporting, limits: Limits) -> None:
        self._server = server
        self._reporting = reporting
        self._limits = limits

    @activity.defn(name=names.LOAD)
    async def load(self, request: Any) -> Any:
        """Return the run of a `LoadRequest`, its definition compiled; or the error that it cannot be run for.

        Says to the server that the run is in progress, meanwhile; whether that arrives is of no matter,
        later reports say it too.

        Raises:
            RpcError: The server is away, or does not know the execution.
        """
        loaded, _ = await asyncio.gather(self._load(request), self._announce(request))
        return loaded

    async def _load(self, request: LoadRequest) -> LoadAnswer:
        answer = await self._server.call(RUNTIME, "getWorkflowRun", {"executionId": request["execution_id"]})
        try:
            definition = _definition(answer.workflow.spec, [*answer.secret_names, *answer.variable_names])
        except DocumentError as error:
            return {"error": _configuration("the workflow is not valid", error.problems)}
        problems = unsupported(definition)
        if problems:
            return {"error": _configuration("the workflow cannot be run by this runner", problems)}
        run: Loaded = {
            "execution_id": request["execution_id"],
            "org": answer.org or request["org"],
            "definition": json.dumps(definition.to_dict(), ensure_ascii=False, separators=(",", ":")),
            "input": read_value(answer.input),
            "secret_names": sorted(answer.secret_names),
            "variable_names": sorted(answer.variable_names),
            "limits": self._limits,
        }
        return {"run": run}

    async def _announce(self, request: LoadRequest) -> None:
        try:
            await self._reporting.deliver(
                {
                    "execution_id": request["execution_id"],
                    "tasks": [],
                    "phase": "IN_PROGRESS",
                    "started_at": request["started_at"],
                    "workflow_id": request["workflow_id"],
                }
            )
        except RpcError as error:
            logger.debug("{} is not announced: {}", request["execution_id"], error)


def _definition(spec: Any, secrets: list[str]) -> Workflow:
    return parse(spec.definition, secrets=secrets)


def _configuration(summary: str, problems: Any) -> dict[str, Any]:
    listed = "; ".join(str(problem) for problem in problems)
    return WorkflowError.standard("configuration", f"{summary}: {listed}").to_dict()
