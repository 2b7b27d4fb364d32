"""Events: their JSON format, and publishing and listing them over a server inside this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.cloud_events import read_events, to_json, to_message
from stigmer_cli.errors import InvalidInputError

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "shop.order.placed",
    "subject": "order-1",
    "time": "2026-01-31T12:00:00Z",
    "datacontenttype": "application/json",
    "dataschema": "https://example.com/order",
    "traceparent": "00-x",
    "data": {"amount": 12, "lines": [1, None, "a"]},
}


def items(result: Any) -> list[dict[str, Any]]:
    assert result.code == 0, result.err
    return json.loads(result.out)["items"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"data": "text"},
        {"data": [1, 2]},
        {"data": None},
        {"data": 1.5},
        {"sequence": "7"},
        {"time": "2026-01-31T12:00:00.250Z"},
    ],
)
def test_an_event_comes_back_as_it_was(changed: dict[str, Any]) -> None:
    event = {**EVENT, **changed}
    assert to_json(to_message(event, place="the event")) == event


def test_bytes_and_other_types_of_attributes_are_kept_as_texts() -> None:
    event = {"type": "t", "source": "/s", "id": "1", "data_base64": "AAEC", "sampled": True, "sequence": 7}
    kept = to_json(to_message(event, place="the event"))
    assert kept == {**event, "specversion": "1.0", "sampled": "true", "sequence": "7"}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ([], "an event is an object"),
        ({"type": "t"}, "no source"),
        ({"source": "/s"}, "no type"),
        ({**EVENT, "time": "yesterday"}, "time: 'yesterday' is no time"),
        ({**EVENT, "extra": {}}, "extra: an attribute is a text"),
        ({**EVENT, "data_base64": "?"}, "data_base64 is no base64"),
    ],
)
def test_what_is_no_event_is_refused(event: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^file\.json"):
        to_message(event, place="file.json")
    with pytest.raises(InvalidInputError, match=said):
        to_message(event, place="file.json")


def test_events_are_read_alone_in_lists_and_by_lines() -> None:
    line = json.dumps(EVENT)
    for text, count in ((line, 1), (f"[{line}, {line}]", 2), (f"{line}\n\n{line}\n", 2)):
        assert [to_json(event) for event in read_events(text, name="x")] == [EVENT] * count
    with pytest.raises(InvalidInputError, match=r"^x:2:1: this is not JSON"):
        read_events(f"{line}\nnonsense\n", name="x")
    with pytest.raises(InvalidInputError, match=r"^x:1:1: this is not JSON"):
        read_events("nonsense", name="x")
    with pytest.raises(InvalidInputError, match=r"^x\[1\]: the event has no type"):
        read_events(f'[{line}, {{"source": "/s"}}]', name="x")
    with pytest.raises(InvalidInputError, match="no event"):
        read_events("[]", name="x")


def test_events_are_published_once_and_listed(stigmer: Any, tmp_path: Path) -> None:
    (tmp_path / "events.json").write_text(json.dumps([EVENT, {**EVENT, "id": "2", "type": "shop.order.paid"}]))
    first = stigmer("events", "publish", "-f", tmp_path / "events.json", "-o", "json")
    assert first.code == 0, first.err
    told = json.loads(first.out)
    assert (told["accepted"], told["duplicates"]) == (2, 0)
    assert told["resume_token"]
    again = stigmer("events", "publish", "-f", "-", stdin=json.dumps(EVENT))
    assert (again.code, again.out) == (0, "0 published, 1 known already\n")
    one = stigmer(
        "events", "publish", "--type", "shop.closed", "--source", "/shop", "--data", '{"why": "holiday"}',
        "--extension", "region=eu",
    )  # fmt: skip
    assert (one.code, one.out) == (0, "1 published\n")
    newest, paid, placed = items(stigmer("events", "list", "-o", "json"))
    assert (newest["data"], newest["region"], newest["type"]) == ({"why": "holiday"}, "eu", "shop.closed")
    assert newest["id"]
    assert newest["time"]
    assert (placed, paid["id"]) == (EVENT, "2")
    assert items(stigmer("events", "list", "--type", "shop.order.placed", "-o", "json")) == [EVENT]
    assert stigmer("events", "list", "-n", "1", "-o", "name").out.strip() == newest["id"]
    table = stigmer("events", "list", "--source", "/shop").out.splitlines()
    assert table[0].split() == ["TIME", "TYPE", "SOURCE", "SUBJECT", "ID"]
    assert len(table) == 4
    assert stigmer("events", "list", "--org", "other", "-o", "name").out.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("publish",), 2),
        (("publish", "--type", "t", "-f", "x.json"), 2),
        (("publish", "-f", "/nowhere.json"), 2),
        (("publish", "--type", "t", "--data", "{"), 2),
        (("publish", "--type", "t", "--extension", "x"), 2),
        (("publish", "--type", "t", "--extension", "Not-Allowed=1"), 2),
        (("publish", "--type", "t", "--server", "127.0.0.1:9"), 5),
        (("list", "--server", "127.0.0.1:9"), 5),
        (("subscribe",), 5),
        (("subscribe", "-f", "/"), 2),
    ],
)
def test_trouble_has_its_exit_code(stigmer: Any, arguments: tuple[str, ...], code: int) -> None:
    refused = stigmer("events", *arguments)
    assert (refused.code, refused.out) == (code, "")
    assert refused.err
