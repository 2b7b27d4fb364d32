"""Runs that listen: what they are given, when they are woken, and that nothing falls between the two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, NotFoundError
from stigmer_sqlite.port import Operation, Query

from stigmer_server import event_listeners, outbox
from stigmer_server.event_listeners import WAKE
from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
EVENTS = "ai.stigmer.events.v1.EventController"
LISTENERS = "ai.stigmer.events.v1.EventListenerController"
KIND = "workflow_execution"


async def publish(api: Api, *kinds: str, org: str = "local", **more: Any) -> None:
    events = [{"source": "/shop", "type": kind, "jsonData": number, **more} for number, kind in enumerate(kinds)]
    await api.channel.service(EVENTS).unary("publish", {"org": org, "events": events})


async def receive(api: Api, execution: Any, *types: str, after: int = 0, **more: Any) -> Any:
    patterns = [{"type": type_} for type_ in types]
    request = {"executionId": execution.metadata.id, "listener": "l1", "patterns": patterns, "after": after, **more}
    return await api.channel.service(LISTENERS).unary("receive", request)


async def woken(api: Api, execution: Any, *, times: int = 1) -> list[str]:
    """Wait until the execution's run is to be woken so often; return which listeners."""
    async with asyncio.timeout(20):
        while True:
            due = await outbox.due_of(api.app.resources.store, execution.metadata.id)
            found = [item.payload["listener"] for item in due if item.name == WAKE]
            if len(found) >= times:
                return found
            await asyncio.sleep(0.01)


async def waiting(api: Api) -> int:
    page = await api.app.resources.store.list(Query(kind=event_listeners.SCHEMA.kind, limit=1000))
    return len(page.records)


async def test_a_run_is_given_what_was_published_since_it_was_made_and_then_woken(local: Api, make: Make) -> None:
    await publish(local, "order")
    execution = await make(local, KIND)
    assert (await receive(local, execution, "order")).waiting
    await publish(local, "other")
    await publish(local, "order", "other", "order")
    assert await woken(local, execution) == ["l1"]
    assert await waiting(local) == 0
    found = await receive(local, execution, "order")
    assert [item.json.count('"data":0') for item in found.events] == [1, 0]
    assert not found.waiting
    rest = await receive(local, execution, "order", after=found.events[-1].position)
    assert (list(rest.events), rest.waiting) == ([], True)


@pytest.mark.parametrize(
    ("types", "kinds", "number"),
    [([], ["a", "b"], 2), (["a*"], ["ab", "b", "ac"], 2), (["a", "c*"], ["b", "c1", "a"], 2), (["x"], ["y"], 0)],
)
async def test_patterns_choose(local: Api, make: Make, types: list[str], kinds: list[str], number: int) -> None:
    execution = await make(local, KIND)
    await receive(local, execution, *types)
    await publish(local, *kinds)
    found = await receive(local, execution, *types)
    assert (len(found.events), found.waiting) == (number, number == 0)
    if number:
        assert await woken(local, execution) == ["l1"]


async def test_a_source_chooses_too(local: Api, make: Make) -> None:
    execution = await make(local, KIND)
    patterns = [{"type": "a", "source": "/shop"}]
    await receive(local, execution, patterns=patterns)
    await publish(local, "a", source="/elsewhere")
    await publish(local, "a", id="1")
    assert await woken(local, execution) == ["l1"]
    assert len((await receive(local, execution, patterns=patterns)).events) == 1


async def test_other_organizations_are_not_heard(local: Api, make: Make) -> None:
    execution = await make(local, KIND)
    await receive(local, execution)
    await publish(local, "a", org="other")
    assert (await receive(local, execution)).waiting


async def test_an_ended_run_hears_nothing_and_is_forgotten(local: Api, make: Make) -> None:
    execution = await make(local, KIND)
    await receive(local, execution, "a", "b")
    assert await waiting(local) == 2
    status = {"phase": "EXECUTION_COMPLETED"}
    await local(KIND, "updateStatus", {"executionId": execution.metadata.id, "status": status})
    assert await waiting(local) == 0
    with pytest.raises(FailedPreconditionError):
        await receive(local, execution, "a")
    with pytest.raises(NotFoundError):
        await local.channel.service(LISTENERS).unary("receive", {"executionId": "wex-none", "listener": "l"})


async def test_many_events_come_in_parts_and_large_ones_in_smaller_ones(local: Api, make: Make) -> None:
    execution = await make(local, KIND)
    await publish(local, *["a"] * 120)
    places: list[int] = []
    while not (found := await receive(local, execution, "a", after=places[-1] if places else 0)).waiting:
        assert len(found.events) <= 50
        places += [item.position for item in found.events]
    assert (len(places), places) == (120, sorted(set(places)))
    for number in range(3):
        await publish(local, "a", jsonData="x" * 300_000, id=f"large {number}")
    assert len((await receive(local, execution, "a", after=places[-1])).events) == 1


async def test_hundreds_of_runs_are_woken_by_one_event_and_the_others_sleep(local: Api, make: Make) -> None:
    execution, other = await make(local, KIND), await make(local, KIND, "other")

    async def arm(number: int) -> None:
        request = {"executionId": execution.metadata.id, "listener": f"l{number}", "patterns": [{"type": "a"}]}
        await local.channel.service(LISTENERS).unary("receive", request)

    await asyncio.gather(*(arm(number) for number in range(450)))
    await receive(local, other, "b")
    changes = local.app.resources.store.watch(kinds=(event_listeners.SCHEMA.kind,))
    await publish(local, "a")
    async with asyncio.timeout(20):
        for _ in range(450):
            assert (await anext(changes)).operation is Operation.DELETED
    assert await waiting(local) == 1
    assert await outbox.due_of(local.app.resources.store, other.metadata.id) == ()


async def test_who_waits_is_woken_after_a_restart(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        execution = await make(api, KIND)
        await receive(api, execution, "a")
        # The process ends before the event has woken anybody: nobody follows events without an app.
        await publish(api, "b", "a")
    async with serve(tmp_path) as api:
        assert await woken(api, execution) == ["l1"]
