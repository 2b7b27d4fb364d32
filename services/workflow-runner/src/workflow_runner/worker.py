"""The Temporal worker: which workflows and activities it offers, and what they share."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from stigmer_dsl import Problem
from stigmer_dsl.model import Workflow
from stigmer_runner import Environments, StigmerServer, run_worker, server_channel, traces
from stigmer_runner.contract import most_answer_bytes
from stigmer_sandbox import HostSandbox, Limits, LocalSandbox, NoSandbox, OutboundPolicy, Sandbox
from temporalio.client import Client
from temporalio.worker import Worker

from workflow_runner import names
from workflow_runner.activities import (
    A2aCalls,
    AgentFiles,
    Agents,
    AsyncApiCalls,
    Authentication,
    Calls,
    Catalogs,
    Confinement,
    Containers,
    Events,
    Executions,
    GrpcCalls,
    HeadStart,
    HttpCalls,
    Loading,
    McpCalls,
    OpenApiCalls,
    Processes,
    Reporting,
    Requests,
    Resources,
    Schedules,
    Schemas,
    Subflows,
    Tokens,
    Values,
    find_engine,
)
from workflow_runner.attributes import SearchAttributes
from workflow_runner.cloud import CloudRuns
from workflow_runner.firing import FireWorkflow
from workflow_runner.settings import Settings
from workflow_runner.tasks.call_activity import without_queue
from workflow_runner.validation import Validation
from workflow_runner.workflow import InvokeWorkflow

_VALIDATIONS_AT_ONCE = 4
_STEP_SECONDS = 8
"""Temporal gives a step to another worker after ten."""


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Take work until `stop` is set."""
    policy = OutboundPolicy(
        allow_loopback=settings.outbound_allow_loopback,
        allow_private=settings.outbound_allow_private,
        max_response_bytes=settings.response_bytes,
        total_timeout=settings.call_seconds,
    )
    async with traces(settings) as tracing, server_channel(settings, tracing) as channel:
        server = StigmerServer(channel)
        values = Values(server)
        reporting = Reporting(server, values)
        environments = Environments(server)
        calls = Calls(environments, reporting, most_bytes=settings.value_bytes)
        executions = Executions(server, values)
        events = Events(server, calls, environments)
        requests = Requests(policy, authorities=settings.outbound_ca)
        authentication = Authentication(Tokens(requests))
        resources = Resources(
            requests, authentication, most=settings.max_resource_bytes, folder=settings.resources_folder
        )
        http = HttpCalls(calls, requests, authentication)
        openapi = OpenApiCalls(calls, requests, resources, authentication)
        asyncapi = AsyncApiCalls(calls, policy, requests, resources, authentication, authorities=settings.outbound_ca)
        grpc = GrpcCalls(calls, policy, resources, authentication, authorities=settings.outbound_ca)
        confinement = Confinement(_sandbox(settings), _process_limits(settings), allow_network=settings.sandbox_network)
        processes = Processes(calls, confinement, resources)
        a2a = A2aCalls(calls, requests, resources, authentication)
        mcp = McpCalls(calls, requests, authentication, confinement, readable=settings.readable())
        containers = Containers(
            calls,
            find_engine(settings.container_socket) if settings.containers == "on" else None,
            confinement.limits,
            volumes=settings.container_volumes,
            allow_network=settings.sandbox_network,
        )
        catalogs = Catalogs(resources, environments, default=settings.default_catalog)

        async def queueless(workflow: Workflow) -> list[Problem]:
            return [] if settings.activity_task_queue else without_queue(workflow)

        attributes = SearchAttributes()
        lacking = (queueless, *(part.lacking for part in (resources, asyncapi, processes, containers, mcp)))
        most_bytes = most_answer_bytes(settings)
        cloud = CloudRuns(server, queue=settings.task_queue, most_bytes=most_bytes)
        validation = Validation(lacking, most_bytes=most_bytes)
        loading = Loading(
            server,
            reporting,
            settings.limits(),
            values=values,
            catalogs=catalogs,
            lacking=lacking,
            schemas=Schemas(resources, environments),
            searchable=attributes.are_there,
            head_start=HeadStart(
                {
                    names.CALL_HTTP: http.call,
                    names.FIND_OPENAPI: openapi.find,
                    names.CALL_OPENAPI: openapi.call,
                    names.CALL_MCP: mcp.call,
                    names.CALL_A2A: a2a.call,
                },
                reporting.deliver,
            ),
        )

        files = AgentFiles(server)
        agents = Agents(server, environments, files)

        def make(client: Client) -> tuple[Worker, ...]:
            worker = Worker(
                client,
                task_queue=settings.task_queue,
                workflows=[InvokeWorkflow, FireWorkflow],
                activities=[
                    loading.load,
                    reporting.report,
                    http.call,
                    openapi.find,
                    openapi.call,
                    grpc.call,
                    mcp.call,
                    a2a.call,
                    *asyncapi.activities,
                    processes.run,
                    containers.run,
                    executions.wait,
                    executions.read,
                    executions.cancel,
                    Subflows(server, values).start,
                    agents.start,
                    agents.ready_session,
                    files.collect,
                    events.emit,
                    events.receive,
                    Schedules(server).fire,
                    cloud.execute,
                    cloud.tell,
                ],
                max_concurrent_activities=settings.max_concurrency,
                max_concurrent_local_activities=settings.max_concurrency,
                max_concurrent_workflow_tasks=settings.max_concurrency,
                sticky_queue_schedule_to_start_timeout=timedelta(seconds=settings.sticky_seconds),
                graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
            )
            _allow_large_values(worker)
            attributes.begin(client)
            if not settings.validation_queue:
                return (worker,)
            validating = Worker(
                client,
                task_queue=settings.validation_queue,
                activities=[validation.validate],
                max_concurrent_activities=_VALIDATIONS_AT_ONCE,
                max_concurrent_activity_task_polls=1,
                graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
            )
            return worker, validating

        try:
            async with containers.tidying():
                await run_worker(settings, make, stop=stop, on_lost=reporting.tell_lost, tracing=tracing)
        finally:
            await cloud.close()
            await attributes.close()
            await asyncapi.close()
            await processes.close()
            await grpc.close()
            await requests.close()


def _allow_large_values(worker: Worker) -> None:
    """Let a step of a workflow take longer than the two seconds after which the SDK takes it for hung.

    Reading and writing a value of 50 MiB takes longer, and there is no setting for it that leaves steps in threads of
    their own. Tasks that compute for long let go by themselves.
    """
    worker._workflow_worker._deadlock_timeout_seconds = _STEP_SECONDS  # noqa: SLF001 # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue] - see above


def _sandbox(settings: Settings) -> Sandbox:
    sandboxes: dict[str, Callable[[], Sandbox]] = {
        "local": LocalSandbox,
        "host": HostSandbox,
        "off": lambda: NoSandbox("the operator of this runner lets no process run (STIGMER_RUN_SANDBOX=off)"),
    }
    return sandboxes[settings.sandbox]()


def _process_limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=settings.sandbox_memory_mb * 2**20,
        processes=settings.sandbox_processes,
        output_bytes=settings.response_bytes,
    )
