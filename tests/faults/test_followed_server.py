"""Watches and event subscriptions under faults: a killed server, and readers that stop reading."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from stigmer_grpc import UnavailableError
from stigmer_server.testing import Api, ServerProcess, manifest

Start = Callable[..., ServerProcess]
Rounds = Callable[..., int]
Figures = Callable[..., None]

EVENTS = "ai.stigmer.events.v1.EventController"
CREATED = 1
WRITERS = 6
MEBIBYTE = 2**20
ALLOWED_GROWTH = 200 * MEBIBYTE
"""The database's own cache, and for each reader one state and what lies in its connection; told would be gigabytes."""


class Follower:
    """Somebody who follows one stream across the lives of a server, with nothing but the last token."""

    def __init__(self, open_stream: Callable[[Api, str], Any], read: Callable[[Any], str]) -> None:
        self._open = open_stream
        self._read = read
        self.token = ""
        self.seen: list[str] = []
        self.begun = asyncio.Event()
        self.news = asyncio.Event()

    async def follow(self, api: Api) -> None:
        """Read until the server is gone."""
        try:
            async for told in self._open(api, self.token):
                if name := self._read(told):
                    self.seen.append(name)
                    self.news.set()
                self.token = told.resume_token or self.token
                self.begun.set()
        except UnavailableError:
            return

    async def until(self, last: str) -> None:
        """Wait until something has been seen."""
        while last not in self.seen:
            self.news.clear()
            await self.news.wait()


def watch(api: Api, token: str) -> Any:
    return api.watch({"kinds": ["environment"], "resumeToken": token})


def watched(event: Any) -> str:
    return event.resource.slug if event.type == CREATED else ""


def subscribe(api: Api, token: str) -> Any:
    request = {"org": "local", "resumeToken": token, "fromStart": True}
    return api.channel.service(EVENTS).stream("subscribe", request)


def delivered(delivery: Any) -> str:
    return delivery.event.id


async def publish(api: Api, *ids: str) -> None:
    events = [{"id": name, "source": "/faults", "type": "t"} for name in ids]
    await api.channel.service(EVENTS).unary("publish", {"org": "local", "events": events})


async def write(api: Api, acknowledged: dict[str, list[str]]) -> None:
    """Create environments and publish events until the server is gone."""
    try:
        while True:
            name = f"e{os.urandom(6).hex()}"
            await api("environment", "create", manifest("environment", name, {"data": {}}))
            acknowledged["environments"].append(name)
            ids = [f"{name}-{number}" for number in range(3)]
            await publish(api, *ids)
            acknowledged["events"] += ids
    except UnavailableError:
        return


async def test_followers_go_on_where_they_were_when_the_server_was_killed(
    server: Start, rounds: Rounds, figures: Figures
) -> None:
    followers = Follower(watch, watched), Follower(subscribe, delivered)
    acknowledged: dict[str, list[str]] = {"environments": [], "events": []}
    chance = random.Random(11)
    kills = rounds(short=3, full=60)
    for _ in range(kills):
        started = server()
        api = await started.ready()
        following = [asyncio.create_task(follower.follow(started.client())) for follower in followers]
        async with asyncio.timeout(30):
            await asyncio.gather(*(follower.begun.wait() for follower in followers))
        writing = [asyncio.create_task(write(started.client(), acknowledged)) for _ in range(WRITERS)]
        until = len(acknowledged["events"]) + chance.randint(30, 300)
        async with asyncio.timeout(60):
            while len(acknowledged["events"]) < until:
                await asyncio.wait(writing, timeout=0.005)
        started.process.kill()
        async with asyncio.timeout(60):
            await asyncio.gather(*following, *writing)
        await started.close()
    started = server()
    api = await started.ready()
    following = [asyncio.create_task(follower.follow(started.client())) for follower in followers]
    await api("environment", "create", manifest("environment", "the last", {"data": {}}))
    await publish(api, "the last")
    async with asyncio.timeout(60):
        await asyncio.gather(followers[0].until("the-last"), followers[1].until("the last"))
    environments = [entry["metadata"]["slug"] async for entry in everything(api)]
    events = [event.id async for event in every_event(api)]
    # The watch began before the first environment, so it has seen them all, and each once, in the order of creation.
    assert followers[0].seen == environments[::-1]
    assert followers[1].seen == events[::-1]
    assert set(acknowledged["environments"]) <= set(environments)
    assert set(acknowledged["events"]) <= set(events)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    figures(kills=kills, environments=len(environments), events=len(events))


async def everything(api: Api) -> AsyncIterator[Any]:
    token = ""
    while True:
        page = await api.list_all({"kind": "environment", "pageSize": 500, "pageToken": token})
        for entry in page.entries:
            yield entry
        if not (token := page.next_page_token):
            return


async def every_event(api: Api) -> AsyncIterator[Any]:
    token = ""
    while True:
        page = await api.channel.service(EVENTS).unary("list", {"org": "local", "pageSize": 1000, "pageToken": token})
        for entry in page.entries:
            yield entry
        if not (token := page.next_page_token):
            return


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the server's process holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def test_followers_that_stop_reading_cost_bounded_memory_and_miss_nothing(
    server: Start, rounds: Rounds, figures: Figures
) -> None:
    """Every follower would have to be told some dozens of MiB."""
    started = server()
    api = await started.ready()
    changes, readers = rounds(short=150, full=1000), rounds(short=15, full=60)
    made = await api("environment", "create", manifest("environment", "large", {"data": {}}))
    watches = [watch(started.client(), "") for _ in range(readers)]
    subscriptions = [subscribe(started.client(), "") for _ in range(readers)]
    for stream in (*watches, *subscriptions):
        async with asyncio.timeout(30):
            await anext(stream)
    before = resident(started)
    for number in range(changes):
        spec = {"data": {"LARGE": {"value": f"{number:06}" + "x" * 200_000}}}
        changed = manifest("environment", "large", spec, slug=made.metadata.slug)
        await api("environment", "update", changed, timeout=10)
        event = {"id": str(number), "source": "/faults", "type": "t", "textData": "x" * 200_000}
        request = {"org": "local", "events": [event]}
        await api.channel.service(EVENTS).unary("publish", request, timeout=10)
    growth = resident(started) - before
    async with asyncio.timeout(300):
        for stream in watches[:5]:
            events = [await anext(stream) for _ in range(changes)]
            assert [event.resource.id for event in events] == [made.metadata.id] * changes
            values = [str(event.state["spec"]["data"]["LARGE"]["value"])[:6] for event in events]
            assert values == sorted(values)
            assert values[-1] == f"{changes - 1:06}"
            assert len({event.resume_token for event in events}) == changes
        for stream in subscriptions[:5]:
            assert [(await anext(stream)).event.id for _ in range(changes)] == [str(n) for n in range(changes)]
    assert growth < ALLOWED_GROWTH
    figures(stalled=2 * readers, changes=changes, growth=f"{growth / MEBIBYTE:.0f} MiB")
