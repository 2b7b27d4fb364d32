"""The verbs of every kind of resource over one connection, chosen from the contract's own tables."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli import pages
from stigmer_cli.errors import InvalidInputError, NotFoundError
from stigmer_cli.references import Reference

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel, ResponseStream

Message: TypeAlias = Any
"""A message of the contract's descriptor pool; its fields are known to the contract and not to the type checker."""

QUERIES = "ai.stigmer.resources.v1.ResourceController"
COMMANDS = "ai.stigmer.resources.v1.ResourceCommandController"
PAGE_SIZE = 200
DRY_RUN = ("x-stigmer-dry-run", "true")
"""Call metadata: do everything and keep nothing."""
IDEMPOTENCY_KEY = "x-stigmer-idempotency-key"
"""Call metadata: what is made under one key is made once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which resources of a kind to list; what is empty restricts nothing."""

    kind: Kind
    org: str = ""
    text: str = ""
    """Is in the name, slug or id."""
    selector: str = ""
    """Terms over labels, joined by commas: `key`, `!key`, `key=value`, `key!=value`, `key in (a, b)` …"""
    tags: tuple[str, ...] = ()
    """All of which it has."""
    phase: str = ""
    """By the name that the status spells it with."""
    parent_id: str = ""

    def request(self, page_size: int = PAGE_SIZE) -> dict[str, Any]:
        """Return the request for the first page."""
        return {
            "kind": self.kind.enum_name,
            "org": self.org,
            "text": self.text,
            "selector": self.selector,
            "tags": list(self.tags),
            "phase": self.phase,
            "parent_id": self.parent_id,
            "page_size": page_size,
        }


class Resources:
    """Gets, lists, applies and deletes resources of any kind."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def get(self, reference: Reference) -> Message:
        """Return the resource.

        Raises:
            NotFoundError: There is none.
        """
        from stigmer_grpc.errors import NotFoundError as NoSuchResource

        try:
            if reference.id:
                return await self._call(reference.kind, "get", _by_id(reference.kind, "get", reference.id))
            if _service_with(reference.kind, "getByReference"):
                return await self._call(reference.kind, "getByReference", _by_slug(reference))
        except NoSuchResource:
            raise _missing(reference) from None
        async for entry in self.list(Listing(kind=reference.kind, org=reference.org, text=reference.slug)):
            if entry["metadata"].get("slug") == reference.slug:
                return await self.get(Reference(kind=reference.kind, id=entry["metadata"]["id"]))
        raise _missing(reference)

    async def find(self, reference: Reference) -> Message | None:
        """Return the resource, None when there is none."""
        try:
            return await self.get(reference)
        except NotFoundError:
            return None

    async def list(self, listing: Listing) -> AsyncIterator[dict[str, Any]]:
        """Yield every resource that fits in proto-JSON, newest first, page by page."""
        from google.protobuf.json_format import MessageToDict

        async for entry in pages.entries(self.channel, QUERIES, "list", listing.request()):
            yield MessageToDict(entry)

    async def newest(self, listing: Listing, count: int) -> tuple[list[dict[str, Any]], int]:
        """Return the newest few that fit in proto-JSON, and how many there are in all."""
        from google.protobuf.json_format import MessageToDict

        page: Message = await self.channel.service(QUERIES).unary("list", listing.request(count))
        return [MessageToDict(entry) for entry in page.entries], page.total_count

    async def apply(self, kind: Kind, message: Message, *, dry_run: bool = False) -> Message:
        """Create the resource or update the one of its name; a kind without `apply` is created.

        Raises:
            InvalidInputError: Resources of this kind cannot be made by hand.
        """
        for verb in ("apply", "create"):
            if _service_with(kind, verb):
                return await self._call(kind, verb, message, dry_run=dry_run)
        msg = f"a resource of kind {kind.enum_name} cannot be applied"
        raise InvalidInputError(
            msg, hint="push a folder with `stigmer skill push DIR`" if kind.enum_name == "skill" else ""
        )

    async def create(self, kind: Kind, message: Message, *, idempotency_key: str = "") -> Message:
        """Create the resource; with a key that was used before, return what was created then."""
        metadata = [(IDEMPOTENCY_KEY, idempotency_key)] if idempotency_key else []
        return await self.channel.service(_require_service(kind, "create")).unary("create", message, metadata=metadata)

    async def update(self, kind: Kind, message: Message) -> Message:
        """Replace the resource; it fails as ABORTED when the message's version is no longer the present one."""
        return await self._call(kind, "update", message)

    async def delete(self, kind: Kind, identifier: str, *, force: bool = False, dry_run: bool = False) -> Message:
        """Delete the resource, and with force what depends on it; tell what all of it is called, dependents first.

        Of very much, `entries` of the answer names the first and the last, and `total_count` counts all.
        """
        request = {"kind": kind.enum_name, "id": identifier, "force": force}
        service = self.channel.service(COMMANDS)
        # What depends on an organization may be a great deal, and its deletion take as long as it takes.
        return await service.unary("delete", request, metadata=[DRY_RUN] if dry_run else (), timeout=math.inf)

    def subscribe(self, kind: Kind, identifier: str) -> ResponseStream:
        """Yield the resource as it is and then as it becomes, until it is finished."""
        stub = self.channel.service(_require_service(kind, "subscribe"))
        return stub.stream("subscribe", _by_id(kind, "subscribe", identifier))

    def live(self, kind: Kind, identifier: str) -> ResponseStream | None:
        """Yield what is new of the resource, states and words; None when the kind says nothing."""
        service = _service_with(kind, "follow")
        return self.channel.service(service).stream("follow", _by_id(kind, "follow", identifier)) if service else None

    async def _call(self, kind: Kind, verb: str, request: Message, *, dry_run: bool = False) -> Message:
        service = self.channel.service(_require_service(kind, verb))
        return await service.unary(verb, request, metadata=[DRY_RUN] if dry_run else ())


def _service_with(kind: Kind, verb: str) -> str:
    """Return the kind's service that has the verb, "" when none has."""
    for name in kind.services:
        if verb in descriptors.pool().FindServiceByName(name).methods_by_name:
            return name
    return ""


def _require_service(kind: Kind, verb: str) -> str:
    if name := _service_with(kind, verb):
        return name
    msg = f"resources of kind {kind.enum_name} know no {verb}"
    raise InvalidInputError(msg)


def _by_id(kind: Kind, verb: str, identifier: str) -> Message:
    """Return the verb's request for one id, whatever its message calls the field."""
    method = descriptors.pool().FindServiceByName(_require_service(kind, verb)).methods_by_name[verb]
    request: Message = descriptors.message_type(method.input_type.full_name)()
    for field in ("value", "resource_id", "execution_id"):
        if field in method.input_type.fields_by_name:
            setattr(request, field, identifier)
            return request
    msg = f"{method.full_name} takes no id"
    raise InvalidInputError(msg)


def _by_slug(reference: Reference) -> dict[str, Any]:
    return {"org": reference.org, "kind": reference.kind.enum_name, "slug": reference.slug}


def _missing(reference: Reference) -> NotFoundError:
    where = f" in organization {reference.org!r}" if reference.org else ""
    return NotFoundError(
        f"there is no {reference.kind.display_name.lower()} {reference.id or reference.slug!r}{where}",
        hint=f"`stigmer get {reference.kind.enum_name}` lists those there are",
    )
