"""CloudEvents over HTTP: in every mode, as the specification has them, and as other people's SDK sends them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from stigmer_grpc import CallContext
from stigmer_protos import descriptors

from stigmer_server.cloud_events import to_json
from stigmer_server.http.cloud_events import BATCH, EVENT, SERVICE
from stigmer_server.http.testing import Stand, serve_handlers
from stigmer_server.messages import to_plain

RESPONSE: Any = descriptors.message_type("ai.stigmer.events.v1.PublishEventsResponse")
DELIVERY: Any = descriptors.message_type("ai.stigmer.events.v1.EventDelivery")
LIST: Any = descriptors.message_type("ai.stigmer.events.v1.EventList")
PATH = "/v1/orgs/acme/events"
SPARE = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"}
HEADERS = {f"ce-{name}": value for name, value in SPARE.items()}


class Taken:
    """What was published, and a service that takes and gives it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        return [to_plain(event) for request in self.requests for event in request.events]

    async def publish(self, request: Any, context: CallContext) -> Any:
        self.requests.append(request)
        return RESPONSE(accepted=len(request.events))

    async def subscribe(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        for taken in self.requests:
            for number, event in enumerate(taken.events):
                yield DELIVERY(event=event, resume_token=f"t{number}")

    async def list(self, request: Any, context: CallContext) -> Any:
        return LIST(entries=[event for taken in self.requests for event in taken.events], next_page_token="more")


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
async def stand(taken: Taken) -> AsyncIterator[Stand]:
    handlers = {"publish": taken.publish, "subscribe": taken.subscribe, "list": taken.list}
    async with serve_handlers({SERVICE: handlers}) as served:
        yield served


async def post(stand: Stand, content: Any, media_type: str, **headers: str) -> httpx2.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await stand.client.post(PATH, content=body, headers={"content-type": media_type, **headers})


FULL = {
    **SPARE,
    "subject": "order-7",
    "time": "2026-01-31T12:00:00.123456789Z",
    "datacontenttype": "application/json",
    "dataschema": "https://schemas.example/order",
    "traceparent": "00-1-2-01",
    "count": 7,
    "test": True,
    "data": {"total": 3, "items": [1, None, "x"]},
}


async def test_one_event_as_a_body(stand: Stand, taken: Taken) -> None:
    response = await post(stand, FULL, f"{EVENT}; charset=utf-8")
    assert response.status_code == 200, response.text
    assert response.json() == {"accepted": 1}
    assert taken.requests[0].org == "acme"
    assert taken.events == [
        {
            "id": "1",
            "source": "/shop",
            "specVersion": "1.0",
            "type": "order.placed",
            "subject": "order-7",
            "time": "2026-01-31T12:00:00.123456789Z",
            "dataContentType": "application/json",
            "dataSchema": "https://schemas.example/order",
            "extensions": {"traceparent": "00-1-2-01", "count": "7", "test": "true"},
            "jsonData": {"total": 3, "items": [1, None, "x"]},
        }
    ]


async def test_many_events_as_a_body(stand: Stand, taken: Taken) -> None:
    response = await post(stand, [{**SPARE, "id": str(number)} for number in range(3)], BATCH)
    assert response.json() == {"accepted": 3}
    assert [event["id"] for event in taken.events] == ["0", "1", "2"]


async def test_an_event_in_headers(stand: Stand, taken: Taken) -> None:
    response = await post(
        stand, {"total": 3}, "application/json", **HEADERS, **{"ce-time": "2026-01-31T12:00:00Z", "CE-Region": "eu"}
    )
    assert response.status_code == 200, response.text
    (event,) = taken.events
    assert event["extensions"] == {"region": "eu"}
    assert event["dataContentType"] == "application/json"
    assert event["jsonData"] == {"total": 3}


@pytest.mark.parametrize(
    ("media_type", "body", "field", "value"),
    [
        ("application/json", b'"x"', "jsonData", "x"),
        ("application/vnd.order+json; v=1", b"[1]", "jsonData", [1]),
        ("application/json", b'{"id": 9007199254740993}', "textData", '{"id": 9007199254740993}'),
        ("text/plain; charset=utf-8", "ä".encode(), "textData", "ä"),
        ("text/plain", b"\xff", "binaryData", "/w=="),
        ("application/octet-stream", b"\x00\x01", "binaryData", "AAE="),
        ("application/xml", b"<a/>", "binaryData", "PGEvPg=="),
    ],
)
async def test_the_data_is_what_its_type_says(
    stand: Stand, taken: Taken, media_type: str, body: bytes, field: str, value: Any
) -> None:
    assert (await post(stand, body, media_type, **HEADERS)).status_code == 200
    (event,) = taken.events
    assert event[field] == value
    assert {"jsonData", "textData", "binaryData"} & set(event) == {field}


async def test_an_event_may_have_no_data(stand: Stand, taken: Taken) -> None:
    assert (await stand.client.post(PATH, headers=HEADERS)).status_code == 200
    assert (await post(stand, SPARE, EVENT)).status_code == 200
    for event in taken.events:
        assert not {"jsonData", "textData", "binaryData", "dataContentType"} & set(event)


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        ({"data": "x"}, "jsonData", "x"),
        ({"data": None}, "jsonData", None),
        ({"data": "x", "datacontenttype": "text/plain"}, "textData", "x"),
        ({"data": {"a": 1}, "datacontenttype": "text/plain"}, "jsonData", {"a": 1}),
        ({"data_base64": "AAE="}, "binaryData", "AAE="),
    ],
)
async def test_the_data_of_a_body_is_what_its_type_says(
    stand: Stand, taken: Taken, event: dict[str, Any], field: str, value: Any
) -> None:
    assert (await post(stand, {**SPARE, **event}, EVENT)).status_code == 200
    assert taken.events[0][field] == value


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ('"Euro%20%E2%82%AC"', "Euro €"),
        (r'"a \"b\" \\ c"', r'a "b" \ c'),
        ("a%2525", "a%25"),
        ("plain/text:with?marks", "plain/text:with?marks"),
        ('"unclosed', '"unclosed'),
    ],
)
async def test_headers_are_decoded_once(stand: Stand, taken: Taken, header: str, text: str) -> None:
    assert (await stand.client.post(PATH, headers={**HEADERS, "ce-subject": header})).status_code == 200
    assert taken.events[0]["subject"] == text


@pytest.mark.parametrize("header", [b"%", b"%zz", b"%C3%28", b"\xff"])
async def test_headers_that_cannot_be_decoded_are_told(stand: Stand, taken: Taken, header: bytes) -> None:
    headers = [*((name.encode(), value.encode()) for name, value in HEADERS.items()), (b"ce-subject", header)]
    response = await stand.client.post(PATH, headers=headers)
    assert response.status_code == 400
    assert response.json()["violations"][0]["field"] == "ce-subject"
    assert taken.requests == []


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"id": None}, "events[0].id"),
        ({"source": ""}, "events[0].source"),
        ({"specversion": "0.3"}, "events[0].spec_version"),
        ({"type": 5}, "events[0].type"),
        ({"type": {}}, "events[0].type"),
        ({"Upper": "x"}, "events[0].Upper"),
        ({"with-hyphen": "x"}, "events[0].with-hyphen"),
        ({"big": 2**31}, "events[0].big"),
        ({"part": 0.5}, "events[0].part"),
        ({"time": "yesterday"}, "events[0].time"),
        ({"data": 1, "data_base64": "AAE="}, "events[0]"),
        ({"data_base64": "?"}, "events[0].binary_data"),
        ({"data": {"id": 2**53 + 1}}, 'events[0].json_data["id"]'),
    ],
)
async def test_an_event_that_is_none_is_told(stand: Stand, taken: Taken, event: dict[str, Any], field: str) -> None:
    response = await post(stand, {**SPARE, **event}, EVENT)
    assert response.status_code == 400, response.text
    assert field in [violation["field"] for violation in response.json()["violations"]]
    assert taken.requests == []


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        ([], EVENT, 400),
        ("x", EVENT, 400),
        ({}, BATCH, 400),
        ([1], BATCH, 400),
        ([], BATCH, 400),
        (SPARE, "application/cloudevents+avro", 415),
        (SPARE, "application/cloudevents", 415),
        (b"{", EVENT, 400),
        (SPARE, "text/plain", 415),
    ],
)
async def test_a_body_that_holds_no_events_is_told(
    stand: Stand, taken: Taken, content: Any, media_type: str, status: int
) -> None:
    assert (await post(stand, content, media_type)).status_code == status
    assert taken.requests == []


async def test_the_type_of_the_data_is_said_once(stand: Stand) -> None:
    headers = {**HEADERS, "ce-datacontenttype": "text/plain"}
    assert (await stand.client.post(PATH, headers=headers)).status_code == 400


async def test_the_message_of_the_call_is_taken_too(stand: Stand, taken: Taken) -> None:
    plain = {"events": [{"source": "/shop", "type": "order.placed", "textData": "x"}]}
    assert (await stand.client.post(PATH, json=plain)).status_code == 200
    assert taken.events == plain["events"]


@pytest.mark.parametrize("mode", [to_binary, to_structured])
@pytest.mark.parametrize("data", [{"total": 3, "name": "ä"}, "text", b"\x00\xff", None])
async def test_what_the_sdk_sends_comes_as_it_was(stand: Stand, taken: Taken, mode: Any, data: Any) -> None:
    content: Any = data
    kind = "application/json" if isinstance(data, dict) else "text/plain" if isinstance(data, str) else "application/x"
    time = datetime(2026, 1, 31, 12, tzinfo=UTC)
    attributes = {**SPARE, "subject": "größe 1%", "time": time, "datacontenttype": kind, "region": "eu west"}
    message: HTTPMessage = mode(CloudEvent(attributes=attributes, data=content), JSONFormat())
    response = await stand.client.post(PATH, content=message.body, headers=message.headers)
    assert response.status_code == 200, response.text
    (event,) = taken.events
    assert (event["subject"], event["time"], event["extensions"]) == (
        "größe 1%", "2026-01-31T12:00:00Z", {"region": "eu west"},
    )  # fmt: skip
    encoded = base64.b64encode(data).decode() if isinstance(data, bytes) else None
    assert event.get("jsonData", event.get("textData", event.get("binaryData"))) in (data, encoded)


async def test_followers_get_events_in_their_own_format(stand: Stand, taken: Taken) -> None:
    await post(stand, FULL, EVENT)
    response = await stand.client.get(f"{PATH}:subscribe")
    lines = response.text.split("\n")
    assert "id: t0" in lines
    data = next(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    assert json.loads(data) == {**FULL, "count": "7", "test": "true"}


async def test_a_list_is_a_batch_for_those_who_ask_for_one(stand: Stand, taken: Taken) -> None:
    await post(stand, [{**SPARE, "data_base64": "AAE="}, {**SPARE, "id": "2"}], BATCH)
    asked = await stand.client.get(PATH, headers={"accept": BATCH})
    assert asked.headers["content-type"] == BATCH
    assert asked.headers["x-next-page-token"] == "more"
    assert asked.json() == [{**SPARE, "data_base64": "AAE="}, {**SPARE, "id": "2"}]
    plain = await stand.client.get(PATH)
    assert plain.json()["nextPageToken"] == "more"


def test_an_event_without_a_version_is_of_the_one_there_is() -> None:
    event = descriptors.message_type("ai.stigmer.events.v1.CloudEvent")(id="1", source="/here", type="made")
    assert to_json(event) == {"specversion": "1.0", "id": "1", "source": "/here", "type": "made"}
