"""The verbs of every kind of resource over one connection, chosen from the contract's own tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli.errors import InvalidInputError, NotFoundError
from stigmer_cli.references import Reference

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

Message: TypeAlias = Any
"""A message of the contract's descriptor pool; its fields are known to the contract and not to the type checker."""

_LISTING = "ai.stigmer.resources.v1.ResourceController"
PAGE_SIZE = 200


class Resources:
    """Gets, lists, applies and deletes resources of any kind."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

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
        async for entry in self.list(reference.kind, org=reference.org, text=reference.slug):
            if entry["metadata"].get("slug") == reference.slug:
                return await self.get(Reference(kind=reference.kind, id=entry["metadata"]["id"]))
        raise _missing(reference)

    async def find(self, reference: Reference) -> Message | None:
        """Return the resource, None when there is none."""
        try:
            return await self.get(reference)
        except NotFoundError:
            return None

    async def list(
        self, kind: Kind, *, org: str = "", labels: Mapping[str, str] | None = None, text: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield every resource of the kind in proto-JSON, newest first, page by page."""
        from google.protobuf.json_format import MessageToDict

        token = ""
        while True:
            request = {"kind": kind.enum_name, "org": org, "labels": dict(labels or {}), "text": text}
            request |= {"page_size": PAGE_SIZE, "page_token": token}
            page: Message = await self._channel.service(_LISTING).unary("list", request)
            for entry in page.entries:
                yield MessageToDict(entry)
            token = page.next_page_token
            if not token:
                return

    async def apply(self, kind: Kind, message: Message) -> Message:
        """Create the resource or update the one of its name; a kind without `apply` is created.

        Raises:
            InvalidInputError: Resources of this kind cannot be made by hand.
        """
        for verb in ("apply", "create"):
            if _service_with(kind, verb):
                return await self._call(kind, verb, message)
        msg = f"a resource of kind {kind.enum_name} cannot be applied"
        raise InvalidInputError(msg)

    async def create(self, kind: Kind, message: Message) -> Message:
        """Create the resource."""
        return await self._call(kind, "create", message)

    async def delete(self, reference: Reference, *, force: bool = False) -> Message:
        """Delete the resource and return what it was.

        Raises:
            NotFoundError: There is none.
        """
        found = await self.get(reference)
        request = _by_id(reference.kind, "delete", found.metadata.id)
        stub = self._channel.service(_require_service(reference.kind, "delete"))
        return await stub.unary("delete", request, metadata=[("x-stigmer-force", "true")] if force else ())

    def subscribe(self, kind: Kind, identifier: str) -> AsyncIterator[Message]:
        """Yield the resource as it is and then as it becomes, until it is finished."""
        stub = self._channel.service(_require_service(kind, "subscribe"))
        return stub.stream("subscribe", _by_id(kind, "subscribe", identifier))

    async def _call(self, kind: Kind, verb: str, request: Message) -> Message:
        return await self._channel.service(_require_service(kind, verb)).unary(verb, request)


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
