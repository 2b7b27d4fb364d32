"""Events: published, listed and followed."""

from __future__ import annotations

from typing import Any

import pytest

_PUBLISH = "EventController/publish"
_LIST = "EventController/list"
_SUBSCRIBE = "EventController/subscribe"


@pytest.mark.rpc(_PUBLISH)
@pytest.mark.rpc(_LIST)
@pytest.mark.rpc(_SUBSCRIBE)
def test_events_are_delivered_once_and_in_order(client: Any) -> None:
    request = {"org": client.org, "types": ["com.example.*"]}
    live = client.stream(_SUBSCRIBE, request)
    begun = next(live)
    assert (begun.HasField("event"), bool(begun.resume_token)) == (False, True)
    events = [
        {"id": str(number), "source": "/shop", "type": "com.example.order", "jsonData": {"n": number}}
        for number in range(3)
    ]
    published = client(_PUBLISH, {"org": client.org, "events": events})
    assert (published.accepted, published.duplicates) == (3, 0)
    delivered = [next(live) for _ in events]
    live.close()
    assert [delivery.event.id for delivery in delivered] == ["0", "1", "2"]
    again = client(_PUBLISH, {"org": client.org, "events": [*events, {"source": "/shop", "type": "other"}]})
    assert (again.accepted, again.duplicates) == (1, 3)
    resumed = client.stream(_SUBSCRIBE, {**request, "resumeToken": delivered[0].resume_token})
    assert [next(resumed).event.id for _ in range(3)] == ["", "1", "2"]
    resumed.close()
    kept = client.stream(_SUBSCRIBE, {**request, "fromStart": True})
    assert [next(kept).event.id for _ in range(4)] == ["", "0", "1", "2"]
    kept.close()
    listed = client(_LIST, {"org": client.org, "type": "com.example.order", "pageSize": 2})
    assert [entry.id for entry in listed.entries] == ["2", "1"]
    rest = {"org": client.org, "type": "com.example.order", "pageToken": listed.next_page_token}
    assert [entry.id for entry in client(_LIST, rest).entries] == ["0"]


@pytest.mark.rpc(_PUBLISH, "INVALID_ARGUMENT")
@pytest.mark.rpc(_LIST, "INVALID_ARGUMENT")
@pytest.mark.rpc(_SUBSCRIBE, "INVALID_ARGUMENT")
def test_what_is_no_event_is_refused_with_all_others(client: Any) -> None:
    good = {"id": "good", "source": "/shop", "type": "order"}
    for bad, field in (
        ({"source": "no uri"}, "events[1].source"),
        ({"type": ""}, "events[1].type"),
        ({"extensions": {"Upper": "x"}}, "events[1].extensions[Upper]"),
    ):
        request = {"org": client.org, "events": [good, {**good, **bad}]}
        assert set(client.refused(_PUBLISH, request, "INVALID_ARGUMENT").fields) == {field}
    assert len(client(_LIST, {"org": client.org}).entries) == 0
    assert set(client.refused(_LIST, {}, "INVALID_ARGUMENT").fields) == {"org"}
    request = {"org": client.org, "resumeToken": "of somebody else"}
    assert set(client.refused(_SUBSCRIBE, request, "INVALID_ARGUMENT").fields) == {"resume_token"}


_RECEIVE = "EventListenerController/receive"


@pytest.mark.rpc(_RECEIVE)
@pytest.mark.rpc(_RECEIVE, "NOT_FOUND")
@pytest.mark.rpc(_RECEIVE, "INVALID_ARGUMENT")
def test_a_run_is_given_the_events_that_it_may_want(client: Any, make: Any) -> None:
    execution = make("workflow_execution")
    request = {"executionId": execution.metadata.id, "listener": "first", "patterns": [{"type": "com.example.*"}]}
    assert client(_RECEIVE, request).waiting
    events = [{"id": str(n), "source": "/shop", "type": kind} for n, kind in enumerate(["com.example.a", "org.b"])]
    client("EventController/publish", {"org": execution.metadata.org, "events": events})
    found = client(_RECEIVE, request)
    assert ['"id":"0"' in event.json for event in found.events] == [True]
    assert client(_RECEIVE, {**request, "after": str(found.events[0].position)}).waiting
    client.refused(_RECEIVE, {**request, "executionId": "wex-none"}, "NOT_FOUND")
    assert set(client.refused(_RECEIVE, {"executionId": "x"}, "INVALID_ARGUMENT").fields) == {"listener"}
