"""The typed messages and the dynamic ones are the same messages: every one of them, as bytes and as proto-JSON."""

from __future__ import annotations

import datetime
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import betterproto2
import pytest
import stigmer_protos
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from stigmer_protos import agent, agent_execution, commons, descriptors, skill, tasks, well_known, workflow_execution

JSON_VALUES: list[Any] = [None, 0, "", [1, {"deep": [False]}], {"a": None}, -1.5]
STRUCT: dict[str, Any] = {"number": 1.5, "list": [None, True, "x", {"empty": {}}], "object": {"list": []}}
VARIANTS = 4  # enough to set each member of every oneof, and several sorts of JSON values


def short_modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.iter_modules(stigmer_protos.__path__)]
    return [importlib.import_module(f"stigmer_protos.{name}") for name in names if name not in {"_gen", "descriptors"}]


def typed() -> Iterator[tuple[str, type[Any]]]:
    """Yield every message of the contract by its full name, with its typed class."""
    for file in descriptors.descriptor_set().file:
        if file.package.startswith("ai.stigmer."):
            generated = importlib.import_module(f"stigmer_protos._gen.{file.package}")
            for message in file.message_type:
                yield f"{file.package}.{message.name}", getattr(generated, message.name)


def fill(message: Any, *, depth: int, seed: int) -> Any:
    """Set every field of a message; members of a oneof take turns by the seed."""
    if fill_well_known(message, seed):
        return message
    for index, field in enumerate(message.DESCRIPTOR.fields, start=seed):
        group = field.containing_oneof
        if group and len(group.fields) > 1 and group.fields[seed % len(group.fields)].name != field.name:
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            fill_map(getattr(message, field.name), field.message_type.fields_by_name["value"], depth, index)
        elif field.is_repeated and field.message_type:
            for offset in range(2 if depth else 0):
                fill(getattr(message, field.name).add(), depth=depth - 1, seed=index + offset)
        elif field.is_repeated:
            getattr(message, field.name).extend([scalar(field, index), scalar(field, index + 1)])
        elif field.message_type:
            child = getattr(message, field.name)
            child.SetInParent()
            if depth or field.message_type.full_name == "google.protobuf.Value":  # a Value with nothing in it is none
                fill(child, depth=depth - 1, seed=index)
        else:
            setattr(message, field.name, scalar(field, index))
    return message


def fill_map(entries: Any, value: Any, depth: int, seed: int) -> None:
    for key in ("", "key", "ключ"):
        if not value.message_type:
            entries[key] = scalar(value, seed)
        elif depth:
            fill(entries[key], depth=depth - 1, seed=seed)


def fill_well_known(message: Any, seed: int) -> bool:
    match message.DESCRIPTOR.full_name:
        case "google.protobuf.Timestamp":
            message.FromDatetime(datetime.datetime(2026, 1, 2, 3, 4, 5, 678_901 + seed))
        case "google.protobuf.Struct":
            json_format.ParseDict(STRUCT, message)
        case "google.protobuf.Value":
            json_format.ParseDict(JSON_VALUES[seed % len(JSON_VALUES)], message)
        case _:
            return False
    return True


def scalar(field: Any, seed: int) -> Any:
    match field.type:
        case Field.TYPE_STRING:
            return f'text {seed} "é"\n'
        case Field.TYPE_BYTES:
            return b"\x00\xff" + bytes([seed])
        case Field.TYPE_BOOL:
            return True
        case Field.TYPE_ENUM:
            return field.enum_type.values[-1].number
        case Field.TYPE_FLOAT:
            return 0.5
        case _:
            return -seed - 1


@pytest.mark.parametrize(("name", "typed_class"), [pytest.param(*pair, id=pair[0]) for pair in typed()])
def test_typed_and_dynamic_messages_read_each_other(name: str, typed_class: Any) -> None:
    dynamic_class: Any = descriptors.message_type(name)
    for seed in range(VARIANTS):
        for depth in range(4):
            message = fill(dynamic_class(), depth=depth, seed=seed)
            by_bytes = typed_class.parse(message.SerializeToString())
            assert dynamic_class.FromString(bytes(by_bytes)) == message
            assert json_format.Parse(by_bytes.to_json(), dynamic_class()) == message
            for snake_case in (False, True):
                text = json_format.MessageToJson(message, preserving_proto_field_name=snake_case)
                assert dynamic_class.FromString(bytes(typed_class.from_json(text))) == message


@pytest.mark.parametrize(("name", "typed_class"), [pytest.param(*pair, id=pair[0]) for pair in typed()])
def test_an_empty_message_is_empty_both_ways(name: str, typed_class: Any) -> None:
    assert bytes(typed_class()) == b""
    assert typed_class().to_dict() == {}
    assert descriptors.message_type(name)().SerializeToString() == b""


def test_every_message_and_enum_has_one_short_import() -> None:
    exported = [
        (value, module.__name__) for module in short_modules() for value in vars(module).values() if is_type(value)
    ]
    assert len({value for value, _ in exported}) == len(exported)
    contract = {
        getattr(importlib.import_module(f"stigmer_protos._gen.{file.package}"), item.name)
        for file in descriptors.descriptor_set().file
        if file.package.startswith("ai.stigmer.")
        for item in (*file.message_type, *file.enum_type)
    }
    of_google = {value for value in vars(well_known).values() if is_type(value)}
    assert {value for value, _ in exported} == contract | of_google


def is_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, betterproto2.Message | betterproto2.Enum)


def test_the_short_imports_are_those_that_the_readme_names() -> None:
    assert [module.__name__.removeprefix("stigmer_protos.") for module in short_modules()] == [
        "agent",
        "agent_execution",
        "agent_instance",
        "api_key",
        "commons",
        "environment",
        "events",
        "execution_context",
        "files",
        "iam_policy",
        "identity_account",
        "mcp_server",
        "operations",
        "organization",
        "resources",
        "runtime",
        "schedules",
        "session",
        "skill",
        "tasks",
        "well_known",
        "workflow",
        "workflow_execution",
        "workflow_instance",
        "workflow_runner",
    ]


def test_enums_read_and_write_the_names_of_the_contract_although_their_python_names_are_shorter() -> None:
    ready = skill.SkillStatus(state=skill.SkillState.READY)
    assert ready.to_dict() == {"state": "SKILL_STATE_READY"}
    assert skill.SkillStatus.from_dict({"state": "SKILL_STATE_READY"}) == ready
    reference = commons.ApiResourceReference(kind=commons.ApiResourceKind.skill, slug="style")
    assert reference.to_dict() == {"kind": "skill", "slug": "style"}


def test_a_value_of_an_enum_that_is_not_known_yet_is_kept() -> None:
    data = descriptors.message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionStatus").FromString(
        b"\x10\xe8\x07"
    )
    status = agent_execution.AgentExecutionStatus.parse(data.SerializeToString())
    assert bytes(status) == b"\x10\xe8\x07"
    assert json_format.MessageToDict(data) == {"phase": 1000}


def test_fields_named_like_python_words_have_an_underscore_and_keep_their_name_in_json() -> None:
    loop = tasks.ForTaskConfig(each="item", in_="${ .items }")
    assert loop.to_dict() == {"each": "item", "in": "${ .items }"}
    dynamic: Any = descriptors.message_type("ai.stigmer.agentic.workflow.v1.tasks.ForTaskConfig").FromString(
        bytes(loop)
    )
    assert getattr(dynamic, "in") == "${ .items }"


def test_an_iteration_of_zero_differs_from_none() -> None:
    name = "ai.stigmer.agentic.workflowexecution.v1.WorkflowTask"
    first = workflow_execution.WorkflowTask(task_id="a", iteration=0)
    assert first.to_dict() == {"taskId": "a", "iteration": 0}
    dynamic: Any = descriptors.message_type(name).FromString(bytes(first))
    assert dynamic.HasField("iteration")
    assert workflow_execution.WorkflowTask.parse(b"").iteration is None


# What a newer peer sends, and this package does not know, is not lost.

UNKNOWN_TEXT = b"\xfa\xbb\x03\x05later"  # field 7103, a string
UNKNOWN_NUMBER = b"\xf8\xbb\x03\x2a"  # field 7103, a number


@pytest.mark.parametrize("unknown", [UNKNOWN_TEXT, UNKNOWN_NUMBER], ids=["text", "number"])
def test_unknown_fields_survive_both_sorts_of_messages(unknown: bytes) -> None:
    made = agent.Agent(kind="Agent", spec=agent.AgentSpec(instructions="be helpful"))
    spec = bytes(made.spec) + unknown if made.spec else b""
    data = b"\x12\x05Agent" + b"\x22" + bytes([len(spec)]) + spec + unknown
    dynamic: Any = descriptors.message_type("ai.stigmer.agentic.agent.v1.Agent").FromString(data)
    assert dynamic.spec.instructions == "be helpful"
    dynamic.spec.description = "changed"
    again = dynamic.SerializeToString()
    assert again.count(unknown) == 2
    assert bytes(agent.Agent.parse(again)).count(unknown) == 2


def test_a_client_that_knows_more_than_this_package_is_understood_and_answered_in_full() -> None:
    """The same resource with an additional field and sub-message, compiled as a newer client would have them."""
    newer = newer_agent_class()
    sent = newer(api_version="agentic.stigmer.ai/v1", kind="Agent", trust_level=7)
    sent.spec.description = "reviews code"
    sent.spec.allowance.currency = "EUR"
    here: Any = descriptors.message_type("ai.stigmer.agentic.agent.v1.Agent").FromString(sent.SerializeToString())
    assert (here.kind, here.spec.description) == ("Agent", "reviews code")
    assert newer.FromString(here.SerializeToString()) == sent
    copy = type(here)()
    copy.CopyFrom(here)
    assert newer.FromString(copy.SerializeToString()) == sent


def newer_agent_class() -> Any:
    pool = DescriptorPool()
    for file in descriptors.descriptor_set().file:
        for message in file.message_type:
            if file.package == "ai.stigmer.agentic.agent.v1" and message.name == "Agent":
                message.field.add(name="trust_level", number=900, type=FieldDescriptorProto.TYPE_INT32, label=1)
            if file.package == "ai.stigmer.agentic.agent.v1" and message.name == "AgentSpec":
                message.nested_type.append(DescriptorProto(name="Allowance"))
                message.nested_type[-1].field.add(
                    name="currency", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1
                )
                message.field.add(
                    name="allowance",
                    number=901,
                    type=FieldDescriptorProto.TYPE_MESSAGE,
                    label=1,
                    type_name=".ai.stigmer.agentic.agent.v1.AgentSpec.Allowance",
                )
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("ai.stigmer.agentic.agent.v1.Agent"))
