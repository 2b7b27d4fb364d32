"""The versions of a resource: what they were, and making one of them the present one again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict
from stigmer_protos.descriptors import Kind

from stigmer_cli import pages
from stigmer_cli.messages import from_json
from stigmer_cli.resources import COMMANDS, DRY_RUN, PAGE_SIZE, QUERIES, Message

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel


class Revisions:
    """Lists, gets and brings back versions of resources of any kind."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def list(self, kind: Kind, identifier: str) -> AsyncIterator[Message]:
        """Yield the versions of a resource, newest first."""
        request = {"kind": kind.enum_name, "id": identifier, "page_size": PAGE_SIZE}
        async for entry in pages.entries(self._channel, QUERIES, "listRevisions", request):
            yield entry

    async def get(self, kind: Kind, identifier: str, version: str) -> Message:
        """Return the resource as it was in a version, which may be named by its id, a tag or a hash."""
        request = {"kind": kind.enum_name, "id": identifier, "version": version}
        found: Message = await self._channel.service(QUERIES).unary("getRevision", request)
        return from_json(kind, MessageToDict(found.resource))

    async def rollback(
        self, kind: Kind, identifier: str, version: str, *, message: str = "", dry_run: bool = False
    ) -> Message:
        """Make a version the present one, as a new version, and return the resource as it is then."""
        request = {"kind": kind.enum_name, "id": identifier, "version": version, "message": message}
        service = self._channel.service(COMMANDS)
        answer: Message = await service.unary("rollback", request, metadata=[DRY_RUN] if dry_run else ())
        return from_json(kind, MessageToDict(answer.resource))
