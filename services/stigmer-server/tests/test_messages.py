"""JSON text of messages: the same as protobuf's own printer says, except that whole numbers stay whole."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stigmer_protos import descriptors

from stigmer_server.messages import to_json, to_plain, value_to_plain

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.integers(-(2**53), 2**53),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
VALUE: Any = descriptors.message_type("google.protobuf.Value")
STRUCT: Any = descriptors.message_type("google.protobuf.Struct")


def equal(left: Any, right: Any) -> bool:
    """Compare by what JSON can tell: 3 and 3.0 are one number, and true is none."""
    return json.dumps(_numbers(left), sort_keys=True) == json.dumps(_numbers(right), sort_keys=True)


def _numbers(value: Any) -> Any:
    match value:
        case bool() | str() | None:
            return value
        case int() | float():
            return float(value) + 0.0  # JSON tells -0 and 0 apart, and nobody else does
        case list():
            return list(map(_numbers, cast("list[Any]", value)))
        case _:
            return {key: _numbers(item) for key, item in value.items()}


# How long it takes to make an example says something of the machine, and nothing of the code.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_a_value_comes_back_as_it_was(plain: Any) -> None:
    value = VALUE()
    json_format.ParseDict(plain, value)
    assert equal(value_to_plain(value), plain)
    assert equal(json.loads(to_json(value)), plain)


def test_whole_numbers_stay_whole() -> None:
    struct = STRUCT()
    struct.update({"whole": 3.0, "part": 2.5, "large": 1e300, "exact": 2.0**53, "negative": -0.0})
    assert to_json(struct) != to_json(STRUCT())
    plain = to_plain(struct)
    assert {name: type(value) for name, value in plain.items()} == {
        "whole": int,
        "part": float,
        "large": float,
        "exact": int,
        "negative": int,
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_say_is_refused(number: float) -> None:
    value = VALUE(number_value=number)
    with pytest.raises(ValueError, match="finite"):
        to_json(value)


def full(kind: str) -> Any:
    """Return a resource of a kind with every field of every message set to something."""
    message = descriptors.message_type(descriptors.kind_by_enum_name(kind).message)()
    _fill(message, 0)
    return message


def _fill(message: Any, depth: int) -> None:
    fields: Any = message.DESCRIPTOR.fields
    for field in fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        entry: Any = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            value = entry.fields_by_name["value"]
            if value.message_type is None:
                getattr(message, field.name)["key"] = _scalar(value)
            elif depth < 6:
                _fill(getattr(message, field.name)["key"], depth + 1)
        elif field.message_type is not None:
            if depth < 6:
                _fill(
                    getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), depth + 1
                )
        elif field.is_repeated:
            getattr(message, field.name).append(_scalar(field))
        else:
            setattr(message, field.name, _scalar(field))


def _scalar(field: Any) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            return b"\x00\xff" if field.type == field.TYPE_BYTES else 'quote " and ünïcode'
        case field.CPPTYPE_BOOL:
            return True
        case field.CPPTYPE_ENUM:
            return field.enum_type.values[-1].number
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return 2.5
        case _:
            return 7


@pytest.mark.parametrize("kind", [kind.enum_name for kind in descriptors.KINDS if kind.message])
def test_every_kind_is_written_as_protobuf_writes_it(kind: str) -> None:
    message = full(kind)
    expected = json_format.MessageToDict(message, descriptor_pool=descriptors.pool())
    assert json.loads(to_json(message)) == expected


def test_moments_are_written_as_protobuf_writes_them() -> None:
    timestamp: Any = descriptors.message_type("google.protobuf.Timestamp")
    for seconds in (0, -1, 1_795_386_514, 253_402_300_799, -62_135_596_800):
        for nanos in (0, 1, 1_000, 1_000_000, 123_456_789, 120_000_000, 100_000):
            moment = timestamp(seconds=seconds, nanos=nanos)
            assert to_plain(moment) == moment.ToJsonString()
