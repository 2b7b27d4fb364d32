"""The organization that a new server has from the start, so that there is one to put resources into."""

from __future__ import annotations

from loguru import logger
from stigmer_sqlite.errors import StoreError
from stigmer_sqlite.port import Query

from stigmer_server.commands.apply import apply
from stigmer_server.messages import Message
from stigmer_server.resources import Resources

LOCAL = "local"
"""Slug of the organization that the command line uses unless it is told another."""


async def ensure_organization(resources: Resources) -> None:
    """Make the organization `local` if there is none at all; a database that takes no writes now gets none."""
    kind = resources.kinds["organization"]
    if (await resources.store.list(Query(kind=kind.name, limit=1))).records:
        return
    message: Message = kind.type(api_version=kind.described.api_version, kind=kind.title)
    message.metadata.name = message.metadata.slug = LOCAL
    message.spec.description = "The organization that is here from the start"
    try:
        await apply(resources, kind, message)
    except StoreError as error:
        logger.warning("the organization {} could not be made: {}", LOCAL, error)
