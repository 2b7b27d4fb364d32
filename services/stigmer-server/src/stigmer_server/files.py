"""Files of agents' workspaces: which session has which, and which an execution has made.

The bytes are artifacts, named by their content, so the same file is kept once however often it is there. What a session
has goes with the session, what an execution has made goes with the execution, whatever becomes of the workspace.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import orjson
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import records
from stigmer_sqlite.port import KindSchema, Query, Reader, Record, Transaction

from stigmer_server.errors import InvalidError

SCHEMA = KindSchema(kind="workspace_file", named=False, indexes={"owner": "$.owner"})
"""The store's kind of what says that a session or an execution has a file; no resource of anybody's."""
RESERVED = ".stigmer"
"""The folder of workspaces that is the runner's own; to some file systems, however it is written."""

_LONGEST_NAME, _LONGEST_PATH, _DEEPEST = 255, 1024, 32
_UNSPEAKABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that no name may have: controls, halves of characters, ends of lines."""
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that have the rest of a name shown in another order."""
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a session, or of an execution."""

    owner: str
    """Id of the session or the execution."""
    path: str
    hash: str
    bytes: int
    executable: bool = False
    execution: str = ""
    """The execution that has made it; empty: a person has put it there."""
    at: float
    """When it came, in seconds since 1970."""


def check_path(field: str, path: str) -> None:
    """Make sure that a path leads to a file of a workspace, and nowhere else, on whatever machine it is.

    Raises:
        InvalidError: It does not.
    """
    names = path.split("/")
    if path.startswith("/"):
        raise _wrong(field, path, "is absolute; say where in the workspace the file goes")
    if any(name in ("", ".", "..") for name in names):
        raise _wrong(field, path, "has an empty name, `.` or `..` in it")
    if any(unicodedata.category(each) in _UNSPEAKABLE or each in _TURNING for each in path) or "\\" in path:
        raise _wrong(field, path, "has a control character or a backslash in it")
    if names[0].casefold() == RESERVED:
        raise _wrong(field, path, f"is in the folder {RESERVED}, which is Stigmer's own")
    too_long = len(path.encode()) > _LONGEST_PATH or any(len(name.encode()) > _LONGEST_NAME for name in names)
    if too_long or len(names) > _DEEPEST:
        most = f"{_DEEPEST} names of {_LONGEST_NAME} bytes, {_LONGEST_PATH} in all"
        raise _wrong(field, path[:100], f"is too long; at most {most}")


def find(reader: Reader, owner: str, path: str) -> File | None:
    """Return a file of a session or of an execution, if it has one of that path."""
    try:
        return decoded(reader.get(SCHEMA.kind, _id(owner, path)))
    except NotFoundError:
        return None


def save(transaction: Transaction, file: File) -> None:
    """Note that the owner has the file, in place of the one that it had at the path."""
    id, data = _id(file.owner, file.path), orjson.dumps(asdict(file)).decode()
    stored = find(transaction, file.owner, file.path)
    if stored is not None and stored.hash != file.hash:
        # Deleted, so that the collector hears of content that nothing names any more.
        transaction.delete(SCHEMA.kind, id)
    transaction.save(Record(kind=SCHEMA.kind, id=id, data=data))


def share(transaction: Transaction, owner: str, other: str) -> None:
    """Note that another session has the files of a session too, as they are now."""
    for record in list(_records(transaction, {"owner": owner})):
        save(transaction, replace(decoded(record), owner=other))


def remove(transaction: Transaction, owner: str, path: str) -> None:
    """Note that the owner has no file at the path any more."""
    if find(transaction, owner, path) is not None:
        transaction.delete(SCHEMA.kind, _id(owner, path))


def drop(transaction: Transaction, owner: str) -> None:
    """Note that a session or an execution has no files any more."""
    for record in list(_records(transaction, {"owner": owner})):
        transaction.delete(SCHEMA.kind, record.id)


def count(reader: Reader, owner: str) -> int:
    """Return how many files a session or an execution has."""
    return reader.list(replace(of(owner), limit=1, count=True)).total or 0


def of(owner: str) -> Query:
    """Return what asks the store for the files of a session or an execution, in the order in which they came."""
    return Query(kind=SCHEMA.kind, where={"owner": owner}, newest_first=False, limit=_PAGE)


def named(reader: Reader) -> frozenset[str]:
    """Return the hashes of all files that somebody has."""
    return frozenset(decoded(record).hash for record in _records(reader, {}))


def decoded(record: Record) -> File:
    """Return the file that a record is about."""
    return File(**orjson.loads(record.data))


def _wrong(field: str, path: str, problem: str) -> InvalidError:
    return InvalidError.of(field, "file.path", f"{path!r} {problem}")


def _id(owner: str, path: str) -> str:
    """Return the id of a record; paths are free text, and longer than ids may be."""
    return f"{owner}/{hashlib.sha256(path.encode()).hexdigest()}"


def _records(reader: Reader, where: dict[str, str]) -> Iterator[Record]:
    return records(reader, Query(kind=SCHEMA.kind, where=where, newest_first=False, limit=_PAGE))
