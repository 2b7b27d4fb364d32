"""Watches and events over HTTP: a browser's EventSource goes on where it was, by the ids that it got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from stigmer_server.http.testing import Front

EVENTS = "/v1/orgs/local/events"
WATCH = "/v1/resources:watch"


async def read(front: Front, path: str, *, after: str = "") -> AsyncGenerator[dict[str, Any]]:
    """Yield the events of a stream as an EventSource would: id, type and data."""
    headers = {"last-event-id": after} if after else {}
    async with asyncio.timeout(20), front.client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        told: dict[str, Any] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                told[name] = json.loads(value) if name == "data" else value
            elif not line and "data" in told:
                yield told
                told = {}


async def take(front: Front, path: str, number: int, *, after: str = "") -> list[dict[str, Any]]:
    async with aclosing(read(front, path, after=after)) as events:
        return [await anext(events) for _ in range(number)]


async def test_events_are_followed_from_where_a_browser_was(front: Front) -> None:
    for number in range(3):
        event = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": "order", "data": {"n": number}}
        answer = await front.client.post(
            EVENTS, content=json.dumps(event), headers={"content-type": "application/cloudevents+json"}
        )
        assert answer.status_code < 300
    begun, first, second, third = await take(front, f"{EVENTS}:subscribe?fromStart=true", 4)
    assert begun["event"] == "bookmark"
    assert begun["data"] == {"resumeToken": begun["id"]}
    assert [event["data"]["id"] for event in (first, second, third)] == ["0", "1", "2"]
    assert third["data"]["data"] == {"n": 2}
    assert "event" not in first
    mark, rest = await take(front, f"{EVENTS}:subscribe", 2, after=second["id"])
    assert (mark["event"], mark["id"], rest["data"]["id"]) == ("bookmark", second["id"], "2")


async def test_a_watch_is_followed_from_where_a_browser_was(front: Front) -> None:
    made = await front.agent("First")
    created, synced = await take(front, f"{WATCH}?kinds=agent&snapshot=true", 2)
    assert (created["event"], synced["event"]) == ("created", "synced")
    assert created["data"]["state"] == made
    assert "id" not in created
    await front.agent("Second")
    (later,) = await take(front, f"{WATCH}?kinds=agent&snapshot=true", 1, after=synced["id"])
    assert (later["event"], later["data"]["resource"]["slug"]) == ("created", "second")
