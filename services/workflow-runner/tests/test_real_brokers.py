"""Messages through real brokers, where STIGMER_TEST_BROKERS names them: `nats=4222 mqtt=1883 amqp=5672`, ports of here.

A run publishes and another one consumes, so that both sides are held against the broker. With AMQP, its queue `pets`
must be there, and be empty; so must Kafka's topic.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from workflow_runner.testing import Runs, Site

PORTS = dict(each.split("=") for each in os.environ.get("STIGMER_TEST_BROKERS", "").split())
pytestmark = pytest.mark.skipif(not PORTS, reason="STIGMER_TEST_BROKERS names no brokers")


def document(protocol: str, port: int) -> dict[str, Any]:
    item = {"payload": {"type": "object"}, "correlationId": {"location": "$message.payload#/id"}}
    channel = {"$ref": "#/channels/pets"}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pets", "version": "1"},
        "servers": {"main": {"host": f"localhost:{port}", "protocol": protocol}},
        "channels": {"pets": {"address": "pets", "messages": {"pet": item}}},
        "operations": {
            "send": {"action": "send", "channel": channel},
            "receive": {"action": "receive", "channel": channel},
        },
    }


def call(site: Site, operation: str, rest: str) -> str:
    with_ = f"{{document: {{endpoint: '{site.url}/asyncapi'}}, operation: {operation}, {rest}}}"
    return f"do:\n- call: {{call: asyncapi, with: {with_}}}"


@pytest.fixture(params=list(PORTS))
def broker(request: pytest.FixtureRequest, site: Site) -> str:
    site.page("/asyncapi", document(request.param, int(PORTS[request.param])))
    return request.param


async def publish(runs: Runs, site: Site, *numbers: int) -> None:
    payload = "{payload: {n: '${ .n }', id: '${ .n | tostring }'}, headers: {Kind: cat}}"
    for number in numbers:
        assert await runs.output(call(site, "send", f"message: {payload}"), {"n": number}) == {"n": number}


async def consumed(runs: Runs, site: Site, subscription: str, *numbers: int) -> list[Any]:
    """What a run consumes while another publishes, over and over: most brokers keep nothing for who comes later."""
    execution = runs.add(call(site, "receive", f"subscription: {subscription}"))
    ending = asyncio.create_task((await runs.start(execution)).result())
    async with asyncio.timeout(60):
        while not ending.done():
            await publish(runs, site, *numbers)
            await asyncio.wait([ending], timeout=1)
    await ending
    return execution.output


async def test_what_one_run_publishes_another_consumes(runs: Runs, site: Site, broker: str) -> None:
    messages = await consumed(runs, site, "{consume: {amount: 3}}", 1, 2, 3)
    assert sorted(each["payload"]["n"] for each in messages) == [1, 2, 3]
    assert {each["correlationId"] for each in messages} == {"1", "2", "3"}
    if broker not in ("redis", "mqtt"):
        assert all(each["headers"]["Kind"] == "cat" for each in messages)


async def test_messages_are_filtered_until_one_ends_it(runs: Runs, site: Site, broker: str) -> None:
    subscription = "{filter: '${ .payload.n > 1 }', consume: {until: '${ .payload.n == 4 }'}}"
    messages = await consumed(runs, site, subscription, 1, 2, 3, 4)
    numbers = [each["payload"]["n"] for each in messages]
    assert set(numbers) <= {2, 3}
    assert numbers or broker == "amqp"
