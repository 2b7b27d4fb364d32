"""Put a file into a session, for a person or for the execution that has made it; and take one out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

from stigmer_server import executions, files, parts
from stigmer_server.errors import InvalidError, RefusedError, TooLargeError
from stigmer_server.files import File
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Unit

MOST_FILES = 2000
"""Files that a session, or an execution, may have."""


async def put_file(resources: Resources, given: AsyncIterator[Message]) -> File:
    """Keep a file, durably, and return it. Putting the same again is harmless.

    Raises:
        InvalidError: The header is not the first part and the only one, its path leads nowhere, the file is too large,
            or it is another one than the header says.
        MissingError: There is no such session, or no such execution in it.
        RefusedError: The execution has ended.
        TooLargeError: The session, or the execution, has too many files.
        DeniedError: The session is not the caller's to change.
    """
    first = await anext(given, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidError.of("header", "file.parts.header", "send a header first, and after it the file")
    header = first.header
    files.check_path("header.path", header.path)
    await resources.read(lambda unit: _check(unit, header))
    async with resources.files.receiving() as incoming:
        async for part in given:
            if part.WhichOneof("part") != "chunk":
                raise InvalidError.of("header", "file.parts.order", "send one header, and after it nothing but chunks")
            await incoming.write(part.chunk)
        if header.sha256 not in ("", incoming.hash):
            problem = f"is {header.sha256}, and what came is {incoming.hash}; send the file again"
            raise InvalidError.of("header.sha256", "file.sha256", problem)
        if not resources.call.dry_run:
            await incoming.keep()
        file = File(
            owner=header.session_id,
            path=header.path,
            hash=incoming.hash,
            bytes=incoming.size,
            executable=header.executable,
            execution=header.execution_id,
            at=time.time(),
        )
        await resources.transact(lambda unit: _store(unit, header, file))
    return file


async def delete_file(resources: Resources, session: str, path: str, *, hash: str = "") -> None:
    """Take a file out of a session. One that is not there, or has another content than `hash` says, is left alone.

    Raises:
        MissingError: There is no such session.
        DeniedError: It is not the caller's to change.
    """

    def work(unit: Unit) -> None:
        _writable(unit, session)
        stored = files.find(unit.reader, session, path)
        if stored is not None and hash in ("", stored.hash):
            files.remove(unit.transaction, session, path)

    await resources.transact(work)


def _store(unit: Unit, header: Message, file: File) -> None:
    _check(unit, header)
    if file.execution:
        _save(unit, replace(file, owner=file.execution))
        stored = files.find(unit.reader, file.owner, file.path)
        if (stored.hash if stored is not None else "") not in (header.replaces, file.hash):
            return
    _save(unit, file)


def _save(unit: Unit, file: File) -> None:
    if files.find(unit.reader, file.owner, file.path) is None and files.count(unit.reader, file.owner) >= MOST_FILES:
        msg = f"{file.owner} has {MOST_FILES} files, and may have no more; pack what belongs together, or delete some"
        raise TooLargeError(msg)
    files.save(unit.transaction, file)


def _check(unit: Unit, header: Message) -> None:
    """Make sure that the session takes the file, and the execution, if one has made it."""
    _writable(unit, header.session_id)
    if not header.execution_id:
        return
    kind = unit.kinds["agent_execution"]
    unit.require_exists(kind.name, header.execution_id)
    execution = kind.parse(parts.head(unit.reader.head(kind.name, header.execution_id)))
    if execution.spec.session_id != header.session_id:
        problem = f"{header.execution_id} is no execution of session {header.session_id}"
        raise InvalidError.of("header.execution_id", "file.execution", problem)
    if kind.is_finished(execution):
        raise RefusedError(executions.has_ended(kind, execution, "takes no file any more"))


def _writable(unit: Unit, session: str) -> None:
    unit.require_writable(unit.kinds["session"], unit.require("session", session))
