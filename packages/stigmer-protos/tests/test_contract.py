"""The compiled sources say what the contract's tables say: nothing missing, nothing extra, nothing different."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor as Field
from stigmer_protos import descriptors

HERE = Path(__file__).parent
COMMONS = "ai.stigmer.commons.apiresource"
AUTHORIZATION = "ai.stigmer.iam.iampolicy.v1.rpcauthorization"
SCALARS = {
    Field.TYPE_STRING: "string",
    Field.TYPE_BOOL: "bool",
    Field.TYPE_INT32: "int32",
    Field.TYPE_INT64: "int64",
    Field.TYPE_FLOAT: "float",
    Field.TYPE_DOUBLE: "double",
    Field.TYPE_BYTES: "bytes",
}
# What the cloud has added since, with its own numbers: the only additions below 1000 to elements of the contract.
CLOUD_VALUES = {
    "ai.stigmer.agentic.agentexecution.v1.ExecutionPhase",
    "ai.stigmer.agentic.agentexecution.v1.MessageType",
    "ai.stigmer.agentic.agentexecution.v1.ToolCallStatus",
    "ai.stigmer.agentic.agentexecution.v1.SubAgentStatus",
    "ai.stigmer.agentic.workflowexecution.v1.ExecutionPhase",
}


# A fact is one line: the full name of an element, what it is, and its details, with braces in a fixed order.


def fact(*words: str, braces: Iterable[str] = ()) -> str:
    inside = "; ".join(sorted(braces))
    return " ".join(word for word in words if word) + (f"  {{{inside}}}" if inside else "")


def table(name: str) -> Iterator[str]:
    """Read the facts of a table."""
    package = element = what = ""
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        text, _, inside = line.partition("  {") if not line.startswith("  ") else line[2:].partition("  {")
        braces = inside.removesuffix("}").split("; ") if inside else []
        if not text or text.startswith("#"):
            continue
        if text.startswith("file "):
            path, package = parts(r"file (\S+) package (\S+)", text)
            yield fact(package, "in", path)
        elif not line.startswith("  "):
            what, name_, *rest = text.split(" ")
            if what == "extend":
                number, extension, kind = rest
                yield fact(f"{package}.{extension}", "extends", name_, number, qualified(kind, package))
            else:
                element = f"{package}.{name_}"
                yield fact(element, what, braces=braces)
        elif what == "message":
            number, field, rest = parts(r"(\d+) (\w+: )(.*)", text)
            kind, _, group = rest.partition(" oneof ")
            yield fact(
                element, f"field {number} {field}{qualified(kind, package)}", group and f"oneof {group}", braces=braces
            )
        elif what == "enum":
            yield fact(element, "value", text, braces=braces)
        else:
            method, request, response = parts(r"(\w+)\((.*)\) (.*)", text)
            signature = f"{method}({qualified(request, package)}) {qualified(response, package)}"
            yield fact(element, "method", signature, braces=braces)


def parts(pattern: str, text: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, text)
    assert found, f"not a line of a table: {text}"
    return found.groups()


def qualified(kind: str, package: str) -> str:
    """Return a type as the table names it, with the package where it is left out."""
    if made := re.fullmatch(r"map<(\w+),(.*)>", kind):
        return f"map<{made[1]},{qualified(made[2], package)}>"
    label, _, name = kind.rpartition(" ")
    if "." not in name and name not in SCALARS.values():
        name = f"{package}.{name}"
    return f"{label} {name}".strip()


def compiled() -> Iterator[str]:
    """Read the facts of the compiled sources."""
    pool = descriptors.pool()
    for file in descriptors.descriptor_set().file:
        if not file.package.startswith("ai.stigmer."):
            continue
        yield fact(file.package, "in", file.name)
        for message in file.message_type:
            yield from message_facts(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for enum in file.enum_type:
            yield from enum_facts(pool.FindEnumTypeByName(f"{file.package}.{enum.name}"))
        for service in file.service:
            yield from service_facts(pool.FindServiceByName(f"{file.package}.{service.name}"))
        for extension in file.extension:
            found = pool.FindExtensionByName(f"{file.package}.{extension.name}")
            extended: Any = found.containing_type
            yield fact(found.full_name, "extends", extended.full_name, str(found.number), kind_of(found))


def options(descriptor: Any, kind: str) -> Any:
    """Return the options of a descriptor with our extensions known."""
    return descriptors.message_type(f"google.protobuf.{kind}").FromString(descriptor.GetOptions().SerializeToString())


def set_options(descriptor: Any, kind: str) -> Iterator[tuple[str, Any]]:
    for extension, value in options(descriptor, kind).ListFields():
        yield extension.full_name, value


def kind_of(field: Any) -> str:
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        return f"map<{kind_of(key)},{kind_of(value)}>"
    named = field.message_type or field.enum_type
    label = "repeated " if field.is_repeated else "optional " if is_optional(field) else ""
    return label + (named.full_name if named else SCALARS[field.type])


def is_optional(field: Any) -> bool:
    return field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"


def message_facts(message: Any) -> Iterator[str]:
    rules = [f"cel:{rule.id}" for name, value in set_options(message, "MessageOptions") for rule in value.cel if name]
    yield fact(message.full_name, "message", braces=rules)
    for field in message.fields:
        group = "" if field.containing_oneof is None or is_optional(field) else f"oneof {field.containing_oneof.name}"
        details = f"field {field.number} {field.name}: {kind_of(field)}"
        yield fact(message.full_name, details, group, braces=field_braces(field))


def field_braces(field: Any) -> Iterator[str]:
    for name, value in set_options(field, "FieldOptions"):
        if name == "buf.validate.field":
            yield from rules_of(value, "")
        else:
            yield f"{name.rpartition('.')[2]}={str(value).lower()}"


def rules_of(rules: Any, prefix: str) -> Iterator[str]:
    """Flatten the rules of a field into `required`, `string.min_len=1`, `items.cel:ID` and so on."""
    for part, value in rules.ListFields():
        if part.name == "cel":
            yield from (f"{prefix}cel:{rule.id}" for rule in value)
        elif part.name == "required":
            yield f"{prefix}required"
        elif part.name == "ignore":
            yield f"{prefix}ignore={part.enum_type.values_by_number[value].name}"
        elif part.name == "items":
            yield from rules_of(value, "items.")
        elif part.message_type:
            for rule, limit in value.ListFields():
                if rule.name == "items":
                    yield from rules_of(limit, "items.")
                else:
                    yield f"{prefix}{part.name}.{rule.name}={limit_text(rule, limit)}"


def limit_text(rule: Any, limit: Any) -> str:
    if rule.is_repeated:
        return "|".join(limit)
    return str(limit).lower() if isinstance(limit, bool) else str(limit)


def enum_facts(enum: Any) -> Iterator[str]:
    yield fact(enum.full_name, "enum")
    for value in enum.values:
        braces = [
            f"{part.name}={plain(part, item)}"
            for _, meta in set_options(value, "EnumValueOptions")
            for part, item in meta.ListFields()
        ]
        yield fact(enum.full_name, f"value {value.number} {value.name}", braces=braces)


def plain(field: Any, value: Any) -> str:
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return str(value).lower() if isinstance(value, bool) else str(value)


def service_facts(service: Any) -> Iterator[str]:
    kind = descriptors.service_kind(service.full_name)
    yield fact(service.full_name, "service", braces=[f"kind={kind.enum_name}"] if kind else [])
    for method in service.methods:
        braces: list[str] = []
        for name, value in set_options(method, "MethodOptions"):
            if name == f"{AUTHORIZATION}.config":
                braces += [f"{part.name}={plain(part, item)}" for part, item in value.ListFields()]
            else:
                braces.append(f"{name.rpartition('.')[2]}={str(value).lower()}")
        stream = "stream " if method.server_streaming else ""
        parts_ = "stream " if method.client_streaming else ""
        signature = f"{method.name}({parts_}{method.input_type.full_name}) {stream}{method.output_type.full_name}"
        yield fact(service.full_name, "method", signature, braces=braces)


def mended() -> tuple[set[str], set[str]]:
    """Read what differs from the contract on purpose: what it says, and what the sources say instead."""
    lines = (HERE / "mended_table.txt").read_text(encoding="utf-8").splitlines()
    return (
        {line[2:] for line in lines if line.startswith("- ")},
        {line[2:] for line in lines if line.startswith("+ ")},
    )


def elements(facts: Iterable[str]) -> set[str]:
    return {line.split("  {")[0] for line in facts if re.search(r" (message|enum|service)(  |$)", line)}


@pytest.fixture(scope="module")
def contract() -> set[str]:
    return set(table("contract_table.txt"))


@pytest.fixture(scope="module")
def additions(contract: set[str]) -> set[str]:
    """What is added; an element of the contract that is named again to hold additions is none itself."""
    known = elements(contract)
    return {line for line in table("additions_table.txt") if line.split("  {")[0] not in known} - contract


@pytest.fixture(scope="module")
def sources() -> set[str]:
    return set(compiled())


def test_the_tables_have_the_size_of_the_contract(contract: set[str]) -> None:
    """A reader of tables that skips lines would let any difference pass."""
    counts = {what: sum(f" {what} " in line for line in contract) for what in ("field", "value", "method", "extends")}
    assert counts == {"field": 556, "value": 148, "method": 105, "extends": 9}
    assert len(elements(contract)) == 180 + 22 + 31


def test_nothing_of_the_contract_is_missing(contract: set[str], sources: set[str]) -> None:
    old, new = mended()
    assert not sorted((contract - old | new) - sources)


def test_nothing_is_there_that_neither_contract_nor_additions_name(
    contract: set[str], additions: set[str], sources: set[str]
) -> None:
    _, new = mended()
    assert not sorted(sources - contract - additions - new)


def test_nothing_of_the_additions_is_missing(additions: set[str], sources: set[str]) -> None:
    assert not sorted(additions - sources)


def test_what_is_mended_differs_from_the_contract(contract: set[str], sources: set[str]) -> None:
    old, new = mended()
    assert old <= contract
    assert new <= sources
    assert not old & sources


def test_additions_to_the_contracts_elements_cannot_collide_with_later_ones(
    contract: set[str], additions: set[str]
) -> None:
    known = {line.split(" ")[0] for line in elements(contract)}
    numbered = (re.match(r"(\S+) (?:field|value) (\d+) ", line + " ") for line in additions)
    small = {found[1] for found in numbered if found and found[1] in known and int(found[2]) < 1000}
    assert small == CLOUD_VALUES


def test_numbers_and_names_are_used_once(sources: set[str]) -> None:
    for what in ("field", "value"):
        found = [re.match(rf"(\S+) {what} (\d+) (\w+)", line) for line in sources]
        pairs = [(made[1], made[2], made[3]) for made in found if made]
        assert len({(element, number) for element, number, _ in pairs}) == len(pairs)
        assert len({(element, name) for element, _, name in pairs}) == len(pairs)
