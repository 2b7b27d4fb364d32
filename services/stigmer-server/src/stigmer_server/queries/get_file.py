"""Read the files of a session, or those that an execution has made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from stigmer_protos import descriptors
from stigmer_sqlite.errors import InvalidCursorError

from stigmer_server import files
from stigmer_server.artifacts import FILES
from stigmer_server.errors import InvalidError, MissingError
from stigmer_server.files import File
from stigmer_server.queries.list_ import page_size_of
from stigmer_server.resources import Resources

_OWNERS = ("session", "agent_execution")


async def list_files(
    resources: Resources, owner: str, *, page_size: int = 0, page_token: str = ""
) -> tuple[list[File], str]:
    """Return a page of files, in the order in which they first came, and the token of the next.

    Raises:
        InvalidError: The page's size is negative or too large, its token is not one of ours, or the id is not that of a
            session or an agent execution.
        MissingError: There is no such session or execution.
    """
    await _check_seen(resources, owner)
    query = replace(files.of(owner), limit=page_size_of(page_size), cursor=page_token)
    try:
        page = await resources.store.list(query)
    except InvalidCursorError as error:
        raise InvalidError.of("page_token", "page_token.known", f"{error}; begin with the first page") from error
    return [files.decoded(record) for record in page.records], page.next_cursor


async def get_file(resources: Resources, owner: str, path: str) -> AsyncIterator[bytes]:
    """Yield a file piece by piece.

    Raises:
        InvalidError: The id is not that of a session or an agent execution.
        MissingError: There is no such session or execution, or it has no such file.
    """
    await _check_seen(resources, owner)
    file = await resources.store.read(lambda reader: files.find(reader, owner, path))
    if file is None:
        raise MissingError.of("File", f"{path!r} of {owner}")
    async for part in resources.files.parts(FILES.key_of(file.hash)):
        yield part


async def _check_seen(resources: Resources, owner: str) -> None:
    prefix = owner.partition("-")[0]
    for name in _OWNERS:
        kind = resources.kinds[name]
        if descriptors.kind_by_enum_name(name).id_prefix == prefix:
            await resources.head(kind, owner)
            return
    raise InvalidError.of("resource_id", "file.owner", f"{owner!r} is the id of no session and no agent execution")
