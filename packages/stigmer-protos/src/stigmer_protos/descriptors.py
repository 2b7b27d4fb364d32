"""The compiled contract: one descriptor set, and the tables read from it.

Everything that is generic over the API (handlers, stubs, reflection, validation, proto-JSON, the list of
kinds) reads this module, so there is no second list of services or kinds anywhere. The messages built here
are protobuf's own C-backed (upb) ones; `stigmer_protos.agent` and its neighbours hold the typed classes.

The pool is this package's own: it does not know, and does not disturb, protobuf's process-wide default pool.
All functions are cached and safe to call from any thread; nothing here can be changed by a caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from google.protobuf.descriptor import Descriptor, EnumValueDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_COMMONS = "ai.stigmer.commons.apiresource"
_KINDS = f"{_COMMONS}.apiresourcekind"
_AUTHORIZATION = "ai.stigmer.iam.iampolicy.v1.rpcauthorization"
_OWN_PACKAGES = "ai.stigmer."

Tier = Literal["open", "cloud"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of resource, as the options of `ApiResourceKind` declare it."""

    number: int
    """The value of the enum; what a reference carries on the wire."""
    enum_name: str
    """The name of the enum value: `workflow_execution`."""
    name: str
    """What a resource says in its `kind` field: `WorkflowExecution`."""
    display_name: str
    """What people read: `Workflow Execution`."""
    id_prefix: str
    """What ids begin with, before the hyphen: `wex`."""
    is_versioned: bool
    """Every write makes a version that can be asked for later."""
    is_search_indexed: bool
    """Resources of the kind can be found by text."""
    tier: Tier
    """Who offers the kind: every server (`open`), or only the cloud (`cloud`)."""
    api_version: str
    """What a resource says in its `api_version` field: `agentic.stigmer.ai/v1`."""
    message: str
    """Full name of the resource's message, empty when the contract has none."""
    services: tuple[str, ...]
    """Full names of the services that handle the kind, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What a caller must be allowed to do before a method runs."""

    permission: str
    """Name of an `ApiResourceIamPermission`: `can_edit`."""
    resource_kind: Kind | None
    """The kind of the resource that is asked about; None when the request itself names it."""
    resource_kind_path: str
    """Path in the request to the name of that kind; empty when `resource_kind` says it."""
    field_path: str
    """Path in the request to the resource's id, such as `metadata.id`; empty when `resource_id` says it."""
    resource_id: str
    """The one resource asked about, whatever the request says."""
    error_msg: str
    """What a refused caller is told; empty for the general message."""


def _file_bytes() -> bytes:
    return resources.files(__package__ or "stigmer_protos").joinpath("descriptors.binpb").read_bytes()


@cache
def _shared_descriptor_set() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(_file_bytes())


def descriptor_set() -> FileDescriptorSet:
    """Return a copy of every file of the contract and of all it imports, imports first."""
    copy = FileDescriptorSet()
    copy.CopyFrom(_shared_descriptor_set())
    return copy


@cache
def pool() -> DescriptorPool:
    """Return the pool that holds the contract, `buf.validate` and the `google.protobuf` types it uses."""
    made = DescriptorPool()
    for file in _shared_descriptor_set().file:
        made.AddSerializedFile(file.SerializeToString())
    return made


def comments() -> Mapping[str, str]:
    """Return the comments of the sources, by the full name of what each is about; a line is a paragraph.

    Names are those of services, methods (`package.Service.method`), messages, fields (`package.Message.field`), enums
    and their values (`package.Enum.VALUE`). Read from the package at each call: few programs need it, and none twice.
    """
    text = resources.files(__package__ or "stigmer_protos").joinpath("comments.json").read_text(encoding="utf-8")
    return json.loads(text)


@cache
def message_type(full_name: str) -> type[Message]:
    """Return the message class of a full name such as `ai.stigmer.agentic.agent.v1.Agent`.

    The same name always gives the same class.

    Raises:
        KeyError: The contract has no message of this name.
    """
    return GetMessageClass(pool().FindMessageTypeByName(full_name))


@cache
def services() -> tuple[ServiceDescriptor, ...]:
    """Return the contract's services, sorted by full name."""
    found = (
        pool().FindServiceByName(f"{file.package}.{service.name}")
        for file in _shared_descriptor_set().file
        if file.package.startswith(_OWN_PACKAGES)
        for service in file.service
    )
    return tuple(sorted(found, key=lambda service: service.full_name))


def _option(descriptor: Any, options_name: str, extension_name: str) -> Any:
    """Return the value of a custom option, or None when it is not set.

    A descriptor hands out its options as messages of the default pool, where our extensions are unknown
    fields; reading them needs the same bytes as a message of our pool.
    """
    options: Any = message_type(f"google.protobuf.{options_name}").FromString(
        descriptor.GetOptions().SerializeToString()
    )
    extension = pool().FindExtensionByName(extension_name)
    return options.Extensions[extension] if options.HasExtension(extension) else None


@cache
def _service_kind_numbers() -> dict[str, int]:
    """Return the kind's number of every service that names one."""
    numbers = (
        (service.full_name, _option(service, "ServiceOptions", f"{_COMMONS}.api_resource_kind"))
        for service in services()
    )
    return {name: number for name, number in numbers if number is not None}


def _resource_messages() -> dict[tuple[str, str], str]:
    """Return the full name of each resource's message by its kind's name and API group.

    A resource is a message that carries `api_version`, `kind`, `metadata` and `spec` and is named like its kind.
    """
    found: dict[tuple[str, str], str] = {}
    for descriptor in _own_messages():
        if {"api_version", "kind", "metadata", "spec"} <= set(descriptor.fields_by_name):
            group = descriptor.full_name.removeprefix(_OWN_PACKAGES).split(".", 1)[0]
            found[group, descriptor.name] = descriptor.full_name
    return found


def _own_messages() -> Iterator[Descriptor]:
    for file in _shared_descriptor_set().file:
        if file.package.startswith(_OWN_PACKAGES):
            for message in file.message_type:
                yield pool().FindMessageTypeByName(f"{file.package}.{message.name}")


def _read_kinds() -> Iterator[Kind]:
    messages = _resource_messages()
    groups = pool().FindEnumTypeByName(f"{_KINDS}.ApiResourceGroup").values_by_number
    versions = pool().FindEnumTypeByName(f"{_KINDS}.ApiResourceVersion").values_by_number
    tiers: dict[str, Tier] = {"TIER_OPEN_SOURCE": "open", "TIER_CLOUD_ONLY": "cloud"}
    tier_values = pool().FindEnumTypeByName(f"{_KINDS}.ResourceTier").values_by_number
    for value in pool().FindEnumTypeByName(f"{_KINDS}.ApiResourceKind").values:
        meta = _option(value, "EnumValueOptions", f"{_KINDS}.kind_meta")
        if meta is None:
            continue
        group: EnumValueDescriptor = groups[meta.group]
        domain = _option(group, "EnumValueOptions", f"{_KINDS}.group_meta").domain
        yield Kind(
            number=value.number,
            enum_name=value.name,
            name=meta.name,
            display_name=meta.display_name,
            id_prefix=meta.id_prefix,
            is_versioned=meta.is_versioned,
            is_search_indexed=not meta.not_search_indexed,
            tier=tiers[tier_values[meta.tier].name],
            api_version=f"{domain}/{versions[meta.version].name}",
            message=messages.get((group.name, meta.name), ""),
            services=tuple(sorted(name for name, number in _service_kind_numbers().items() if number == value.number)),
        )


KINDS: tuple[Kind, ...] = tuple(_read_kinds())
"""Every kind of the contract, by ascending number."""

_BY_NUMBER = {kind.number: kind for kind in KINDS}
_BY_NAME = {kind.name: kind for kind in KINDS}
_BY_ENUM_NAME = {kind.enum_name: kind for kind in KINDS}
_BY_PREFIX = {kind.id_prefix: kind for kind in KINDS}


def kind_by_number(number: int) -> Kind:
    """Return the kind with this enum number, such as 50.

    Raises:
        KeyError: No kind has this number.
    """
    return _BY_NUMBER[number]


def kind_by_name(name: str) -> Kind:
    """Return the kind that resources call by this name, such as `WorkflowExecution`.

    Raises:
        KeyError: No kind has this name.
    """
    return _BY_NAME[name]


def kind_by_enum_name(enum_name: str) -> Kind:
    """Return the kind whose enum value has this name, such as `workflow_execution`.

    Raises:
        KeyError: No kind has this name.
    """
    return _BY_ENUM_NAME[enum_name]


def kind_by_prefix(id_prefix: str) -> Kind:
    """Return the kind whose ids begin with this prefix (without the hyphen), such as `wex`.

    Raises:
        KeyError: No kind has this prefix.
    """
    return _BY_PREFIX[id_prefix]


def service_kind(service_full_name: str) -> Kind | None:
    """Return the kind that a service handles, or None for a service that is tied to none or is not of the contract."""
    number = _service_kind_numbers().get(service_full_name)
    return None if number is None else _BY_NUMBER[number]


def method_authorization(method: MethodDescriptor) -> Authorization | None:
    """Return what the method asks of its caller, or None when it declares nothing."""
    config = _option(method, "MethodOptions", f"{_AUTHORIZATION}.config")
    if config is None:
        return None
    permissions = pool().FindEnumTypeByName(f"{_AUTHORIZATION}.ApiResourceIamPermission").values_by_number
    return Authorization(
        permission=permissions[config.permission].name,
        resource_kind=_BY_NUMBER.get(config.resource_kind),
        resource_kind_path=config.resource_kind_path,
        field_path=config.field_path,
        resource_id=config.resource_id,
        error_msg=config.error_msg,
    )


def is_public(method: MethodDescriptor) -> bool:
    """Tell whether the method may be called by anyone, without a token."""
    return bool(_option(method, "MethodOptions", f"{_AUTHORIZATION}.is_public"))


def is_skip_authorization(method: MethodDescriptor) -> bool:
    """Tell whether the method itself decides what its caller may see, so that nothing is asked before it runs."""
    return bool(_option(method, "MethodOptions", f"{_AUTHORIZATION}.is_skip_authorization"))
