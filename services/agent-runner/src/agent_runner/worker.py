"""The one place where the runner's parts are put together."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from loguru import logger
from stigmer_runner.contract import most_answer_bytes
from stigmer_runner.files import KeptFiles
from stigmer_runner.server import Environments, StigmerServer, server_channel
from stigmer_runner.traces import traces
from stigmer_runner.worker import run_worker
from stigmer_sandbox import guarded_client
from temporalio.client import Client
from temporalio.worker import Worker

from agent_runner.activities import AgentActivities
from agent_runner.calls.activity import ModelCalls
from agent_runner.cloud import CloudActivities
from agent_runner.contract import HEARTBEAT_SECONDS
from agent_runner.errors import ConfigurationError
from agent_runner.models.access import trusting
from agent_runner.models.catalog import ModelCatalog
from agent_runner.models.prices import Prices
from agent_runner.resources import Resources
from agent_runner.settings import Settings
from agent_runner.skills.shelf import Shelf
from agent_runner.tools.connections import Connections
from agent_runner.tools.port import Outbound
from agent_runner.tools.toolbox import Toolbox
from agent_runner.turn.equipment import Equipper
from agent_runner.turn.journal import Journal
from agent_runner.turn.turn import TurnLimits, TurnTaker
from agent_runner.workflow import AgentExecutionWorkflow
from agent_runner.workspace.choosing import choose
from agent_runner.workspace.daytona.api import POLICY


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    trust = trusting("STIGMER_OUTBOUND_CA", settings.models.authorities)
    async with (
        traces(settings) as tracing,
        server_channel(settings, tracing) as channel,
        Journal.open(settings.journal) as journal,
        guarded_client(settings.outbound, ssl_context=trust) as client,
        guarded_client(POLICY) as platform,
        Connections.open(settings.tools) as connections,
    ):
        server = StigmerServer(channel)
        resources = Resources(server)
        models = ModelCatalog(settings.models)
        warming = asyncio.create_task(_warm(models))
        chosen = await choose(settings, platform)
        workspaces = chosen.workspaces
        toolbox = Toolbox(
            connections=connections,
            pins=journal,
            outbound=Outbound(client=client, policy=settings.outbound),
            sandbox=chosen.sandbox,
            settings=settings.tools,
        )
        environments, prices = Environments(server), Prices.load(settings.prices_file)
        turns = TurnTaker(
            resources=resources,
            environments=environments,
            journal=journal,
            models=models,
            keys=settings.keys,
            limits=TurnLimits(
                steps=settings.max_steps, status_seconds=settings.status_seconds, files=settings.file_limits
            ),
            equipper=Equipper(workspaces, Shelf(settings.skills, server), toolbox),
            files=KeptFiles(server),
            prices=prices,
        )
        tidying = asyncio.create_task(workspaces.tidy()) if workspaces is not None else None
        activities = AgentActivities(
            resources=resources, turns=turns, journal=journal, turn_seconds=settings.turn_seconds
        )
        cloud = CloudActivities(activities, resources, workspaces, most_bytes=most_answer_bytes(settings))
        calls = ModelCalls(environments=environments, models=models, prices=prices, keys=settings.keys)

        def make_worker(client: Client) -> Worker:
            return Worker(
                client,
                task_queue=settings.task_queue,
                workflows=[AgentExecutionWorkflow],
                activities=[
                    activities.resolve,
                    activities.turn,
                    activities.finish,
                    cloud.ensure_thread,
                    cloud.execute,
                    cloud.clean_up,
                    calls.ask,
                ],
                max_concurrent_activities=settings.max_concurrency,
                # A frozen worker keeps its polls open and swallows a task with each, one heartbeat timeout long.
                max_concurrent_activity_task_polls=2,
                sticky_queue_schedule_to_start_timeout=timedelta(seconds=settings.sticky_seconds),
                graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
                max_heartbeat_throttle_interval=timedelta(seconds=HEARTBEAT_SECONDS),
                default_heartbeat_throttle_interval=timedelta(seconds=HEARTBEAT_SECONDS),
            )

        try:
            await run_worker(settings, make_worker, stop=stop, tracing=tracing)
        finally:
            if tidying is not None:
                tidying.cancel()
        await warming


async def _warm(models: ModelCatalog) -> None:
    try:
        logger.info("model: {}", await asyncio.to_thread(models.warm))
    except ConfigurationError as error:
        logger.warning("the runner's own model cannot be used: {}", error)
