"""Every RPC of the contract is shown: what has to be shown of each is read from its descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from stigmer_protos import descriptors

_RULES = "buf.validate.field"
_REFERRED = frozenset({"environment", "skill"})
"""Kinds that others name by reference, and that are not deleted meanwhile."""
_IDS = ("value", "resource_id", "execution_id", "id")


def methods() -> Iterator[tuple[str, str, Any]]:
    """Yield the short name, the kind or service, and the descriptor of every method."""
    for service in descriptors.services():
        kind = descriptors.service_kind(service.full_name)
        owner = kind.enum_name if kind is not None else service.name
        for method in service.methods:
            yield f"{owner}/{method.name}", owner, method


def to_show(owner: str, method: Any) -> set[str]:
    """Return the statuses that have to be shown of a method that the server has."""
    request = method.input_type
    codes = {"OK"}
    if _is_ruled(request):
        codes.add("INVALID_ARGUMENT")
    if method.name == "create" or (method.name == "apply" and owner == "execution_context"):
        codes.add("ALREADY_EXISTS")
    if method.name in ("create", "apply") and _parents(owner):
        codes.add("NOT_FOUND")
    if method.name == "update":
        codes |= {"NOT_FOUND", "ABORTED"}
    if method.name == "getByReference" or _names_one(request):
        codes.add("NOT_FOUND")
    if method.name == "delete" and _is_needed(owner):
        codes.add("FAILED_PRECONDITION")
    if method.containing_service.name.endswith(("ControlController", "RuntimeController")):
        # What can be done only with an execution that has not ended, or has ended in a certain way.
        codes.add("FAILED_PRECONDITION")
    return codes


def _is_ruled(request: Any) -> bool:
    """Tell whether some request breaks a rule of the contract."""
    rules = descriptors.pool().FindExtensionByName(_RULES)
    options = descriptors.message_type("google.protobuf.FieldOptions")
    return any(
        options.FromString(field.GetOptions().SerializeToString()).HasExtension(rules)  # type: ignore[arg-type]
        for field in request.fields
    )


def _names_one(request: Any) -> bool:
    """Tell whether the request names one resource by its id."""
    fields = request.fields_by_name
    return len(fields) <= 4 and "signal_name" not in fields and any(name in fields for name in _IDS)


def _parents(kind: str) -> set[str]:
    """Return the kinds that a kind's spec names by id."""
    message: Any = descriptors.pool().FindMessageTypeByName(descriptors.kind_by_enum_name(kind).message)
    known = {other.enum_name for other in descriptors.KINDS}
    fields = message.fields_by_name["spec"].message_type.fields_by_name
    return {name.removesuffix("_id") for name in fields if name.endswith("_id")} & known


def _is_needed(kind: str) -> bool:
    with_messages = [other.enum_name for other in descriptors.KINDS if other.message and other.tier == "open"]
    return kind in _REFERRED or any(kind in _parents(other) for other in with_messages)


@pytest.mark.parametrize(("name", "owner", "method"), [pytest.param(*found, id=found[0]) for found in methods()])
def test_an_rpc_is_shown(promises: frozenset[tuple[str, str]], name: str, owner: str, method: Any) -> None:
    shown = {code for shown, code in promises if shown == name}
    if "UNIMPLEMENTED" in shown:
        assert shown == {"UNIMPLEMENTED"}
        return
    assert to_show(owner, method) <= shown


def test_only_rpcs_of_the_contract_are_shown(promises: frozenset[tuple[str, str]]) -> None:
    assert {name for name, _ in promises} <= {name for name, _, _ in methods()}


def test_the_server_tells_of_every_service_that_it_has(
    promises: frozenset[tuple[str, str]], services: frozenset[str]
) -> None:
    lacking = {name for name, code in promises if code == "UNIMPLEMENTED"}
    wanted = {method.containing_service.full_name for name, _, method in methods() if name not in lacking}
    assert wanted <= services <= {service.full_name for service in descriptors.services()}
