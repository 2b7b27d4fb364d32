"""The reader of proto-JSON: all that protobuf's own printer writes, and no more than the specification allows."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stigmer_grpc import InvalidArgumentError
from stigmer_protos import descriptors

from stigmer_server.http.proto_json import parse_json, read
from stigmer_server.messages import Message, to_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Without -0.0, which the server's own printer writes as 0.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}


def types() -> list[Descriptor]:
    """Every request and answer of the contract."""
    found = {
        descriptor.full_name: descriptor
        for service in descriptors.services()
        for method in service.methods
        for descriptor in (method.input_type, method.output_type)
    }
    return [found[name] for name in sorted(found)]


def _plain(number: float) -> float:
    """JSON has one way to say that something is no number, of the many that a float has."""
    return math.nan if math.isnan(number) else number


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message with some of its fields set."""
    message: Any = descriptors.message_type(descriptor.full_name)()
    fill(draw, message, depth)
    return message


def fill(draw: st.DrawFn, message: Message, depth: int) -> None:
    """Set some fields of a message."""
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        message.seconds, message.nanos = (
            draw(st.integers(-62135596800, 253402300799)),
            draw(st.integers(0, 999_999_999)),
        )
        return
    if name in ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"):
        _fill_value(draw, message)
        return
    for field in message.DESCRIPTOR.fields:
        if depth > 3 or not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(draw, message, field, depth)
        elif field.is_repeated:
            for _ in range(draw(st.integers(0, 2))):
                if field.message_type is not None:
                    fill(draw, getattr(message, field.name).add(), depth + 1)
                else:
                    getattr(message, field.name).append(draw(scalars(field)))
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(draw, inner, depth + 1)
        else:
            setattr(message, field.name, draw(scalars(field)))


def _fill_map(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    entry: Any = field.message_type
    value = entry.fields_by_name["value"]
    target = getattr(message, field.name)
    for key in draw(st.lists(scalars(entry.fields_by_name["key"]), max_size=2)):
        if value.message_type is not None:
            fill(draw, target[key], depth + 1)
        else:
            target[key] = draw(scalars(value))


def _fill_value(draw: st.DrawFn, message: Message) -> None:
    wanted = {"google.protobuf.Struct": dict, "google.protobuf.ListValue": list}.get(message.DESCRIPTOR.full_name)
    plain: Any = draw(JSON_VALUES)
    if wanted is dict and not isinstance(plain, dict):
        plain = {"value": plain}
    if wanted is list and not isinstance(plain, list):
        plain = [plain]
    json_format.ParseDict(cast("dict[str, Any]", plain), message)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            enum: Any = field.enum_type
            return st.sampled_from([value.number for value in enum.values])
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=8) if field.type == FieldDescriptor.TYPE_BYTES else TEXT
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return st.floats().map(_plain)
        case FieldDescriptor.CPPTYPE_FLOAT:
            return st.floats(width=32).map(_plain)
        case _:
            return _INTEGERS[field.cpp_type]


def filled(type_name: str, plain: Any) -> Any:
    message = descriptors.message_type(type_name)()
    read(plain, message)
    return message


def refused(type_name: str, plain: Any) -> dict[str, str]:
    """The rules that a document breaks, by field."""
    with pytest.raises(InvalidArgumentError) as caught:
        filled(type_name, plain)
    return {violation.field: violation.rule_id for violation in caught.value.violations}


AGENT = "ai.stigmer.agentic.agent.v1.Agent"
RUN = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecution"
EVENT = "ai.stigmer.events.v1.CloudEvent"


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
@pytest.mark.parametrize("descriptor", types(), ids=lambda each: each.full_name.removeprefix("ai.stigmer."))
def test_what_protobuf_writes_is_read_as_it_was(descriptor: Descriptor, data: st.DataObject) -> None:
    message: Any = data.draw(messages(descriptor))
    snake = data.draw(st.booleans())
    text = json_format.MessageToJson(message, preserving_proto_field_name=snake)
    again = filled(descriptor.full_name, parse_json(text.encode()))
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    own = filled(descriptor.full_name, parse_json(to_json(message).encode()))
    assert own.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("plain", "broken"),
    [
        ({"nam": "a"}, {"nam": "json.unknown_field"}),
        ({"spec": {"subAgents": [{}, {"nope": 1}]}}, {"spec.sub_agents[1].nope": "json.unknown_field"}),
        ({"spec": []}, {"spec": "json.type"}),
        ([], {"": "json.type"}),
        (None, {"": "json.type"}),
        ({"metadata": {"name": 5, "tags": "a"}}, {"metadata.name": "json.type", "metadata.tags": "json.type"}),
        ({"metadata": {"tags": [None]}}, {"metadata.tags[0]": "json.type"}),
        ({"metadata": {"labels": {"a": 1}}}, {'metadata.labels["a"]': "json.type"}),
        ({"metadata": {"ownerScope": "nobody"}}, {"metadata.owner_scope": "json.enum"}),
        ({"metadata": {"ownerScope": 1.5}}, {"metadata.owner_scope": "json.type"}),
        ({"metadata": {"ownerScope": True}}, {"metadata.owner_scope": "json.type"}),
        ({"metadata": {"ownerScope": 2**31}}, {"metadata.owner_scope": "json.range"}),
        ({"metadata": {"ownerScope": "9" * 5000}}, {"metadata.owner_scope": "json.type"}),
        ({"api_version": "a", "apiVersion": "b"}, {"api_version": "json.twice"}),
        ({"metadata": {"name": "\ud800"}}, {"metadata.name": "json.unicode"}),
        ({"status": {"audit": {"specAudit": {"createdAt": "today"}}}}, {
            "status.audit.spec_audit.created_at": "json.format"}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_field(plain: Any, broken: dict[str, str]) -> None:
    assert refused(AGENT, plain) == broken


def test_numbers_that_a_double_would_change_are_refused() -> None:
    assert refused(RUN, {"spec": {"input": {"id": 2**53 + 1}}}) == {'spec.input["id"]': "json.range"}
    assert refused(RUN, {"spec": {"input": {"id": 10**400}}}) == {'spec.input["id"]': "json.range"}
    assert filled(RUN, {"spec": {"input": {"id": 2**60}}}).spec.input.struct_value["id"] == 2**60


def test_only_one_field_of_a_oneof_may_be_given() -> None:
    assert refused(EVENT, {"textData": "a", "binaryData": "YQ=="}) == {"binary_data": "json.oneof"}
    assert filled(EVENT, {"jsonData": None}).WhichOneof("data") == "json_data"
    assert filled(EVENT, {"textData": None, "binaryData": "_-8"}).binary_data == b"\xff\xef"


def test_a_close_name_is_offered() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean instructions"):
        filled(AGENT, {"spec": {"instruction": "x"}})


def test_many_problems_are_told_in_part() -> None:
    assert len(refused(AGENT, {f"x{number}": 1 for number in range(1000)})) == 20


def test_nesting_has_an_end() -> None:
    plain: Any = {}
    for _ in range(200):
        plain = {"a": plain}
    with pytest.raises(InvalidArgumentError, match="nested"):
        filled(RUN, {"spec": {"input": plain}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "line 1"),
        (b"{", "line 1"),
        (b"\xff", "UTF-8 at byte 0"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000, "deep"),
        (b"1" * 5000, "digits"),
        (b"\xef\xbb\xbf{}", "BOM"),
    ],
)
def test_text_that_is_no_json_is_told_where(text: bytes, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        parse_json(text)


def test_whole_numbers_in_any_spelling_are_read() -> None:
    request = "ai.stigmer.resources.v1.ListResourcesRequest"
    for value in (7, 7.0, "7"):
        assert filled(request, {"page_size": value}).page_size == 7
    assert refused(request, {"pageSize": json.loads("1e99")}) == {"page_size": "json.range"}
