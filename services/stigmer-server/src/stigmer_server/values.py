"""Values of workflow executions that are too large for messages: which execution has which.

The bytes are artifacts, named by their content, so the same value is kept once however many executions have it. A
value is kept for as long as an execution has it: until that is deleted, or has no use for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import IO, TYPE_CHECKING

import orjson
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import records
from stigmer_sqlite.port import KindSchema, Query, Reader, Record, Transaction

from stigmer_server.artifacts import PART_BYTES, VALUES
from stigmer_server.errors import InvalidError, MissingError

if TYPE_CHECKING:
    from stigmer_server.resources import Resources

SCHEMA = KindSchema(kind="execution_value", named=False, indexes={"execution": "$.execution"})
"""The store's kind of what says that an execution has a value; no resource of anybody's."""
_PAGE = 500


def add(transaction: Transaction, execution: str, key: str) -> None:
    """Note that an execution has a value."""
    data = orjson.dumps({"execution": execution, "key": key}).decode()
    transaction.save(Record(kind=SCHEMA.kind, id=_id(execution, key), data=data))


def has(reader: Reader, execution: str, key: str) -> bool:
    """Tell whether an execution has a value."""
    try:
        reader.head(SCHEMA.kind, _id(execution, key))
    except NotFoundError:
        return False
    return True


def forget(transaction: Transaction, execution: str, key: str) -> None:
    """Note that an execution has no use for a value any more."""
    if key and has(transaction, execution, key):
        transaction.delete(SCHEMA.kind, _id(execution, key))


def drop(transaction: Transaction, execution: str) -> None:
    """Note that an execution has no values any more."""
    for record in list(_records(transaction, {"execution": execution})):
        transaction.delete(SCHEMA.kind, record.id)


def named(reader: Reader) -> frozenset[str]:
    """Return the keys of all values that some execution has."""
    return frozenset(key_in(record) for record in _records(reader, {}))


def key_in(record: Record) -> str:
    """Return the key of the value that a record is about."""
    return str(orjson.loads(record.data)["key"])


async def parts(resources: Resources, execution: str, key: str, *, expanded: bool) -> AsyncIterator[bytes]:
    """Yield a value of an execution piece by piece, as it is kept or as its JSON text.

    Raises:
        MissingError: The execution has no such value.
    """
    if not await resources.store.read(lambda reader: has(reader, execution, key)):
        raise MissingError.of("Value", f"{key} of {execution}")
    kept = resources.values.parts(VALUES.key_of(key))
    async for part in _expanded(kept) if expanded else kept:
        yield part


def check(file: IO[bytes], size: int) -> None:
    """Make sure that a received file is a compressed text of so many bytes; it may block for a second.

    Raises:
        InvalidError: It is not.
    """
    import zstandard  # not before it is needed: most servers never meet a large value

    found = 0
    file.seek(0)
    try:
        # By pieces, so that a forged frame takes neither memory nor, beyond what was said, time.
        reader = zstandard.ZstdDecompressor().stream_reader(file, closefd=False)
        while found <= size and (part := reader.read(PART_BYTES)):
            found += len(part)
    except zstandard.ZstdError as error:
        raise InvalidError.of("chunk", "value.compression", f"what came is not compressed: {error}") from None
    if found != size:
        raise InvalidError.of("header.value.bytes", "value.size", f"is {size}, and what came has {found} bytes or more")


async def _expanded(kept: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    import zstandard

    expander = zstandard.ZstdDecompressor().decompressobj()
    async for part in kept:
        text = memoryview(await asyncio.to_thread(expander.decompress, part))
        for start in range(0, len(text), PART_BYTES):
            yield bytes(text[start : start + PART_BYTES])


def _id(execution: str, key: str) -> str:
    return f"{execution}/{key}"


def _records(reader: Reader, where: dict[str, str]) -> Iterator[Record]:
    return records(reader, Query(kind=SCHEMA.kind, where=where, newest_first=False, limit=_PAGE))
