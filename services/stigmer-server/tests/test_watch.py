"""Watches: every change once and in order, whatever happens to the reader, the resource or the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError, OutOfRangeError
from stigmer_protos import descriptors
from stigmer_sqlite import CompactedError

from stigmer_server import compaction
from stigmer_server.calls import Call, Caller
from stigmer_server.errors import DeniedError
from stigmer_server.messages import to_plain
from stigmer_server.queries import watch as module
from stigmer_server.queries.watch import EventType, Watching, watch
from stigmer_server.testing import Api, manifest, serve
from stigmer_server.watches import Watches

Make = Callable[..., Awaitable[Any]]
CREATED, UPDATED, DELETED, SYNCED, BOOKMARK = (kind.value for kind in EventType)


async def take(events: Any, number: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(number)]


async def begun(api: Api, **request: Any) -> Any:
    """Return a watch that has begun, without a snapshot."""
    events = aiter(api.watch(request))
    (first,) = await take(events, 1)
    assert (first.type, first.HasField("resource"), bool(first.resume_token)) == (BOOKMARK, False, True)
    return events


def told(event: Any) -> tuple[int, str, str]:
    return event.type, descriptors.kind_by_number(event.resource.kind).enum_name, event.resource.id


async def label(api: Api, made: Any, **labels: str) -> Any:
    request = to_plain(await api("environment", "get", {"value": made.metadata.id}))
    request["metadata"] |= {"labels": labels, "version": {}}
    return await api("environment", "update", request)


async def test_a_watch_tells_what_happens_to_resources_of_every_kind(api: Api, make: Make) -> None:
    events = await begun(api)
    made = await make(api, "agent", "One")
    instance = made.status.default_instance_id
    await api("agent", "delete", {"value": made.metadata.id})
    found = await take(events, 4)
    assert [told(event) for event in found] == [
        (CREATED, "agent_instance", instance),
        (CREATED, "agent", made.metadata.id),
        (DELETED, "agent_instance", instance),
        (DELETED, "agent", made.metadata.id),
    ]
    summary = found[1].resource
    assert (summary.org, summary.slug) == ("local", "one")
    assert len({event.resume_token for event in found}) == 4
    assert not found[3].HasField("state")


async def test_a_state_is_the_newest_and_shows_no_secret(api: Api, make: Make) -> None:
    events = await begun(api, kinds=["environment"])
    data = {"data": {"TOKEN": {"value": "s3cret", "isSecret": True}}}
    made = await make(api, "environment", "Staging", spec=data)
    newest = await label(api, made, team="blue")
    first, second = await take(events, 2)
    assert (first.type, second.type) == (CREATED, UPDATED)
    for event in (first, second):
        assert event.state["spec"]["data"]["TOKEN"]["value"] == "***REDACTED***"
    assert to_plain(second.state) == to_plain(newest)


async def test_a_change_that_was_overtaken_by_a_deletion_has_no_state(local: Api, make: Make) -> None:
    events = await begun(local, kinds=["environment"])
    made = await make(local, "environment", "Gone")
    # The first state may be read before; the others are overtaken for certain.
    await label(local, made, a="1")
    token = (await take(events, 1))[0].resume_token
    await local("environment", "delete", {"resourceId": made.metadata.id})
    again = aiter(local.watch({"kinds": ["environment"], "resumeToken": token}))
    updated, deleted = await take(again, 2)
    assert (updated.type, updated.HasField("state")) == (UPDATED, False)
    assert (deleted.type, deleted.HasField("state")) == (DELETED, False)


async def test_one_resource_is_followed(local: Api, make: Make) -> None:
    one, other = await make(local, "environment", "one"), await make(local, "environment", "other")
    events = await begun(local, id=one.metadata.id)
    await label(local, other, a="1")
    await label(local, one, a="1")
    await local("environment", "delete", {"resourceId": one.metadata.id})
    assert [told(event) for event in await take(events, 2)] == [
        (UPDATED, "environment", one.metadata.id),
        (DELETED, "environment", one.metadata.id),
    ]


@pytest.mark.parametrize("kind", ["agent_execution", "workflow_execution"])
async def test_an_execution_is_followed_to_its_end(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    events = aiter(local.watch({"kinds": [kind], "id": made.metadata.id, "snapshot": True}))
    first, synced = await take(events, 2)
    assert (first.type, synced.type) == (CREATED, SYNCED)
    assert first.state["status"]["phase"] == "EXECUTION_PENDING"
    for phase in ("EXECUTION_IN_PROGRESS", "EXECUTION_COMPLETED"):
        await local(kind, "updateStatus", {"executionId": made.metadata.id, "status": {"phase": phase}})
        (event,) = await take(events, 1)
        assert (event.type, event.state["status"]["phase"]) == (UPDATED, phase)


async def test_a_snapshot_tells_everything_and_then_that_it_was_all(api: Api, make: Make) -> None:
    made = [await make(api, "environment", f"n{number}") for number in range(45)]
    events = aiter(api.watch({"kinds": ["environment", "mcp_server"], "snapshot": True}))
    found = await take(events, 46)
    assert [told(event) for event in found[:-1]] == [(CREATED, "environment", one.metadata.id) for one in made]
    assert to_plain(found[3].state) == to_plain(made[3])
    # Within a snapshot there is nowhere to go on.
    assert {event.resume_token for event in found[:-1]} == {""}
    synced = found[-1]
    assert (synced.type, synced.HasField("resource")) == (SYNCED, False)
    later = await make(api, "mcp_server", "later")
    assert [told(event) for event in await take(events, 1)] == [(CREATED, "mcp_server", later.metadata.id)]
    again = aiter(api.watch({"kinds": ["environment", "mcp_server"], "resumeToken": synced.resume_token}))
    assert [told(event) for event in await take(again, 1)] == [(CREATED, "mcp_server", later.metadata.id)]


async def test_nothing_is_missed_between_a_snapshot_and_what_follows(local: Api, make: Make) -> None:
    names = [f"n{number}" for number in range(300)]

    async def write() -> None:
        for name in names:
            await make(local, "environment", name)

    writing = asyncio.create_task(write())
    for _ in range(8):
        await asyncio.sleep(0.01)
        events = aiter(local.watch({"kinds": ["environment"], "snapshot": True}))
        created: list[str] = []
        synced = 0
        async with asyncio.timeout(30):
            while len(created) < len(names) or not synced:
                event = await anext(events)
                if event.type == CREATED:
                    created.append(event.resource.slug)
                synced += event.type == SYNCED
        # Each exactly once, in order, be it in the snapshot or after it.
        assert created == names[: len(created)]
        assert synced == 1
    await writing


async def test_resources_that_begin_or_cease_to_fit_come_and_go(api: Api, make: Make) -> None:
    events = await begun(api, kinds=["environment"], selector="team=blue, !hidden")
    made = await make(api, "environment", "Staging", labels={"team": "blue"})
    for labels in ({"team": "red"}, {"team": "red", "a": "1"}, {"team": "blue"}, {"team": "blue", "a": "1"}):
        await label(api, made, **labels)
    await label(api, made, team="blue", hidden="yes")
    await make(api, "environment", "Other", labels={"team": "red"})
    await label(api, made, team="blue")
    await api("environment", "delete", {"resourceId": made.metadata.id})
    found = await take(events, 7)
    assert [event.type for event in found] == [CREATED, DELETED, CREATED, UPDATED, DELETED, CREATED, DELETED]
    assert {event.resource.id for event in found} == {made.metadata.id}
    assert not found[1].HasField("state")


async def test_only_the_organization_that_is_meant_is_told(local: Api, make: Make) -> None:
    events = await begun(local, kinds=["environment"], org="acme")
    await make(local, "environment", "foreign", org="local")
    own = await make(local, "environment", "own", org="acme")
    assert [told(event) for event in await take(events, 1)] == [(CREATED, "environment", own.metadata.id)]
    snapshot = aiter(local.watch({"kinds": ["environment"], "org": "acme", "snapshot": True}))
    assert [event.type for event in await take(snapshot, 2)] == [CREATED, SYNCED]


async def test_a_caller_of_one_organization_watches_nothing_of_others(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        foreign = await make(api, "environment", "foreign", org="local")
        resources = api.app.resources.on_behalf_of(Call(caller=Caller(id="key-1", org="acme")))
        watches = Watches(resources)
        kinds = [resources.kinds["environment"]]
        by_id = watch(resources, watches, Watching(kinds=kinds, id=foreign.metadata.id, snapshot=True))
        assert [event.type for event in await take(by_id, 1)] == [EventType.SYNCED]
        every = watch(resources, watches, Watching(kinds=kinds, snapshot=True))
        assert [event.type for event in await take(every, 1)] == [EventType.SYNCED]
        await label(api, foreign, a="1")
        await api("environment", "delete", {"resourceId": foreign.metadata.id})
        # Another resource with the same id, in the caller's own organization: of the first it learns nothing.
        request = manifest("environment", "own", {"data": {}}, org="acme", id=foreign.metadata.id)
        await api("environment", "create", request)
        for events in (every, by_id):
            (event,) = await take(events, 1)
            assert (event.type, event.org) == (EventType.CREATED, "acme")
        with pytest.raises(DeniedError):
            await anext(watch(resources, watches, Watching(org="local")))
        outsider = api.app.resources.on_behalf_of(Call(caller=Caller(id="key-2", org="local")))
        token = (await take(watch(api.app.resources, watches, Watching()), 1))[0].resume_token
        await api("environment", "delete", {"resourceId": foreign.metadata.id})
        await api("environment", "create", manifest("environment", "x", {"data": {}}, id=foreign.metadata.id))
        await api("environment", "delete", {"resourceId": foreign.metadata.id})
        request = manifest("environment", "mine", {"data": {}}, org="acme", id=foreign.metadata.id)
        await api("environment", "create", request)
        events = watch(outsider, watches, Watching(kinds=kinds, resume_token=token))
        found = await take(events, 2)
        assert [(event.type, event.state) for event in found] == [(EventType.CREATED, None), (EventType.DELETED, None)]
        for opened in (every, by_id, events):
            await opened.aclose()


async def test_quiet_watches_say_how_far_they_are(local: Api, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOKMARK_SECONDS", 0.05)
    events = aiter(local.watch({"kinds": ["environment"], "selector": "mine"}))
    (first,) = await take(events, 1)
    for number in range(10):
        await make(local, "environment", f"n{number}")
    while (mark := (await take(events, 1))[0]).resume_token == first.resume_token:
        assert mark.type == BOOKMARK
    assert mark.type == BOOKMARK
    while (later := (await take(events, 1))[0]).resume_token != mark.resume_token:
        mark = later
    # What was passed over is behind the bookmark, and may be forgotten.
    await local.app.resources.store.compact(keep=0)
    own = await make(local, "environment", "own", labels={"mine": "yes"})
    again = aiter(local.watch({"kinds": ["environment"], "selector": "mine", "resumeToken": mark.resume_token}))
    assert told((await take(again, 1))[0]) == (CREATED, "environment", own.metadata.id)
    with pytest.raises(OutOfRangeError, match="start anew with a snapshot"):
        await anext(aiter(local.watch({"resumeToken": first.resume_token})))


async def test_a_token_of_nowhere_is_invalid(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path / "one") as one, serve(tmp_path / "other") as other:
        (mark,) = await take(aiter(one.watch({})), 1)
        await make(one, "environment")
        await make(other, "environment")
        (ahead,) = await take(aiter(one.watch({})), 1)
        token = ahead.resume_token
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        others = [token[:-1] + letter for letter in letters if letter != token[-1]]
        bad_tokens = ["?", "é" * 20, token[:-1], token + "=", " " + token, "A" + token[1:].swapcase(), *others]
        for api, bad in ((other, mark.resume_token), *((one, bad) for bad in bad_tokens)):
            with pytest.raises(InvalidArgumentError) as failure:
                await anext(aiter(api.watch({"resumeToken": bad})))
            assert failure.value.violations[0].field == "resume_token"


async def test_a_token_from_before_a_restored_backup_is_invalid(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        await make(api, "environment", "one")
    backup = (tmp_path / "stigmer.db").read_bytes()
    async with serve(tmp_path) as api:
        await make(api, "environment", "two")
        (mark,) = await take(aiter(api.watch({})), 1)
    (tmp_path / "stigmer.db").write_bytes(backup)
    async with serve(tmp_path) as api:
        with pytest.raises(InvalidArgumentError, match="restored"):
            await anext(aiter(api.watch({"resumeToken": mark.resume_token})))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"kinds": ["environment", "platform"]}, "kinds[1]"),
        ({"kinds": [0]}, "kinds[0]"),
        ({"kinds": [12345]}, "kinds[0]"),
        ({"selector": "a,"}, "selector"),
    ],
)
async def test_a_watch_that_cannot_be_is_invalid(local: Api, request_: dict[str, Any], field: str) -> None:
    request: Any = descriptors.message_type("ai.stigmer.resources.v1.WatchResourcesRequest")
    number = {kind.enum_name: kind.number for kind in descriptors.KINDS}
    message = request(selector=request_.get("selector", ""))
    message.kinds.extend(number.get(kind, kind) for kind in request_.get("kinds", ()))
    with pytest.raises(InvalidArgumentError) as failure:
        await anext(aiter(local.watch(message)))
    assert [violation.field for violation in failure.value.violations] == [field]


async def test_thousands_of_events_of_many_writers_come_once_and_in_order(local: Api) -> None:
    """The reader goes away time and again, and goes on with its last token."""
    total, writers = 2_000, 20
    events = await begun(local, kinds=["environment"])
    events_token = ""

    async def write(writer: int) -> None:
        for number in range(total // writers // 4):
            spec = {"data": {"N": {"value": str(number)}}}
            name = f"w{writer}-{number}"
            made = await local("environment", "create", manifest("environment", name, spec))
            await label(local, made, a="1")
            await label(local, made, b="1")
            await local("environment", "delete", {"resourceId": made.metadata.id})

    writing = asyncio.gather(*(write(writer) for writer in range(writers)))
    seen: list[tuple[int, str, str]] = []
    chance = random.Random(7)
    async with asyncio.timeout(240):
        while len(seen) < total:
            for _ in range(min(chance.randint(1, 180), total - len(seen))):
                event = await anext(events)
                if event.type == BOOKMARK:
                    continue
                seen.append(told(event))
                events_token = event.resume_token
            if len(seen) < total:
                events = aiter(local.watch({"kinds": ["environment"], "resumeToken": events_token}))
    await writing
    changes = local.app.resources.store.watch(after=0, kinds=["environment"])
    types = {"created": CREATED, "updated": UPDATED, "deleted": DELETED}
    expected = [await anext(changes) for _ in range(total)]
    assert seen == [(types[change.operation.value], change.kind, change.id) for change in expected]


async def test_tokens_hold_across_restarts(tmp_path: Path, make: Make) -> None:
    token = ""
    seen: list[str] = []
    for start in range(4):
        async with serve(tmp_path) as api:
            events = aiter(api.watch({"kinds": ["environment"], "resumeToken": token, "snapshot": not token}))
            names = [f"n{start}-{number}" for number in range(10)]
            for name in names:
                await make(api, "environment", name)
            # Half of them are left for after the restart.
            while names[4] not in seen[-1:]:
                (event,) = await take(events, 1)
                if event.type == CREATED:
                    seen.append(event.resource.slug)
                token = event.resume_token
    assert seen == [f"n{start}-{number}" for start in range(4) for number in range(10)][:35]


@pytest.mark.parametrize("transport", ["in-process", "tcp"])
async def test_a_watch_ends_well_with_the_server_and_says_where_to_go_on(
    tmp_path: Path, make: Make, transport: Any
) -> None:
    async with serve(tmp_path, transport=transport, shutdown_grace_seconds=30.0) as api:
        watches = [await begun(api, kinds=["environment"]) for _ in range(3)]
        await make(api, "environment", "before")
        async with asyncio.timeout(10):
            await api.app.__aexit__(None, None, None)
            rest = [[event async for event in events] for events in watches]
    for events in rest:
        assert [event.type for event in events] == [CREATED, BOOKMARK]
    async with serve(tmp_path) as api:
        later = await make(api, "environment", "later")
        events = aiter(api.watch({"kinds": ["environment"], "resumeToken": rest[0][-1].resume_token}))
        assert told((await take(events, 1))[0]) == (CREATED, "environment", later.metadata.id)


async def test_nothing_is_left_of_watches_that_were_given_up(local: Api, make: Make) -> None:
    await make(local, "environment")
    before = len(asyncio.all_tasks())
    for _ in range(100):
        events = local.watch({"snapshot": True})
        await anext(aiter(events))
        events.cancel()
    async with asyncio.timeout(10):
        while len(tasks := asyncio.all_tasks()) > before:
            await asyncio.wait(tasks - {asyncio.current_task()}, return_when=asyncio.FIRST_COMPLETED)


async def test_a_state_is_encoded_once_for_all_watches(local: Api, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from stigmer_server import watches as shared

    encoded: list[str] = []
    original = shared._encoded

    def counted(kind: Any, wire: bytes) -> bytes:
        encoded.append(kind.name)
        return original(kind, wire)

    monkeypatch.setattr(shared, "_encoded", counted)
    watches = [await begun(local, kinds=["environment"]) for _ in range(30)]
    await make(local, "environment")
    found = await asyncio.gather(*(take(events, 1) for events in watches))
    assert len({event.state.SerializeToString(deterministic=True) for (event,) in found}) == 1
    assert encoded == ["environment"]


async def test_the_feed_is_kept_short_while_writers_write(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "INTERVAL_SECONDS", 0.05)
    async with serve(tmp_path, changes_kept=100) as api:
        (mark,) = await take(aiter(api.watch({})), 1)
        await asyncio.gather(*(make(api, "environment", f"n{number}") for number in range(1500)))
        store = api.app.resources.store
        last = await store.last_sequence()
        async with asyncio.timeout(20):
            while not await _is_compacted(store, after=last - 101):  # noqa: ASYNC110 # compaction tells nobody
                await asyncio.sleep(0.05)
        assert not await _is_compacted(store, after=last - 100)
        with pytest.raises(OutOfRangeError, match="start anew with a snapshot"):
            await anext(aiter(api.watch({"resumeToken": mark.resume_token})))
        assert (await api.list_all({"kind": "environment"})).total_count == 1500


async def _is_compacted(store: Any, *, after: int) -> bool:
    try:
        async with asyncio.timeout(5):
            await anext(store.watch(after=after))
    except CompactedError:
        return True
    return False
