"""Events: taken whole or not at all, kept once, and delivered in order and once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError, OutOfRangeError
from stigmer_protos import descriptors
from stigmer_sqlite.errors import StoreUnavailableError

from stigmer_server import cloud_events, event_retention
from stigmer_server.calls import Call, Caller
from stigmer_server.cloud_events import Selection
from stigmer_server.commands.publish import publish
from stigmer_server.errors import DeniedError, InvalidError
from stigmer_server.event_retention import Retention, retain
from stigmer_server.queries import subscribe_events as module
from stigmer_server.queries.list_events import list_events
from stigmer_server.queries.subscribe_events import subscribe_events
from stigmer_server.testing import Api, serve
from stigmer_server.watches import Watches

EVENT: Any = descriptors.message_type("ai.stigmer.events.v1.CloudEvent")
SERVICE = "ai.stigmer.events.v1.EventController"


def event(id: str = "", **fields: Any) -> dict[str, Any]:
    return {"id": id, "source": "/shop", "type": "com.example.order.placed", **fields}


async def send(api: Api, *events: dict[str, Any], org: str = "local", **options: Any) -> Any:
    return await api.channel.service(SERVICE).unary("publish", {"org": org, "events": events}, **options)


async def stored(api: Api, **request: Any) -> Any:
    return await api.channel.service(SERVICE).unary("list", {"org": "local", **request})


async def follow(api: Api, **request: Any) -> Any:
    """Return a subscription that has begun."""
    deliveries = aiter(api.channel.service(SERVICE).stream("subscribe", {"org": "local", **request}))
    (first,) = await take(deliveries, 1)
    assert (first.HasField("event"), bool(first.resume_token)) == (False, True)
    return deliveries


async def take(deliveries: Any, number: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(deliveries) for _ in range(number)]


async def ids(deliveries: Any, number: int) -> list[str]:
    return [delivery.event.id for delivery in await take(deliveries, number)]


async def test_an_event_comes_as_it_was_published(api: Api) -> None:
    deliveries = await follow(api)
    full = {
        "id": "1",
        "source": "https://shop.example/orders?x=1",
        "specVersion": "1.0",
        "type": "com.example.order.placed",
        "subject": "order 7",
        "time": "2026-01-02T03:04:05.678Z",
        "dataContentType": "application/json; charset=utf-8",
        "dataSchema": "https://shop.example/schema",
        "extensions": {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "region2": "eu"},
        "jsonData": {"total": 12.5, "items": [1, None, {"a": True}]},
    }
    events = [full, event("2", textData="plain"), event("3", binaryData="AP8="), event("4", jsonData=None), event("5")]
    published = await send(api, *events)
    assert (published.accepted, published.duplicates) == (5, 0)
    expected = [api_message(one) for one in events]
    for one in expected:
        one.spec_version = "1.0"
    found = [delivery.event for delivery in await take(deliveries, 5)]
    for one, wanted in zip(found, expected, strict=True):
        if not wanted.HasField("time"):
            assert one.HasField("time")
            one.ClearField("time")
        assert one == wanted
    assert [entry.id for entry in (await stored(api)).entries] == ["5", "4", "3", "2", "1"]
    assert (await stored(api)).entries[-1] == expected[0]


def api_message(content: dict[str, Any]) -> Any:
    from google.protobuf import json_format

    return json_format.ParseDict(content, EVENT())


async def test_what_is_left_out_is_made_by_the_server(local: Api) -> None:
    deliveries = await follow(local)
    await send(local, event(), event())
    first, second = (delivery.event for delivery in await take(deliveries, 2))
    assert len({first.id, second.id, ""}) == 3
    assert first.spec_version == "1.0"
    assert second.time.ToMicroseconds() >= first.time.ToMicroseconds() > 0


async def test_an_event_is_taken_once(local: Api) -> None:
    deliveries = await follow(local)
    assert (await send(local, event("1", textData="first"))).accepted == 1
    again = await send(local, event("1", textData="other"), event("2"), event("2"))
    assert (again.accepted, again.duplicates) == (1, 2)
    # Another source, and another organization, have ids of their own.
    assert (await send(local, event("1", source="/other"))).accepted == 1
    assert (await send(local, event("1"), org="acme")).accepted == 1
    assert await ids(deliveries, 3) == ["1", "2", "1"]
    assert [entry.text_data for entry in (await stored(local, source="/shop")).entries] == ["", "first"]
    repeated = await send(local, event("1"), event("2"))
    assert (repeated.accepted, repeated.duplicates) == (0, 2)
    assert repeated.resume_token == again.resume_token


async def test_a_subscriber_goes_on_after_what_was_published(local: Api) -> None:
    await send(local, event("1"))
    published = await send(local, event("2"), event("3"))
    await send(local, event("4"))
    deliveries = await follow(local, resumeToken=published.resume_token)
    assert await ids(deliveries, 1) == ["4"]


async def test_subscribers_get_what_they_mean(local: Api) -> None:
    await send(
        local,
        event("1", type="shop.order.placed", subject="a"),
        event("2", type="shop.order.shipped", subject="b"),
        event("3", type="shop.orders", source="/other", subject="a"),
        event("4", type="*", subject="a"),
    )
    await send(local, event("5"), org="acme")
    for request, expected in (
        ({}, "1234"),
        ({"types": ["shop.order.placed"]}, "1"),
        ({"types": ["shop.order.placed", "shop.orders"]}, "13"),
        ({"types": ["shop.order.*"]}, "12"),
        ({"types": ["shop.*", "other"]}, "123"),
        ({"types": ["*"]}, "1234"),
        ({"types": ["order"]}, ""),
        ({"source": "/other"}, "3"),
        ({"subject": "a", "source": "/shop"}, "14"),
        ({"subject": "a", "types": ["shop.*"]}, "13"),
    ):
        deliveries = await follow(local, fromStart=True, **request)
        live = await follow(local, **request)
        mark = event(f"end of {request}", type="shop.order.placed", subject="a", source="/end")
        assert await ids(deliveries, len(expected)) == list(expected)
        if "source" not in request and request.get("types") != ["order"]:
            # What is meant does not depend on whether it was there already.
            await send(local, mark)
            assert await ids(deliveries, 1) == await ids(live, 1) == [mark["id"]]
            await local.app.resources.store.delete(cloud_events.EVENT, await _record_id(local, mark["id"]))


async def _record_id(api: Api, id: str) -> str:
    page = await api.app.resources.store.list(cloud_events_query())
    return next(record.id for record in page.records if cloud_events.parse(record.wire or b"").id == id)


def cloud_events_query() -> Any:
    from stigmer_sqlite import Query

    return Query(kind=cloud_events.EVENT)


async def test_events_are_correlated_by_their_attributes(local: Api) -> None:
    await send(local, event("1", extensions={"order": "7"}), event("2", extensions={"order": "8"}))
    resources = local.app.resources
    selection = Selection(org="local", types=["com.example.*"], attributes={"order": "8"})
    deliveries = subscribe_events(resources, Watches(resources), selection, from_start=True)
    mark, found = await take(deliveries, 2)
    assert mark.event is None
    assert cloud_events.parse(found.event).id == "2"
    await deliveries.aclose()


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"source": ""}, "source", "required"),
    ({"source": "no uri"}, "source", "string.uri_ref"),
    ({"type": ""}, "type", "required"),
    ({"type": "a\u0007b"}, "type", "event.text"),
    ({"type": "x" * 1025}, "type", "string.max_len"),
    ({"id": "a\nb"}, "id", "event.text"),
    ({"subject": "\ufdd0"}, "subject", "event.text"),
    ({"subject": "\U0001ffff"}, "subject", "event.text"),
    ({"specVersion": "0.3"}, "spec_version", "string.pattern"),
    ({"dataContentType": "json"}, "data_content_type", "event.media_type"),
    ({"dataContentType": "a/b; c"}, "data_content_type", "event.media_type"),
    ({"dataSchema": "/relative"}, "data_schema", "string.uri"),
    ({"extensions": {"Upper": "x"}}, "extensions[Upper]", "event.extension_name"),
    ({"extensions": {"with_underscore": "x"}}, "extensions[with_underscore]", "event.extension_name"),
    ({"extensions": {"": "x"}}, "extensions[]", "event.extension_name"),
    ({"extensions": {"source": "x"}}, "extensions[source]", "event.extension_name"),
    ({"extensions": {"data": "x"}}, "extensions[data]", "event.extension_name"),
    ({"extensions": {"ok": "\u0000"}}, "extensions[ok]", "event.text"),
    ({"extensions": {f"e{n}": "x" for n in range(65)}}, "extensions", "event.extensions"),
    ({"textData": "x" * 2**20}, "", "event.size"),
]


@pytest.mark.parametrize(("fields", "path", "rule"), BAD)
async def test_an_event_that_breaks_a_rule_is_refused_with_all_others(
    local: Api, fields: dict[str, Any], path: str, rule: str
) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        await send(local, event("good"), event("bad", **fields) if "id" not in fields else event(**fields))
    (violation,) = failure.value.violations
    assert (violation.field, violation.rule_id) == (f"events[1]{'.' if path else ''}{path}", rule)
    assert len((await stored(local)).entries) == 0


@pytest.mark.parametrize("change", ["time", "nan", "seconds"])
async def test_values_without_a_json_form_are_refused(local: Api, change: str) -> None:
    message = EVENT(id="1", source="/shop", type="x")
    match change:
        case "time":
            message.time.seconds = 2**50
        case "seconds":
            message.time.nanos = 2**31 - 1
        case _:
            message.json_data.list_value.values.add().number_value = float("nan")
    request: Any = descriptors.message_type("ai.stigmer.events.v1.PublishEventsRequest")(org="local", events=[message])
    with pytest.raises(InvalidArgumentError) as failure:
        await local.channel.service(SERVICE).unary("publish", request)
    expected = "events[0].json_data" if change == "nan" else "events[0].time"
    assert [violation.field for violation in failure.value.violations] == [expected]


async def test_a_request_without_events_or_with_too_many_is_refused(local: Api) -> None:
    for events in ([], [event(str(n)) for n in range(1001)]):
        with pytest.raises(InvalidArgumentError) as failure:
            await send(local, *events)
        assert failure.value.violations[0].field == "events"
    assert (await send(local, *(event(str(n)) for n in range(1000)))).accepted == 1000


async def test_every_accepted_media_type_is_one(local: Api) -> None:
    for number, text in enumerate(
        ["text/plain", "application/cloudevents+json; charset=utf-8", 'a/b;c="d e";f=g', "A/B", "a/b ; c=d "]
    ):
        assert (await send(local, event(str(number), dataContentType=text))).accepted == 1


async def test_a_dry_run_publishes_nothing(local: Api) -> None:
    published = await send(local, event("1"), metadata={"x-stigmer-dry-run": "true"})
    assert (published.accepted, published.resume_token) == (1, "")
    assert len((await stored(local)).entries) == 0


async def test_events_are_listed_page_by_page_newest_first(local: Api) -> None:
    for number in range(7):
        await send(local, event(str(number), type=f"t{number % 2}", source=f"/s{number % 3}"))
    seen: list[str] = []
    token = ""
    while True:
        page = await stored(local, pageSize=3, pageToken=token)
        seen += [entry.id for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
        await send(local, event(f"new {token}"))
    assert seen == [str(number) for number in range(6, -1, -1)]
    assert [entry.id for entry in (await stored(local, type="t1", source="/s0")).entries] == ["3"]
    assert [entry.id for entry in (await stored(local, type="t*")).entries] == []
    for request in ({"pageToken": "?"}, {"pageSize": 1001}, {"pageSize": -1}, {"org": ""}):
        with pytest.raises(InvalidArgumentError):
            await stored(local, **request)


async def test_large_events_make_short_pages(local: Api) -> None:
    for number in range(12):
        await send(local, event(str(number), textData="x" * 1_000_000))
    first = await stored(local)
    rest = await stored(local, pageToken=first.next_page_token)
    assert [entry.id for entry in (*first.entries, *rest.entries)] == [str(n) for n in range(11, -1, -1)]
    assert len(first.entries) == 8
    deliveries = await follow(local, fromStart=True)
    assert await ids(deliveries, 12) == [str(n) for n in range(12)]


async def test_thousands_of_events_of_many_publishers_come_once_and_in_order(local: Api) -> None:
    """The subscriber goes away time and again, and goes on with its last token."""
    total, publishers = 3_000, 20
    deliveries = await follow(local)
    token = ""

    async def write(publisher: int) -> None:
        sent = 0
        while sent < total // publishers:
            batch = min(random.Random(publisher * 1000 + sent).randint(1, 40), total // publishers - sent)
            await send(local, *(event(f"{publisher}-{sent + n}") for n in range(batch)))
            sent += batch

    writing = asyncio.gather(*(write(publisher) for publisher in range(publishers)))
    seen: list[str] = []
    chance = random.Random(7)
    async with asyncio.timeout(240):
        while len(seen) < total:
            for _ in range(min(chance.randint(1, 270), total - len(seen))):
                delivery = await anext(deliveries)
                token = delivery.resume_token
                if delivery.HasField("event"):
                    seen.append(delivery.event.id)
            if len(seen) < total:
                deliveries = await follow(local, resumeToken=token)
    await writing
    expected: list[str] = []
    page_token = ""
    while True:
        page = await stored(local, pageSize=1000, pageToken=page_token)
        expected += [entry.id for entry in page.entries]
        page_token = page.next_page_token
        if not page_token:
            break
    assert seen == expected[::-1]
    for publisher in range(publishers):
        own = [id for id in seen if id.startswith(f"{publisher}-")]
        assert own == [f"{publisher}-{n}" for n in range(total // publishers)]


async def test_events_and_tokens_hold_across_restarts(tmp_path: Path) -> None:
    token = ""
    seen: list[str] = []
    for start in range(4):
        async with serve(tmp_path) as api:
            deliveries = await follow(api, resumeToken=token, fromStart=True)
            await send(api, *(event(f"{start}-{n}") for n in range(10)))
            # Half of them are left for after the restart.
            for delivery in await take(deliveries, 5 if not start else 10):
                seen.append(delivery.event.id)
                token = delivery.resume_token
    assert seen == [f"{start}-{n}" for start in range(4) for n in range(10)][:35]


async def test_events_outlive_the_feed_that_told_of_them(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        first = await send(api, event("1"))
        await send(api, *(event(str(n)) for n in range(2, 6)))
        await api.app.resources.store.compact(keep=0)
        assert await ids(await follow(api, resumeToken=first.resume_token), 4) == ["2", "3", "4", "5"]
        assert await ids(await follow(api, fromStart=True), 5) == ["1", "2", "3", "4", "5"]


async def test_a_subscriber_that_the_feed_outruns_catches_up(local: Api) -> None:
    deliveries = await follow(local)
    await send(local, event("first"))
    assert await ids(deliveries, 1) == ["first"]
    for batch in range(6):
        await send(local, *(event(f"{batch}-{n}") for n in range(500)))
    await local.app.resources.store.compact(keep=0)
    await send(local, event("last"))
    assert await ids(deliveries, 3001) == [*(f"{b}-{n}" for b in range(6) for n in range(500)), "last"]


async def test_events_are_dropped_by_count_and_subscribers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_retention, "INTERVAL_SECONDS", 0.05)
    async with serve(tmp_path, events_kept=250) as api:
        first = await send(api, event("first"))
        other = await send(api, event("other"), org="acme")
        published = [await send(api, *(event(f"{batch}-{n}") for n in range(200))) for batch in range(3)]
        await _until_kept(api, 250)
        entries = (await stored(api, pageSize=1000)).entries
        assert entries[-1].id == "1-150"
        for token in (first.resume_token, published[0].resume_token):
            with pytest.raises(OutOfRangeError, match="from the start"):
                await follow(api, resumeToken=token)
        deliveries = await follow(api, resumeToken=published[1].resume_token)
        assert (await ids(deliveries, 200))[-1] == "2-199"
        assert (await ids(await follow(api, fromStart=True), 250))[0] == "1-150"
        # Organizations do not take each other's room.
        assert len((await stored(api, org="acme")).entries) == 1
        await follow(api, org="acme", resumeToken=other.resume_token)
        # What was dropped may come again.
        assert (await send(api, event("first"))).accepted == 1


async def _until_kept(api: Api, number: int) -> None:
    async with asyncio.timeout(20):
        while len((await stored(api, pageSize=1000)).entries) != number:  # noqa: ASYNC110 - retention tells nobody
            await asyncio.sleep(0.02)


async def test_events_are_dropped_by_age(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        old = await send(api, *(event(f"old {n}") for n in range(150)))
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        database.execute(
            "UPDATE resources SET updated_at = '2020-01-01T00:00:00.000000+00:00' WHERE kind = 'cloud_event'"
        )
    database.close()
    async with serve(tmp_path) as api:
        await send(api, event("young"))
        await _until_kept(api, 1)
        assert [entry.id for entry in (await stored(api)).entries] == ["young"]
        # All that was lost is before the token.
        assert await ids(await follow(api, resumeToken=old.resume_token), 1) == ["young"]


async def test_a_slow_subscriber_is_told_what_it_missed(local: Api) -> None:
    deliveries = await follow(local)
    for batch in range(3):
        await send(local, *(event(f"{batch}-{n}", textData="x" * 1000) for n in range(1000)))
    store = local.app.resources.store
    running = asyncio.create_task(retain(store, Retention(count=10, age=timedelta(days=1))))
    await _until_kept(local, 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    seen: list[str] = []

    async def read() -> None:
        async for delivery in deliveries:
            seen.append(delivery.event.id)  # noqa: PERF401 - what was got before the error counts

    async with asyncio.timeout(20):
        with pytest.raises(OutOfRangeError):
            await read()
    assert seen == [f"{b}-{n}" for b in range(3) for n in range(1000)][: len(seen)]


async def test_what_could_not_be_dropped_is_dropped_later(local: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_retention, "INTERVAL_SECONDS", 0.01)
    await send(local, *(event(str(n)) for n in range(20)))

    class FailsOnce:
        failed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(local.app.resources.store, name)

        async def transact(self, work: Any) -> Any:
            if not self.failed:
                self.failed = True
                raise StoreUnavailableError("the disk is full")
            return await local.app.resources.store.transact(work)

    store: Any = FailsOnce()
    running = asyncio.create_task(retain(store, Retention(count=5, age=timedelta(days=1))))
    await _until_kept(local, 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.failed


async def test_quiet_subscriptions_keep_their_place(local: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOKMARK_SECONDS", 0.05)
    deliveries = await follow(local, types=["rare"])
    first = (await take(deliveries, 1))[0]
    await send(local, *(event(str(n)) for n in range(100)))
    while (mark := (await take(deliveries, 1))[0]).resume_token == first.resume_token:
        assert not mark.HasField("event")
    while (later := (await take(deliveries, 1))[0]).resume_token != mark.resume_token:
        mark = later
    running = asyncio.create_task(retain(local.app.resources.store, Retention(count=1, age=timedelta(days=1))))
    await _until_kept(local, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await send(local, event("rare one", type="rare"))
    again = aiter(
        local.channel.service(SERVICE).stream(
            "subscribe", {"org": "local", "types": ["rare"], "resumeToken": mark.resume_token}
        )
    )
    assert await _first_event(again) == "rare one"
    with pytest.raises(OutOfRangeError):
        await follow(local, types=["rare"], resumeToken=first.resume_token)


async def _first_event(deliveries: Any) -> str:
    async with asyncio.timeout(20):
        while not (delivery := await anext(deliveries)).HasField("event"):
            pass
    return delivery.event.id


async def test_a_token_of_nowhere_is_invalid(tmp_path: Path) -> None:
    async with serve(tmp_path / "one") as one, serve(tmp_path / "other") as other:
        published = await send(one, event("1"))
        await send(other, event("1"))
        watched = await anext(aiter(one.watch({})))
        for api, token in ((other, published.resume_token), (one, watched.resume_token), (one, "?")):
            with pytest.raises(InvalidArgumentError) as failure:
                await follow(api, resumeToken=token)
            assert failure.value.violations[0].field == "resume_token"


@pytest.mark.parametrize("transport", ["in-process", "tcp"])
async def test_a_subscription_ends_well_with_the_server(tmp_path: Path, transport: Any) -> None:
    async with serve(tmp_path, transport=transport, shutdown_grace_seconds=30.0) as api:
        deliveries = [await follow(api) for _ in range(3)]
        await send(api, event("before"))
        async with asyncio.timeout(10):
            await api.app.__aexit__(None, None, None)
            rest = [[delivery async for delivery in one] for one in deliveries]
    for one in rest:
        assert [delivery.event.id for delivery in one] == ["before", ""]
    async with serve(tmp_path) as api:
        await send(api, event("after"))
        assert await ids(await follow(api, resumeToken=rest[0][-1].resume_token), 1) == ["after"]


async def test_a_caller_of_one_organization_reaches_no_other(local: Api) -> None:
    every = local.app.resources
    resources = every.on_behalf_of(Call(caller=Caller(id="key-1", org="acme")))
    message = EVENT(source="/shop", type="x")
    assert (await publish(resources, "acme", [message])).accepted == 1
    with pytest.raises(DeniedError):
        await publish(resources, "local", [message])
    with pytest.raises(DeniedError):
        await list_events(resources, "local")
    with pytest.raises(DeniedError):
        await anext(subscribe_events(resources, Watches(resources), Selection(org="local")))


async def test_publishing_within_the_server_holds_events_against_every_rule(local: Api) -> None:
    resources = local.app.resources
    message = EVENT(source="no uri", type="x")
    with pytest.raises(InvalidError) as failure:
        await publish(resources, "local", [EVENT(source="/shop", type="x"), message])
    assert [violation.field for violation in failure.value.violations] == ["events[1].source"]
    published = await publish(
        resources, "local", [EVENT(source="/shop", type="x"), EVENT(id="7", source="/", type="x")]
    )
    assert (published.accepted, published.ids[1]) == (2, "7")
    assert published.ids[0] == (await stored(local)).entries[1].id
    assert message == EVENT(source="no uri", type="x")


async def test_events_are_stored_as_cloud_events_in_json(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        await send(
            api,
            event("1", time="2026-01-02T03:04:05Z", subject="s", extensions={"b": "2", "a": "1"}, jsonData={"n": 3}),
            event("2", binaryData="AP8=", dataContentType="image/png", dataSchema="urn:x:y"),
            event("3", textData="hi"),
        )
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        rows = database.execute("SELECT data FROM resources WHERE kind = 'cloud_event' ORDER BY position").fetchall()
    database.close()
    first, second, third = (json.loads(row[0]) for row in rows)
    common = {"specversion": "1.0", "source": "/shop", "type": "com.example.order.placed"}
    assert first == {
        **common,
        "id": "1",
        "subject": "s",
        "time": "2026-01-02T03:04:05Z",
        "a": "1",
        "b": "2",
        "data": {"n": 3},
    }
    assert second == {
        **common,
        "id": "2",
        "time": second["time"],
        "datacontenttype": "image/png",
        "dataschema": "urn:x:y",
        "data_base64": "AP8=",
    }
    assert third == {**common, "id": "3", "time": third["time"], "data": "hi"}


async def test_events_are_no_resources(local: Api) -> None:
    watch = aiter(local.watch({}))
    await anext(watch)
    await send(local, event("1"))
    made = await local(
        "environment",
        "create",
        {
            "apiVersion": "agentic.stigmer.ai/v1",
            "kind": "Environment",
            "metadata": {"name": "one", "org": "local", "ownerScope": "organization"},
            "spec": {"data": {}},
        },
    )
    async with asyncio.timeout(10):
        assert (await anext(watch)).resource.id == made.metadata.id
