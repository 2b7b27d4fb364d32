"""Files on their way to and from a server."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stigmer_cli import console, pages
from stigmer_cli.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from stigmer_cli.files.given import Given, check_path
from stigmer_cli.resources import Message

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

_COMMANDS = "ai.stigmer.files.v1.FileCommandController"
_QUERIES = "ai.stigmer.files.v1.FileQueryController"
_PART_BYTES = 2**20


async def put(channel: Channel, session: str, files: Iterable[Given]) -> list[Message]:
    """Put files into a session and return what is stored of each.

    Raises:
        InvalidInputError: One cannot be read.
    """
    return [await _put(channel, session, file) for file in files]


async def listed(channel: Channel, owner: str) -> list[Message]:
    """Return the files of a session or a run, by path."""
    found = [entry async for entry in pages.entries(channel, _QUERIES, "list", {"resource_id": owner})]
    return sorted(found, key=lambda entry: entry.path)


async def delete(channel: Channel, session: str, paths: Iterable[str]) -> None:
    """Take files out of a session."""
    for path in paths:
        await channel.service(_COMMANDS).unary("delete", {"session_id": session, "path": path})


def chosen(files: Iterable[Message], paths: Iterable[str], owner: str) -> list[Message]:
    """Return the files that have one of the paths, or are below one; all where there is none.

    Raises:
        NotFoundError: Nothing has one of them.
    """
    files, paths = list(files), [path.rstrip("/") for path in paths]
    for path in paths:
        if not any(_is_at(file.path, path) for file in files):
            msg = f"there is no file {path!r} in {owner}"
            raise NotFoundError(msg, hint=f"`stigmer files list {owner}` lists those there are")
    return [file for file in files if not paths or any(_is_at(file.path, path) for path in paths)]


async def save(channel: Channel, owner: str, files: Iterable[Message], folder: Path, *, overwrite: bool) -> list[Path]:
    """Write files below a folder and return where they are.

    Raises:
        ConflictError: Something is there already, and nothing said to write over it, or a link there leads out of the
            folder; nothing was written. Or one of them cannot be written.
        UnavailableError: What came is not what is stored.
    """
    targets = [(file, _target(folder, file.path)) for file in files]
    if not overwrite:
        _refuse_there([target for _, target in targets])
    for file, target in targets:
        try:
            with _placed(target, executable=file.executable) as opened:
                await copy(channel, owner, file, opened.write)
        except OSError as error:
            msg = f"{console.printable(str(target))} cannot be written: {error.strerror or error}"
            raise ConflictError(msg, hint="name another folder with --to") from None
    return [target for _, target in targets]


async def copy(channel: Channel, owner: str, file: Message, write: Callable[[bytes], Any]) -> None:
    """Pass on what is in a file, and compare it with its hash. Raises: UnavailableError."""
    found = hashlib.sha256()
    async for part in channel.service(_QUERIES).stream("get", {"resource_id": owner, "path": file.path}, timeout=None):
        found.update(part.chunk)
        write(part.chunk)
    if found.hexdigest() != file.sha256:
        msg = f"what came of {file.path} has the hash {found.hexdigest()}, and the file has {file.sha256}"
        raise UnavailableError(msg, hint="it was changed meanwhile: try again")


async def _put(channel: Channel, session: str, file: Given) -> Message:
    try:
        with file.source.open("rb") as opened:
            parts = _parts(session, file, opened)
            return await channel.service(_COMMANDS).client_stream("put", parts, timeout=math.inf)
    except OSError as error:
        raise InvalidInputError(f"{file.source}: {error.strerror}") from None


async def _parts(session: str, file: Given, opened: IO[bytes]) -> AsyncIterator[Any]:
    from stigmer_protos import descriptors

    part: Any = descriptors.message_type("ai.stigmer.files.v1.PutFilePart")
    yield part(header={"session_id": session, "path": file.path, "executable": file.is_executable})
    while chunk := opened.read(_PART_BYTES):
        yield part(chunk=chunk)


def _refuse_there(targets: Iterable[Path]) -> None:
    there = [target for target in targets if os.path.lexists(target)]
    if there:
        msg = f"{there[0]} is there already" + (f", and so are {len(there) - 1} more" if len(there) > 1 else "")
        raise ConflictError(msg, hint="write over it with --force, or name another folder with --to")


@contextmanager
def _placed(target: Path, *, executable: bool) -> Generator[IO[bytes]]:
    """Open a file that takes its place when it is whole; a link that is there is replaced, not followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".stigmer-", delete=False) as opened:
        made = Path(opened.name)
        try:
            yield opened
            opened.flush()
            made.chmod((0o777 if executable else 0o666) & ~_umask())
            made.replace(target)
        except BaseException:
            made.unlink(missing_ok=True)
            raise


def _target(folder: Path, path: str) -> Path:
    """Return where a file goes. What a server says is not believed: it stays below the folder, links or not."""
    check_path(path)
    target = folder / path
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(folder)):
        msg = f"{target.parent} leads out of {folder}"
        raise ConflictError(msg, hint="name another folder with --to")
    for place in (target, *target.parents):
        # Git runs what is put there, as hooks are, and whoever may change a session may put files into it.
        if place.name.casefold() == ".git" and place.is_relative_to(folder) and place != folder and place.exists():
            msg = f"{place} is a repository's own, and {path} would go into it"
            raise ConflictError(msg, hint="name another folder with --to")
    return target


def _is_at(path: str, wanted: str) -> bool:
    return path == wanted or path.startswith(f"{wanted}/")


def _umask() -> int:
    """Return what new files are not to have; it cannot be asked for without being set."""
    found = os.umask(0o022)
    os.umask(found)
    return found
