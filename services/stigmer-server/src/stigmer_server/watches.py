"""Everybody who watches: the watches that are open, and the states that they are told.

A watch holds its place in the store's change feed and nothing else; how many states it has still to tell does not
matter. A state is made into what is sent once, however many watches tell it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from stigmer_protos import descriptors
from stigmer_sqlite.port import Changes, Record

from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, fill_struct, to_plain
from stigmer_server.resources import Resources
from stigmer_server.unit import wire_of

_CACHED_BYTES = 8 * 2**20
_LARGE = 64 * 2**10
"""Bytes of an encoded resource that take a millisecond or so to be made into JSON values; more is for a thread."""


@dataclass(frozen=True, slots=True)
class _State:
    version: tuple[int, int]
    content: bytes


class Watches:
    """The open watches of a server."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._open: set[Changes] = set()
        self._states: OrderedDict[tuple[str, str], _State] = OrderedDict()
        self._bytes = 0
        self._stopped = False

    @contextmanager
    def opened(self, changes: Changes) -> Generator[None]:
        """Keep an eye on a watch for the length of a block, to end it when the server stops."""
        self._open.add(changes)
        if self._stopped:
            changes.close()
        try:
            yield
        finally:
            self._open.discard(changes)

    def stop(self) -> None:
        """End every watch after the changes that are at hand, and let none begin."""
        self._stopped = True
        for changes in self._open:
            changes.close()

    async def state(self, kind: Kind, record: Record) -> bytes:
        """Return a record as callers may see it, encoded as a google.protobuf.Struct."""
        key, version = (kind.name, record.id), (record.position, record.version)
        known = self._states.get(key)
        if known is not None and known.version == version:
            self._states.move_to_end(key)
            return known.content
        shown = self._resources.shown(kind, record)
        large = len(wire_of(record)) > _LARGE
        content = await asyncio.to_thread(_encoded, kind, shown) if large else _encoded(kind, shown)
        self._keep(key, _State(version, content))
        return content

    def _keep(self, key: tuple[str, str], state: _State) -> None:
        former = self._states.pop(key, None)
        if former is not None and former.version > state.version:
            state = former
        self._states[key] = state
        self._bytes += len(state.content) - (len(former.content) if former else 0)
        while self._bytes > _CACHED_BYTES:
            _, dropped = self._states.popitem(last=False)
            self._bytes -= len(dropped.content)


def _encoded(kind: Kind, wire: bytes) -> bytes:
    struct: Message = descriptors.message_type("google.protobuf.Struct")()
    fill_struct(struct, to_plain(kind.parse(wire)))
    return struct.SerializeToString()
