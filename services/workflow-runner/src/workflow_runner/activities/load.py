"""Finding out what a run is to do."""

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Self

from google.protobuf import json_format
from loguru import logger
from stigmer_dsl import Problem, compile_tasks, parse
from stigmer_dsl.errors import DocumentError, WorkflowError
from stigmer_dsl.model import Workflow
from stigmer_grpc.errors import FailedPreconditionError, ResourceExhaustedError, RpcError, UnimplementedError
from stigmer_protos import descriptors
from stigmer_runner import RUNTIME, StigmerServer, read_value
from temporalio import activity
from temporalio.exceptions import ApplicationError

from workflow_runner import names
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.catalogs import Catalogs, may_be_had_later
from workflow_runner.activities.head_start import HeadStart
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.plain_runs import plain_run
from workflow_runner.activities.report import QUERY, Reporting, final_refusals
from workflow_runner.activities.schemas import Schemas
from workflow_runner.activities.values import Values
from workflow_runner.checkpoint import begin
from workflow_runner.messages import MOST_BYTES, Limits, LoadAnswer, Loaded, LoadRequest, Over, Report
from workflow_runner.sizes import size_of
from workflow_runner.tasks import unsupported

_ATTEMPTS = 4
"""How often functions of catalogs are asked for before the run fails without them."""
_COMPLETED = 3
_MOMENT_SECONDS = 0.05
"""A run that takes longer is said to be in progress meanwhile."""
_END_SECONDS = 5.0
"""So long the server may take to hear of the end; after that it is the run that tells."""
_PROMPT = timedelta(seconds=2)
"""A run that is loaded later than that is not gone ahead with: the activity has its time, too."""
Lacking = Callable[[Workflow], Awaitable[list[Problem]]]
"""Says what of a workflow cannot be done here."""
_SPEC = "ai.stigmer.agentic.workflow.v1.WorkflowSpec"


class Loading:
    """Loads runs."""

    def __init__(
        self,
        server: StigmerServer,
        reporting: Reporting,
        limits: Limits,
        *,
        values: Values,
        catalogs: Catalogs,
        lacking: Iterable[Lacking],
        schemas: Schemas,
        searchable: Callable[[], bool],
        head_start: HeadStart,
    ) -> None:
        """Load runs with these limits and functions, and go ahead with them by `head_start`.

        `lacking` say what of a workflow this machine cannot do, and `searchable` whether search attributes are there.
        """
        self._values = values
        self._schemas = schemas
        self._searchable = searchable
        self._head_start = head_start
        self._catalogs = catalogs
        self._lacking = tuple(lacking)
        self._server = server
        self._reporting = reporting
        self._limits = limits

    @activity.defn(name=names.LOAD)
    async def load(self, request: Any) -> Any:
        """Return the run of a `LoadRequest`, its definition compiled; or the error that it cannot be run for.

        Says to the server that the run is in progress, unless it is over meanwhile; whether that arrives is of no
        matter, later reports say it too.

        Raises:
            RpcError: The server is away, or does not know the execution.
        """
        async with heartbeats(SERVER_SECONDS), _Beginning(lambda: self._announce(request)) as beginning:
            try:
                loaded = await self._load(request, beginning)
                if "over" not in loaded and "end" not in loaded.get("head", ()):
                    await beginning.tell()
            except (RpcError, ApplicationError):
                raise
            except Exception as error:
                if activity.is_worker_shutdown():
                    raise  # what goes wrong while this worker goes away may go well on another
                return {"error": _unexpected(error, request["execution_id"])}
        return loaded

    async def _load(self, request: LoadRequest, beginning: "_Beginning") -> LoadAnswer:
        with final_refusals():
            try:
                answer, is_plain = await self._asked(request["execution_id"])
            except FailedPreconditionError:
                if (over := await self._over(request)) is None:
                    raise
                return {"over": over}
        checkpoint = await self._checkpoint(answer)
        names_given = frozenset((*answer.secret_names, *answer.variable_names))
        try:
            spec = answer.workflow.spec.SerializeToString(deterministic=True)
            definition, workflow, unsupported_here = _compiled(spec, names_given)
            if not checkpoint:
                declared = names_given | frozenset(answer.workflow.spec.env_spec.data)
                completed = await self._catalogs.completed(workflow, request["execution_id"], declared)
                if completed is not workflow:
                    definition, workflow, unsupported_here = _written(completed)
        except DocumentError as error:
            return {"error": _configuration("the workflow is not valid", error.problems)}
        except CallFailedError as failure:
            if may_be_had_later(failure) and activity.info().attempt < _ATTEMPTS:
                raise ApplicationError(str(failure), type="catalog") from None
            return {"error": failure.error.to_dict()}
        problems = [*unsupported_here]
        for lacking in self._lacking:
            problems += await lacking(workflow)
        if problems:
            return {"error": _configuration("the workflow cannot be run by this runner", problems)}
        if not checkpoint:
            definition, problems = await self._schemas.inlined(definition, workflow, request["execution_id"])
        if problems:
            return {"error": _configuration("schemas of the workflow cannot be had", problems)}
        limits: Limits = {**self._limits, "call_depth": answer.call_depth}
        if is_plain:
            limits["replaces_tasks"] = True
        run: Loaded = {
            "execution_id": request["execution_id"],
            "org": answer.org or request["org"],
            "definition": definition,
            "input": await self._input(answer),
            "secret_names": sorted(answer.secret_names),
            "variable_names": sorted(answer.variable_names),
            "limits": {**limits, "search_attributes": True} if self._searchable() else limits,
        }
        if not checkpoint:
            return await self._ahead(run, request, beginning)
        made = await asyncio.to_thread(_recovered, run, checkpoint, answer.begin_at)
        if answer.from_execution and "begin" in made:
            made["begin"]["anew"] = True
        return made

    async def _ahead(self, run: Loaded, request: LoadRequest, beginning: "_Beginning") -> LoadAnswer:
        info = activity.info()
        elapsed = datetime.now(UTC) - info.started_time
        if "goes_ahead_from" not in request or elapsed > _PROMPT:
            return {"run": run}

        async def tell_end(report: Report) -> bool:
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await beginning.withhold()
                    await self._reporting.deliver(report)
            except (RpcError, TimeoutError) as error:
                logger.debug("the end of {} is left to the run to tell: {}", request["execution_id"], error)
                return False
            return True

        started_at = request["goes_ahead_from"]
        # An ordinary activity that was lost then would load the run again, and hear that it is over.
        tells = tell_end if info.is_local else None
        head = await self._head_start.of(run, workflow_id=request["workflow_id"], started_at=started_at, tell_end=tells)
        return {"run": run} if head is None else {"run": run, "head": head}

    async def _over(self, request: LoadRequest) -> Over | None:
        """Return the end of a run that has told the server that it is completed, and is done once more all the same.

        What Temporal did not take note of is repeated: the runner was killed, or a signal came in the same moment.
        """
        try:
            found = await self._server.call(QUERY, "get", {"value": request["execution_id"]})
        except ResourceExhaustedError:
            return None
        status = found.status
        if status.phase != _COMPLETED or status.temporal_workflow_id != request["workflow_id"]:
            return None
        output = None if status.HasField("large_output") else read_value(status.output_value)
        return {"output": output, "search_attributes": self._searchable()}

    async def _asked(self, execution_id: str) -> tuple[Any, bool]:
        """Return the run, and whether the server is one that knows the contract only."""
        try:
            return await self._server.call(RUNTIME, "getWorkflowRun", {"executionId": execution_id}), False
        except UnimplementedError:
            return await plain_run(self._server, execution_id), True

    async def _input(self, answer: Any) -> Any:
        if not answer.HasField("large_input"):
            return read_value(answer.input)
        text = await self._values.get(answer.execution_id, answer.large_input.key)
        return await asyncio.to_thread(json.loads, text)

    async def _checkpoint(self, answer: Any) -> bytes:
        if not answer.HasField("large_checkpoint"):
            return answer.checkpoint
        return await self._values.get(answer.execution_id, answer.large_checkpoint.key)

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


class _Beginning:
    """The word that a run is in progress: it goes out after a moment, unless the run is over by then."""

    def __init__(self, tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tell = tell
        self._telling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(_MOMENT_SECONDS, self._begin)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._telling is not None:
            self._telling.cancel()

    def _begin(self) -> asyncio.Task[None]:
        self._telling = self._telling or asyncio.create_task(self._tell())
        return self._telling

    async def tell(self) -> None:
        """Have it told now."""
        self._timer.cancel()
        await self._begin()

    async def withhold(self) -> None:
        """Do not tell it any more; one that is on its way already is waited for."""
        self._timer.cancel()
        if self._telling is not None:
            await self._telling


@lru_cache(maxsize=64)
def _compiled(spec: bytes, secrets: frozenset[str]) -> tuple[str, Workflow, tuple[Problem, ...]]:
    """Return a WorkflowSpec as canonical JSON text, its model, and what no runner runs. The same spec runs often."""
    message: Any = descriptors.message_type(_SPEC)()
    message.ParseFromString(spec)
    if message.definition:
        workflow = parse(message.definition, name="definition", secrets={*secrets, *message.env_spec.data})
    else:
        workflow = compile_tasks(json_format.MessageToDict(message, descriptor_pool=descriptors.pool()))
    return _written(workflow)


def _written(workflow: Workflow) -> tuple[str, Workflow, tuple[Problem, ...]]:
    text = json.dumps(workflow.to_dict(), ensure_ascii=False, separators=(",", ":"))
    return text, workflow, tuple(unsupported(workflow))


def _recovered(run: Loaded, checkpoint: bytes, begin_at: str) -> LoadAnswer:
    """Return a run that begins where another failed, with the definition and the input that that one had."""
    try:
        definition, data, found = begin(checkpoint, begin_at)
    except (LookupError, ValueError) as error:
        detail = f"what was kept of the run before cannot be read ({error!r}); begin with / to run everything again"
        return {"error": WorkflowError.standard("runtime", detail).to_dict()}
    made: LoadAnswer = {"run": {**run, "definition": definition, "input": data}, "begin": found}
    size, most = size_of(made), run["limits"].get("max_value_bytes", MOST_BYTES)
    if size > most:
        detail = f"the run's data takes {size} bytes, more than the {most} with which a run can begin"
        return {"error": WorkflowError.standard("runtime", detail).to_dict()}
    return made


def _unexpected(error: Exception, execution: str) -> dict[str, Any]:
    """Return the error of a run that nobody expected not to load: Temporal would ask for it for ever.

    What the exception itself says may hold secrets, and nobody is told.
    """
    kind, trace = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
    logger.error("{} cannot be loaded: {}\n{}", execution, kind, trace)
    return WorkflowError.standard("runtime", f"the run cannot be loaded: internal error: {kind}").to_dict()


def _configuration(summary: str, problems: Any) -> dict[str, Any]:
    listed = "; ".join(str(problem) for problem in problems)
    return WorkflowError.standard("configuration", f"{summary}: {listed}").to_dict()
