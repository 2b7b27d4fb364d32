"""The files of sessions and executions that the server keeps: what agents are given, and what they have made."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stigmer_grpc.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, UnimplementedError
from stigmer_protos.descriptors import message_type

from stigmer_runner.server import StigmerServer

_PACKAGE = "ai.stigmer.files.v1"
_COMMANDS, _QUERIES = f"{_PACKAGE}.FileCommandController", f"{_PACKAGE}.FileQueryController"
_PAGE, _PART_BYTES = 1000, 2**20


class RefusedFileError(Exception):
    """The server does not take a file; its `str` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file of a session.

    Attributes:
        path: Where it is in the workspace.
        size: How many bytes it has.
        hash: SHA-256 of its content, in hex.
        executable: Whether it can be run.
        by_person: Whether a person has put it there, and no execution has changed it since.
    """

    path: str
    size: int
    hash: str
    executable: bool = False
    by_person: bool = False


class KeptFiles:
    """Reads and writes them. Every method raises the RpcError of a server that is away."""

    def __init__(self, server: StigmerServer) -> None:
        self._server = server

    async def of(self, owner: str) -> tuple[KeptFile, ...] | None:
        """The files of a session or an execution; None: the server keeps none of anybody's."""
        found: list[KeptFile] = []
        token = ""
        while True:
            request = {"resource_id": owner, "page_size": _PAGE, "page_token": token}
            try:
                page = await self._server.call(_QUERIES, "list", request)
            except UnimplementedError:
                return None
            except NotFoundError:
                return ()
            found += map(_kept, page.entries)
            token = page.next_page_token
            if not token:
                return tuple(found)

    async def content(self, owner: str, file: KeptFile) -> bytes | None:
        """What is in a file; None: it is another one by now, and will be found again."""
        request = {"resource_id": owner, "path": file.path}
        try:
            parts = [part.chunk async for part in self._server.stream(_QUERIES, "get", request)]
        except NotFoundError:
            return None
        content = b"".join(parts)
        return content if await hash_of(content) == file.hash else None

    async def put(
        self, session: str, file: KeptFile, content: bytes, *, execution: str = "", replaces: str = ""
    ) -> None:
        """Keep a file of a session. Doing it again is harmless.

        Args:
            session: Id of the session.
            file: Which file it is.
            content: What is in it.
            execution: Id of the execution that has made it; "": a person, or somebody in their place, gives it.
            replaces: Of what an execution has made, the hash of the session's file that it takes the place of.

        Raises:
            RefusedFileError: The server does not take it.
            NotFoundError: There is no such session or execution.
            FailedPreconditionError: The execution has ended.
        """
        header = {
            "session_id": session,
            "execution_id": execution,
            "path": file.path,
            "sha256": file.hash,
            "executable": file.executable,
            "replaces": replaces,
        }
        try:
            await self._server.upload(_COMMANDS, "put", _Parts(header=header, content=content))
        except (InvalidArgumentError, ResourceExhaustedError) as error:
            raise RefusedFileError(error.message) from None

    async def delete(self, session: str, path: str, hash_: str) -> None:
        """Take a file out of the session, unless it has another content than the hash says."""
        request = {"session_id": session, "path": path, "sha256": hash_}
        try:
            await self._server.call(_COMMANDS, "delete", request)
        except NotFoundError:
            return


async def hash_of(content: bytes) -> str:
    """SHA-256 in hex, of which much takes its time: other turns go on meanwhile."""
    return (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()


def _kept(entry: Any) -> KeptFile:
    return KeptFile(
        path=entry.path,
        size=entry.bytes,
        hash=entry.sha256,
        executable=entry.executable,
        by_person=not entry.execution_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts in which a file is sent, made when they are."""

    header: dict[str, Any]
    content: bytes

    def __iter__(self) -> Iterator[Any]:
        part: Any = message_type(f"{_PACKAGE}.PutFilePart")
        yield part(header=self.header)
        for start in range(0, len(self.content), _PART_BYTES):
            yield part(chunk=self.content[start : start + _PART_BYTES])
