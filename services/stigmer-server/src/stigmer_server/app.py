"""The server as a whole: where its parts are made and tied together, and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from datetime import timedelta
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Self

from grpc import ServerCredentials
from loguru import logger
from stigmer_grpc import (
    Authentication,
    CallMetrics,
    Channel,
    CredentialsError,
    InProcessChannel,
    Logging,
    MetadataInput,
    Server,
    Service,
    default_interceptors,
    open_tracing,
    server_credentials,
    validator,
)
from stigmer_protos import descriptors
from stigmer_sqlite import KindSchema, SqliteStore, StoreError
from stigmer_sqlite.port import Query

from stigmer_server import (
    checkpoints,
    cloud_events,
    event_dispatch,
    event_listeners,
    files,
    idempotency,
    outbox,
    schedules,
    upgrades,
    values,
)
from stigmer_server.access.authorization import Authorization
from stigmer_server.access.callers import open_callers
from stigmer_server.artifacts import FILES, VALUES, Artifacts
from stigmer_server.calls import CALLER, SYSTEM
from stigmer_server.collector import collect_archives, collect_files, collect_values
from stigmer_server.compaction import compact
from stigmer_server.controllers.access import account_service
from stigmer_server.controllers.cloud import cloud_services
from stigmer_server.controllers.event_listeners import event_listener_service
from stigmer_server.controllers.events import event_service
from stigmer_server.controllers.faults import FAULTS
from stigmer_server.controllers.files import file_services
from stigmer_server.controllers.kinds import kind_services
from stigmer_server.controllers.resources import resource_services
from stigmer_server.controllers.runtime import runtime_service
from stigmer_server.controllers.schedules import schedule_service
from stigmer_server.controllers.server import server_service
from stigmer_server.engine import NoEngine, TemporalEngine
from stigmer_server.engine.port import Connect, Runs
from stigmer_server.errors import SettingsError, StartupError
from stigmer_server.event_retention import Retention, retain
from stigmer_server.kinds import Kinds, registry
from stigmer_server.ledger import Executions
from stigmer_server.live import Live
from stigmer_server.logs import described
from stigmer_server.monitoring.engine import EngineMetrics
from stigmer_server.monitoring.metrics import Metrics
from stigmer_server.monitoring.status import Component, State, Status
from stigmer_server.resources import Resources
from stigmer_server.retention import Kept, keep_pruned
from stigmer_server.schedule_timers import ScheduleTimers
from stigmer_server.secrets import open_sealer
from stigmer_server.settings import HTTP_PORT, Settings, endpoint
from stigmer_server.streams import Streams
from stigmer_server.tenancy import ensure_organization
from stigmer_server.watches import Watches

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing

    from stigmer_server.http.listener import Listener

_NOT_OPEN = "the app is not open; use it as `async with App(settings) as app`"


class App:
    """A Stigmer server in this process; an async context manager, usable once.

    Inside it every call can be made through `channel`, and others can be let in with `serve`.
    """

    def __init__(self, settings: Settings, *, engine: bool = True, connect: Connect | None = None) -> None:
        """Remember the settings.

        Args:
            settings: Where everything is.
            engine: False: nothing is run, executions stay pending, and Temporal's library is not even imported.
            connect: How Temporal is reached, where something is to stand in between.
        """
        self.settings = settings
        self._with_engine = engine
        self._connect = connect or self._reach_temporal
        self._stack = AsyncExitStack()
        self._server: Server | None = None
        self._services: tuple[Service, ...] = ()
        self._http: Listener | None = None
        self._metrics: Metrics | None = None
        self._engine_metrics = EngineMetrics()
        self._engine: TemporalEngine | None = None
        self._resources: Resources | None = None
        self._tracing: Tracing | None = None

    async def __aenter__(self) -> Self:
        """Open the database and bind the services. Raises: StartupError."""
        async with AsyncExitStack() as stack:
            self._tracing = _tracing(self.settings)
            if self._tracing is not None:
                # Closed last, by a thread: what is left is sent, which may take a while.
                stack.push_async_callback(asyncio.to_thread, self._tracing.close)
            store = await _open_store(self.settings)
            stack.push_async_callback(store.close)
            self._server = await self._assemble(store, stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was begun, in reverse order: calls, streams, engine, database."""
        await self._stack.aclose()

    def channel(
        self, *, timeout: float | None = 30.0, trusted: bool = True, metadata: MetadataInput = ()
    ) -> InProcessChannel:
        """Return a channel that reaches the server without a socket. Use it on the same event loop.

        Args:
            timeout: Seconds that a call with one response may take unless it says so itself.
            trusted: Whether its calls are the system's own, which may do everything. Pass on the calls of others, such
                as those of HTTP clients, with False: each then has to bring its token as the call metadata
                `authorization`, and is let in or not like a call over a socket. Say where it comes from with
                `x-stigmer-peer` (`stigmer_grpc.FORWARDED_PEER`), as `ipv4:HOST:PORT`, and never pass on one that the
                caller sent; by it those who guess tokens are told from the others.
            metadata: Sent with every call.
        """
        values = {CALLER: SYSTEM} if trusted else None
        return self._running().channel(timeout=timeout, metadata=metadata, values=values)

    async def serve(self, *addresses: str) -> tuple[str, ...]:
        """Listen at the addresses, or at the one in the settings, and return them with their real ports.

        Raises:
            SettingsError: The settings do not allow to listen there.
            StartupError: An address is taken or cannot be used, or the certificate cannot.
        """
        wanted = addresses or (self.settings.address,)
        if problems := [problem for address in wanted for problem in self.settings.refusals(address)]:
            raise SettingsError(problems)
        try:
            bound = await self._running().start(*wanted, credentials=_credentials(self.settings))
            # What the first request would wait for is loaded beside the loop, now that health is answered.
            asyncio.get_running_loop().run_in_executor(None, validator)
            return bound
        except OSError as error:
            msg = f"cannot listen on {', '.join(wanted)}: {error.strerror or error}"
            raise StartupError(msg) from error

    async def serve_http(self, host: str = "", port: int | None = None) -> str:
        """Offer the API over HTTP at an address, or as the settings say, and return where; "" when they say nowhere.

        Raises:
            SettingsError: The settings do not allow to listen there.
            StartupError: The address is taken or cannot be used, or the certificate cannot.
        """
        wanted = self.settings.http_port if port is None else port
        if wanted == "off":
            return ""
        if problems := self.settings.refusals(endpoint(host or self.settings.http_host, wanted)):
            raise SettingsError(problems)
        _credentials(self.settings)
        # Imported by those who want it: the rest have neither the time nor the memory to pay for it. By a thread,
        # because calls over gRPC are answered already.
        await asyncio.to_thread(import_module, "stigmer_server.http.serving")
        from stigmer_server.http.serving import gateway, listen

        server = self._running()
        application = gateway(
            self.settings,
            self._channel_of_strangers(),
            self._services,
            registry(),
            own_channel=self.channel(),
            exposition=self.metrics.exposition,
            stopping=server.stopping,
        )
        try:
            number = HTTP_PORT if wanted == "auto" else wanted
            self._http = await listen(self.settings, application, host or self.settings.http_host, number)
        except StartupError as error:
            if wanted != "auto":
                raise
            logger.warning("{}; HTTP is not offered (say --http-port)", error)
            return ""
        return self._http.address

    async def serve_metrics(self, port: int | None = None) -> str:
        """Offer metrics at a port of the loopback interface, or as the settings say, and return where; "": nowhere.

        Raises:
            StartupError: The port is taken.
        """
        wanted = self.settings.metrics_port if port is None else port
        if wanted == "off":
            return ""
        from stigmer_server.monitoring.listener import HOST, metrics_listener

        listener = metrics_listener(self.metrics.exposition)
        try:
            address = await listener.start(HOST, wanted)
        except OSError as error:
            msg = f"cannot listen on {HOST}:{wanted} for metrics: {error.strerror or error}"
            raise StartupError(msg) from error
        self._stack.push_async_callback(listener.stop, 0)
        return address

    @property
    def metrics(self) -> Metrics:
        """What the server counts."""
        if self._metrics is None:
            raise RuntimeError(_NOT_OPEN)
        return self._metrics

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server listens."""
        return self._running().addresses

    @property
    def http_address(self) -> str:
        """Where the server offers HTTP; "" when it does not."""
        return self._http.address if self._http else ""

    @property
    def resources(self) -> Resources:
        """What the verbs work with, for those who embed the server."""
        if self._resources is None:
            raise RuntimeError(_NOT_OPEN)
        return self._resources

    @property
    def engine_connected(self) -> bool:
        """Whether executions are being started now."""
        return self._engine is not None and self._engine.connected

    def _channel_of_strangers(self) -> Channel:
        """Return the channel for calls that come from outside, and are to be treated as if they came over gRPC."""
        return self.channel(timeout=None, trusted=False)

    async def _stop_serving(self, server: Server) -> None:
        grace = self.settings.shutdown_grace_seconds
        listener = [self._http.stop(grace)] if self._http else []
        await asyncio.gather(server.stop(grace), *listener)

    async def _reach_temporal(self) -> Runs:
        # Imported at the first attempt, by a thread: it takes a third of a second, and the server serves meanwhile.
        await asyncio.to_thread(import_module, "stigmer_server.engine.temporal")
        from stigmer_server.engine.temporal import connect

        tracer = None if self._tracing is None else self._tracing.tracer
        return await connect(self.settings.temporal_address, self.settings.temporal_namespace, tracer)

    def _running(self) -> Server:
        if self._server is None:
            raise RuntimeError(_NOT_OPEN)
        return self._server

    async def _assemble(self, store: SqliteStore, stack: AsyncExitStack) -> Server:
        settings, kinds = self.settings, registry()
        sealer = open_sealer(
            settings.encryption_key.get_secret_value() if settings.encryption_key else None, settings.keys_path
        )
        queues = {
            "agent_execution": settings.agent_execution_queue,
            "workflow_execution": settings.workflow_execution_queue,
        }
        engine = NoEngine()
        if self._with_engine:
            self._engine = engine = TemporalEngine(
                self._engine_metrics.counting(self._connect),
                place=f"{settings.temporal_address} (namespace {settings.temporal_namespace})",
                queues=queues,
                watch_seconds=settings.watch_seconds,
                pending_seconds=settings.pending_timeout_seconds,
                joining=self._tracing.joining if self._tracing is not None else nullcontext[str],
            )
        artifacts = Artifacts(settings.storage_path)
        artifacts.discard_unfinished()
        large = Artifacts(settings.storage_path, VALUES, most=settings.max_value_bytes)
        large.discard_unfinished()
        kept_files = Artifacts(settings.storage_path, FILES, most=settings.max_file_bytes)
        kept_files.discard_unfinished()
        resources = Resources(
            store,
            kinds,
            sealer,
            engine,
            artifacts,
            large,
            kept_files,
            guarded=settings.auth != "none",
            lifecycle=settings.lifecycle_events,
            trace=str if self._tracing is None else self._tracing.here,
        )
        self._resources = resources
        await upgrades.bring_up_to_date(store, kinds)
        await ensure_organization(resources)
        stack.push_async_callback(resources.settle)
        if self._engine is not None:
            self._engine.start(Executions(resources), ScheduleTimers(resources, queues["workflow_execution"]))
            stack.push_async_callback(self._engine.close)
        collector = asyncio.create_task(collect_archives(store, artifacts), name="collector of archives")
        stack.push_async_callback(_ended, collector)
        value_collector = asyncio.create_task(collect_values(store, large), name="collector of values")
        stack.push_async_callback(_ended, value_collector)
        file_collector = asyncio.create_task(collect_files(store, kept_files), name="collector of files")
        stack.push_async_callback(_ended, file_collector)
        kept = Kept(days=settings.keep_finished_days, count=settings.keep_finished_count)
        pruning = asyncio.create_task(keep_pruned(resources, kept), name="pruning")
        stack.push_async_callback(_ended, pruning)
        compaction = asyncio.create_task(compact(store, keep=settings.changes_kept), name="compaction")
        stack.push_async_callback(_ended, compaction)
        sweeper = asyncio.create_task(idempotency.keep_swept(store), name="sweeper of idempotency keys")
        stack.push_async_callback(_ended, sweeper)
        retention = Retention(count=settings.events_kept, age=timedelta(hours=settings.events_kept_hours))
        stack.push_async_callback(_ended, asyncio.create_task(retain(store, retention), name="event retention"))
        dispatching = asyncio.create_task(event_dispatch.dispatch(resources), name="dispatch of events")
        stack.push_async_callback(_ended, dispatching)
        hearing = asyncio.create_task(_hear_schedules(resources), name="events for schedules")
        stack.push_async_callback(_ended, hearing)
        streams = Streams(store, kinds, resources.shown)
        streams.start()
        stack.push_async_callback(streams.close)
        watches = Watches(resources)
        calls, status = CallMetrics(), self._status(store)
        self._metrics = Metrics(
            calls=calls, engine=self._engine_metrics, store=store, streams=streams, kinds=kinds, status=status
        )
        services = [
            *kind_services(resources, streams, Live()),
            server_service(status),
            runtime_service(resources),
            *resource_services(resources, watches),
            event_service(resources, watches),
            event_listener_service(resources),
            schedule_service(resources),
            *file_services(resources),
            account_service(resources),
        ]
        services += cloud_services({service.name for service in services})
        self._services = tuple(services)
        guards = self._guards(services, resources, stack)
        server = Server(
            services,
            pool=descriptors.pool(),
            interceptors=default_interceptors(
                FAULTS,
                guards=guards,
                metrics=calls,
                log=Logging(
                    success="DEBUG" if settings.log_level in ("trace", "debug") else "",
                    slow=settings.slow_call_seconds,
                    describe=described,
                ),
                tracing=self._tracing,
            ),
            upload_idle_seconds=settings.upload_idle_seconds,
            reflection_interceptors=guards[:1],
        )
        looking = asyncio.create_task(status.keep_looking(), name="status")
        stack.push_async_callback(_ended, looking)
        stack.push_async_callback(self._stop_serving, server)
        stack.callback(streams.stop)
        stack.callback(watches.stop)
        return server

    def _guards(
        self, services: list[Service], resources: Resources, stack: AsyncExitStack
    ) -> tuple[Authentication, Authorization] | tuple[()]:
        """Return what asks callers who they are, and then whether they may; nothing where everybody is let in."""
        settings = self.settings
        if settings.auth == "none":
            return ()
        callers = open_callers(settings.token_path, settings.runner_token_path, resources)
        stack.push_async_callback(callers.close)
        return Authentication(callers, key=CALLER), Authorization(services, resources)

    def _status(self, store: SqliteStore) -> Status:
        settings = self.settings

        def changed(component: Component) -> None:
            if self._server is not None:
                self._server.set_serving(f"stigmer.{component.name}", component.state is State.READY)

        return Status(
            store,
            self._engine,
            place=settings.temporal_address,
            runners={
                "workflow-runner": settings.workflow_execution_queue if "workflow" in settings.runner_names else "",
                "agent-runner": settings.agent_execution_queue if "agent" in settings.runner_names else "",
            },
            changed=changed,
        )


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _tracing(settings: Settings) -> Tracing | None:
    return open_tracing(
        "stigmer-server",
        exporter=settings.traces_exporter,
        endpoint=settings.otlp_endpoint,
        traces_endpoint=settings.otlp_traces_endpoint,
    )


def _credentials(settings: Settings) -> ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    try:
        return server_credentials(settings.tls_certificate, settings.tls_key, client_authority=settings.tls_client_ca)
    except CredentialsError as error:
        raise StartupError(str(error)) from error


async def _hear_schedules(resources: Resources) -> None:
    """Follow events for schedules once there is one: the language takes its time and its memory to load."""
    changes = resources.store.watch(kinds=(schedules.SCHEMA.kind,))
    if not (await resources.store.list(Query(kind=schedules.SCHEMA.kind, limit=1))).records:
        await anext(changes, None)
    changes.close()
    await asyncio.to_thread(import_module, "stigmer_server.schedule_events")
    from stigmer_server import schedule_events

    await schedule_events.follow(resources)


async def _open_store(settings: Settings) -> SqliteStore:
    try:
        settings.db_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return await SqliteStore.open(settings.db_path, schemas(registry()))
    except (StoreError, OSError) as error:
        problem = str(error)
        named = problem if str(settings.db_path) in problem else f"database {settings.db_path}: {problem}"
        raise StartupError(named) from error


def schemas(kinds: Kinds) -> list[KindSchema]:
    """Return what the store must know of the kinds, and of what else the server keeps in it."""
    served = [KindSchema(kind=kind.name, named=kind.named, indexes=kind.all_indexes) for kind in kinds.values()]
    events = (*cloud_events.SCHEMAS, event_listeners.SCHEMA, event_dispatch.SCHEMA, schedules.SCHEMA)
    kept = (values.SCHEMA, files.SCHEMA)
    return [*served, outbox.SCHEMA, checkpoints.SCHEMA, *kept, idempotency.SCHEMA, upgrades.SCHEMA, *events]
