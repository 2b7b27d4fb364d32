"""The workflow runner killed at any moment, over runs of every construct: all of them end as if nothing had happened.

The server, Temporal and the runner are processes; what runs call are servers on loopback that note each call. What
Temporal recorded is held against these notes: a call that changes something is never made after its completion was
recorded, and never without a record that it began.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from agent_runner.settings import Settings as AgentSettings
from agent_runner.worker import serve as serve_agents
from mcp.server.mcpserver import MCPServer
from stigmer_server.messages import value_to_plain
from stigmer_server.testing import Api, ServerProcess, TemporalServer, manifest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import Worker
from workflow_runner import names
from workflow_runner.testing import Request, Response, RunnerProcess, Site, site_server
from workflow_runner.testing.containers import Engine, container_engine
from workflow_runner.testing.shop import PROTO, SERVICE, TYPES, Shop, shop_server

Status = Any
KIND = "workflow_execution"
SHORT, FULL = 4, 100
CONSTRUCTS: dict[str, str] = yaml.safe_load((Path(__file__).parent / "constructs.yaml").read_text(encoding="utf-8"))
HEADER = "document: {dsl: 1.0.3, namespace: tests, name: NAME, version: 1.0.0}\n"
AGAIN = "{errors: {with: {status: 408}}, retry: {limit: {attempt: {count: 1000}}}}"
TIMED = {"every": "{every: PT2S}", "after": "{after: PT1S}", "on": "{on: {one: {with: {type: tick}}}}"}
"""Workflows that are started by time and by events."""
TIMED_TASKS = """
do:
- order: {try: [{it: {call: http, with: {method: post, endpoint: SITE/orders, body: {once: ONCE}}}}], catch: AGAIN}
"""
LONGEST_PAUSE = 3.0
"""At most so many seconds pass between the start of a runner and its death."""
ENDS_SECONDS = 900.0
"""How long a run may take that is disturbed all the time."""
UNDER_WAY, COMPLETED, FAILED = (1, 2, 7), 3, 4
SCRIPT = """\
turns:
  - tool_calls: [{name: execute, args: {command: cp in/all.json out.json}}]
  - text: You said $message.
"""
"""What the agent does."""
_ONCE = re.compile(r"once-[\w-]+")
_MARK = re.compile(r"ONCE(-[a-z0-9]+)?(-\$[\w.]+)?")
_CHANGING = {
    *(names.CALL_HTTP, names.CALL_OPENAPI, names.CALL_GRPC, names.CALL_MCP, names.CALL_A2A, names.PUBLISH_MESSAGE),
    *(names.RUN_PROCESS, names.RUN_CONTAINER, names.ASK_MODEL, "Charge"),
}


@dataclass(slots=True)
class Peers:
    """Everything that runs call, and what it was told."""

    site: Site
    shop: Shop
    engine: Engine
    calls: Counter[str] = field(default_factory=Counter[str])
    broken: set[str] = field(default_factory=set[str])
    """Runs whose task fails until they are recovered."""

    def told(self) -> Counter[str]:
        """Return how often each call came that changes something."""
        containers = (once for made in self.engine.created for once in made["Cmd"] if once.startswith("once-"))
        return self.calls + Counter(self.shop.ordered) + Counter(containers)

    @activity.defn(name="Charge")
    async def charge(self, once: str, currency: str) -> dict[str, str]:
        """Be an activity of somebody else's worker."""
        self.calls[once] += 1
        return {"charged": once, "in": currency}

    def build(self) -> None:
        """Give the site its pages."""
        page = self.site.page
        page("/pet", {"name": "Rex"})
        page("/pets/7", {"name": "Rex"})
        page("/slow", self._slow)
        page("/orders", self._order)
        page("/taken", self._taken)
        page("/flaky", self._flaky)
        page("/breaks", lambda request: Response({}, 500 if request.query[4:] in self.broken else 200))
        page("/large", {"text": "large " * 50_000})
        page("/oauth2/token", {"access_token": "tok-5678", "expires_in": 3600})
        page("/shop.proto", Response(PROTO.encode()))
        page("/shop/v1/types.proto", Response(TYPES.encode()))
        page("/functions/triple/1.0.0/function.yaml", Response(b"set: {n: '${ .n * 3 }'}"))
        page("/a2a", self._agent)
        page("/messages", lambda request: self._order(request) if request.method == "POST" else Response({"n": 1}))
        page("/asyncapi", _asyncapi(self.site.url))
        page("/api", _OPENAPI)

    def _order(self, request: Request) -> Response:
        once: str = request.json["once"]
        self.calls[once] += 1
        return Response({"taken": True})

    def _taken(self, request: Request) -> Response:
        run, task = (part.partition("=")[2] for part in request.query.split("&"))
        return Response({"taken": f"once-{run}-{task}" in self.calls})

    def _flaky(self, request: Request) -> Response:
        asked = [each for each in self.site.seen("/flaky") if each.query == request.query]
        return Response({"ok": True}) if len(asked) > 2 else Response({}, 503)

    def _agent(self, request: Request) -> Response:
        asked = request.json
        self.calls[asked["params"]["message"]["parts"][0]["text"]] += 1
        return Response({"jsonrpc": "2.0", "id": asked["id"], "result": {"kind": "task", "id": "t1"}})

    async def _slow(self, _: Request) -> Response:
        await asyncio.sleep(0.3)
        return Response({"slow": True})


_OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/pets/{id}": {"get": {"operationId": "getPet", "parameters": [{"name": "id", "in": "path"}]}},
        "/orders": {"post": {"operationId": "addOrder", "requestBody": {"content": {"application/json": {}}}}},
    },
}


def _asyncapi(url: str) -> dict[str, Any]:
    channel = {"channel": {"$ref": "#/channels/messages"}}
    return {
        "asyncapi": "3.0.0",
        "servers": {"site": {"host": url.removeprefix("http://"), "protocol": "http"}},
        "channels": {"messages": {"address": "messages"}},
        "operations": {"send": channel, "receive": channel},
    }


@asynccontextmanager
async def mcp_server(calls: Counter[str]) -> AsyncGenerator[str]:
    """Serve MCP by the official library behind HTTP; its address."""
    made = MCPServer("shop", version="1.0.0")

    @made.tool()
    def order(once: str) -> dict[str, str]:
        """Order something."""
        calls[once] += 1
        return {"ordered": once}

    del order
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(made.streamable_http_app(), log_level="error"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        server.should_exit = True
        await serving


@dataclass(slots=True)
class World:
    """The product, its peers, and the workflows."""

    api: Api
    temporal: Client
    runner: RunnerProcess
    peers: Peers
    mcp: str
    workflows: dict[str, str] = field(default_factory=dict[str, str])
    """Name to id."""
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether there is no runner; set in peace, too, when nobody is killed."""
    ticks: int = 0

    async def apply(self, name: str, text: str, **more: Any) -> None:
        """Store a workflow, its addresses and other marks filled in."""
        text = HEADER.replace("NAME", name) + text
        text = text.replace("AGAIN", AGAIN).replace("SITE/mcp", self.mcp).replace("SITE", self.peers.site.url)
        text = text.replace("SHOP", f"{{name: {SERVICE}, host: localhost, port: {self.peers.shop.port}}}")
        spec = {"definition": _MARK.sub(_filled, text), **more}
        self.workflows[name] = (await self.api("workflow", "apply", manifest("workflow", name, spec))).metadata.id

    async def publish(self, kind: str, data: Any, **more: Any) -> None:
        """Publish an event, as somebody else does."""
        event = {"source": "/test", "type": kind, "jsonData": data, **more}
        events = self.api.channel.service("ai.stigmer.events.v1.EventController")
        await events.unary("publish", {"org": "local", "events": [event]})

    async def schedules(self, method: str, **request: Any) -> Any:
        """Call the service of schedules."""
        return await self.api.channel.service("ai.stigmer.schedules.v1.ScheduleController").unary(method, request)

    async def executions(self, name: str) -> list[Any]:
        """Return all executions of a workflow."""
        return await self.all_of(KIND, "listByWorkflow", workflowId=self.workflows[name])

    async def all_of(self, kind: str, verb: str, **request: Any) -> list[Any]:
        """Return the entries of all pages of a list."""
        found: list[Any] = []
        for page in itertools.count(1):
            listed = await self.api(kind, verb, {**request, "pageSize": 200, "pageToken": str(page)})
            found += listed.entries
            if page >= listed.total_pages:
                break
        return found

    async def until(self, id_: str, holds: Callable[[Any], bool]) -> Any:
        """Wait until the status of an execution is as wanted; return it."""
        status: Status = None
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDS_SECONDS):
                async for state in self.api.stream(KIND, "subscribe", {"executionId": id_}):
                    status = state.status
                    if holds(status):
                        return status
        tasks = {task.task_id: task.status for task in status.tasks}
        raise AssertionError(f"{id_} came no further than {status.phase}, {status.error}, {tasks}")


def _filled(mark: re.Match[str]) -> str:
    """Return what makes a text that no other call gives."""
    name, item = mark[1] or "", mark[2]
    last = f' + "-" + ({item[1:]} | tostring)' if item else ""
    return f'\'${{ "once-" + ($workflow.input.run? // $workflow.id) + "{name}"{last} }}\''


@asynccontextmanager
async def models(folder: Path, temporal: str, server: str) -> AsyncGenerator[None]:
    """Have a runner of agents, which asks models, until the block ends."""
    given = {"temporal_address": temporal, "server_address": server, "data_folder": folder / "agents"}
    (folder / "helper.yaml").write_text(SCRIPT)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_agents(AgentSettings.model_validate({**given, "scripts_folder": folder}), stop))
    try:
        yield
    finally:
        stop.set()
        await serving


@pytest.fixture
async def world(tmp_path: Path, server: Callable[..., ServerProcess]) -> AsyncGenerator[World]:
    """Temporal, a server, a runner and their peers, with a workflow of every construct."""
    temporal = TemporalServer(tmp_path)
    await asyncio.to_thread(temporal.start)
    process = server(TEMPORAL_HOST_PORT=temporal.address, LOG_LEVEL="warning")
    runner = RunnerProcess(
        tmp_path,
        temporal=temporal.address,
        server=process.address,
        STIGMER_MAX_HISTORY_EVENTS="60",
        STIGMER_BLOB_FOLDER=str(tmp_path / "blobs"),
        STIGMER_BLOB_THRESHOLD_BYTES="65536",
        STIGMER_CONTAINER_SOCKET=str(tmp_path / "engine.sock"),
        LOG_LEVEL="warning",
    )
    try:
        async with (
            site_server() as site,
            shop_server() as shop,
            container_engine(tmp_path / "engine.sock") as engine,
            models(tmp_path, temporal.address, process.address),
        ):
            peers = Peers(site, shop, engine)
            peers.build()
            api = await process.ready()
            await runner.start()
            client = await Client.connect(temporal.address)
            async with (
                mcp_server(peers.calls) as mcp,
                Worker(client, task_queue="foreign", activities=[peers.charge]),
            ):
                made = World(api, client, runner, peers, mcp)
                helper = {"instructions": "Do as you are told.", "model": "scripted:helper"}
                await api("agent", "create", manifest("agent", "helper", helper))
                for name, text in CONSTRUCTS.items():
                    secret = {"envSpec": {"data": {key: {"isSecret": True} for key in ("TOKEN", "LOGIN")}}}
                    await made.apply(name, text, **(secret if name == "authenticated" else {}))
                yield made
    finally:
        await runner.kill()
        await process.close()
        await asyncio.to_thread(temporal.stop)


def over(status: Status) -> bool:
    return status.phase not in UNDER_WAY


async def run(world: World, construct: str, run_: str) -> Status:
    """Run a construct to its end, with what it needs from outside; return its last status."""
    if construct == "recovered":
        world.peers.broken.add(run_)
    spec: dict[str, Any] = {"workflowId": world.workflows[construct], "input": {"run": run_}}
    if construct == "authenticated":
        login = json.dumps({"username": "me", "password": "pass-1234"})
        values = {"TOKEN": "tok-1234", "LOGIN": login}
        spec["runtimeEnv"] = {name: {"value": value, "isSecret": True} for name, value in values.items()}
    made = (await world.api(KIND, "create", manifest(KIND, run_, spec))).metadata.id
    act = _ACTS.get(construct)
    if act is not None:
        await act(world, made, run_)
    return await world.until(made, over)


async def _signal(world: World, execution: str, run_: str) -> None:
    await world.dead.wait()
    for name in "xab":
        request = {"executionId": execution, "signalName": name, "payload": name, "idempotencyKey": f"{run_} {name}"}
        for _ in range(2):
            await world.api(KIND, "sendSignal", request)


async def _hold(world: World, execution: str, _: str) -> None:
    await world.api(KIND, "pause", {"id": execution})
    await world.until(execution, lambda status: status.phase == 7)
    await world.dead.wait()
    await world.api(KIND, "resume", {"id": execution})


async def _tell(world: World, execution: str, run_: str) -> None:
    await world.until(execution, lambda status: any(task.task_name == "both" for task in status.tasks))
    await world.publish("order", {"number": 1}, subject=run_)
    await world.dead.wait()
    for order in (2, 1):
        await world.publish("payment", {"number": order}, subject=run_)
    for number in range(6):
        for _ in range(2):
            await world.publish("item", {"n": number}, subject=run_, id=f"{run_}-{number}")
        if number == 3:
            await world.dead.wait()


async def _recover(world: World, execution: str, run_: str) -> None:
    failed = await world.until(execution, over)
    assert failed.phase == FAILED
    world.peers.broken.discard(run_)
    await world.dead.wait()
    await world.api(KIND, "recover", {"id": execution})


_ACTS = {"signalled": _signal, "held": _hold, "heard": _tell, "recovered": _recover}


def output_of(status: Status, run_: str) -> str:
    """Return the output, without what is different in each run."""
    return json.dumps(value_to_plain(status.output_value), sort_keys=True).replace(run_, "RUN")


def workflow_ids(status: Status) -> list[str]:
    """Return the ids of what Temporal has of an execution: its run, and one for each time that it was recovered."""
    first = status.temporal_workflow_id.partition("/recovery-")[0]
    return [first, *(f"{first}/recovery-{number + 1}" for number in range(status.recoveries))]


def check(construct: str, run_: str, status: Status, undisturbed: str) -> None:
    assert status.phase == COMPLETED, (construct, run_, status.error)
    assert output_of(status, run_) == undisturbed, (construct, run_)
    unfinished = [task.task_id for task in status.tasks if task.status < COMPLETED]
    assert not unfinished, (construct, run_, unfinished)


async def killing(world: World, kills: int, seeded: random.Random) -> None:
    """Kill the runner so often, each time after it has worked for a while, and start another."""
    for _ in range(kills):
        await asyncio.sleep(seeded.uniform(0, LONGEST_PAUSE))
        await world.runner.kill()
        world.dead.set()
        world.ticks += 1
        await world.publish("tick", {"n": world.ticks})
        await asyncio.sleep(seeded.uniform(0, 0.5))
        world.dead.clear()
        await world.runner.start()
    world.dead.set()


async def recorded(world: World, workflow_ids: list[str]) -> Counter[str]:
    """Hold all histories of an execution against the rule; return how often each call that changes something began."""
    begun, done = Counter[str](), set[str]()
    async for event, once in _changes(world.temporal, workflow_ids):
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            assert once not in done, f"{once} is made again, and its completion was recorded before"
            begun[once] += 1
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            done.add(once)
    # Who asks whether a call took effect need not know of its completion.
    unknown = {once for once in begun.keys() - done if not once.endswith("-asked")}
    assert not unknown, f"a run went on without knowing of the completion of a call: {unknown}"
    return begun


async def _changes(temporal: Client, workflow_ids: list[str]) -> AsyncIterator[tuple[Any, str]]:
    """Give the beginnings and ends of all calls that change something, in order, and which call each is about."""
    for workflow_id in workflow_ids:
        handle = temporal.get_workflow_handle(workflow_id)
        run_id = (await handle.describe()).raw_description.workflow_execution_info.first_run_id
        while run_id:
            history = await temporal.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
            known: dict[int, str] = {}
            for event in history.events:
                if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                    known[event.event_id] = _once(event.activity_task_scheduled_event_attributes)
                    about = event.event_id
                else:
                    about = event.activity_task_completed_event_attributes.scheduled_event_id
                if known.get(about):
                    yield event, known[about]
            run_id = history.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id


def _once(scheduled: Any) -> str:
    """Return what a call hands on that no other does; what travels with it beside its arguments does not count."""
    if scheduled.activity_type.name not in _CHANGING:
        return ""
    values = [json.loads(payload.data) for payload in scheduled.input.payloads]
    given: list[Any] = [value["arguments"] if isinstance(value, dict) else value for value in values]
    found = _ONCE.search(json.dumps(given))
    return found[0] if found else ""


async def check_timed(world: World) -> list[Any]:
    """End what starts workflows by itself; return what it started: each moment and each event one execution."""
    found: dict[str, list[Any]] = {}
    for name in TIMED:
        await world.schedules("pause", workflow_id=world.workflows[name])
        found[name] = await world.executions(name)
        causes = [json.dumps(sorted(each.spec.trigger_metadata.items())) for each in found[name]]
        assert len(causes) == len(set(causes)), causes
    events = sorted(value_to_plain(each.spec.input)[0]["n"] for each in found["on"])
    assert events == list(range(1, world.ticks + 1))
    return [*found["every"], *found["after"], *found["on"]]


async def test_runs_of_every_construct_end_as_if_their_runner_had_never_been_killed(
    world: World, rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    kills = rounds(short=SHORT, full=FULL)
    begun = time.monotonic()
    constructs = [name for name in CONSTRUCTS if name != "child"]
    world.dead.set()
    done = await asyncio.gather(*(run(world, name, f"quiet-{name}") for name in constructs))
    quiet = dict(zip(constructs, done, strict=True))
    assert {name: status.error for name, status in quiet.items() if status.phase != COMPLETED} == {}
    expected = {name: output_of(status, f"quiet-{name}") for name, status in quiet.items()}
    world.dead.clear()
    for name, schedule in TIMED.items():
        await world.apply(name, f"schedule: {schedule}{TIMED_TASKS}")
    await world.schedules("trigger", workflow_id=world.workflows["after"])

    ended: list[Status] = []
    numbers = itertools.count()

    async def again_and_again(construct: str, disturbing: asyncio.Task[None]) -> None:
        while True:
            name = f"r{next(numbers)}-{construct}"
            status = await run(world, construct, name)
            check(construct, name, status, expected[construct])
            ended.append(status)
            if disturbing.done():
                return

    async with asyncio.TaskGroup() as group:
        disturbing = group.create_task(killing(world, kills, random.Random(20261130)))
        for construct in constructs:
            group.create_task(again_and_again(construct, disturbing))
    for execution in [*await check_timed(world), *await world.executions("child")]:
        status = await world.until(execution.metadata.id, over)
        assert status.phase == COMPLETED, (execution.metadata.id, status.error)
        ended.append(status)
    histories = await asyncio.gather(*(recorded(world, workflow_ids(status)) for status in ended))
    begun_calls = sum(histories, Counter[str]())
    told = Counter({once: number for once, number in world.peers.told().items() if "-quiet-" not in once})
    unrecorded = told - begun_calls
    assert not unrecorded, unrecorded
    assert all(number == 1 for once, number in told.items() if once.endswith("-asked"))
    assert all(number == 1 for once, number in begun_calls.items() if once.endswith("-model"))
    agents = Counter(agent.spec.message for agent in await world.all_of("agent_execution", "list"))
    assert (len(agents), set(agents.values())) == (len(await world.executions("agent")), {1})
    figures(
        kills=kills,
        constructs=len(constructs) + len(TIMED) + 1,
        runs=len(ended),
        calls=len(begun_calls),
        unknown=begun_calls.total() - len(begun_calls),
        twice=told.total() - len(told),
        seconds=f"{time.monotonic() - begun:.0f}",
    )
