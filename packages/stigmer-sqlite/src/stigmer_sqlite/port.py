"""The resource store as its users see it: values, verbs and guarantees, and no word of SQL.

Above it stands any service that keeps versioned, named documents; below it stand the adapters
(`MemoryStore`, `SqliteStore`). It knows nothing of what a document means: the owner of a kind says, in a
`KindSchema`, whether its slug names it and which paths of its JSON are indexed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSchema:
    """What the store must know of one kind of resource."""

    kind: str
    """The kind's name, such as `workflow_execution`."""
    named: bool = True
    """Whether (kind, org_id, slug) is unique. Where it is not, slugs may repeat and `find` returns the newest.

    An empty slug is no slug: it may repeat anywhere, and `find` never finds it.
    """
    indexes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Index name to the JSON path of a scalar, such as `{"workflow_id": "$.spec.workflowId"}`; true is 1."""


class Part(NamedTuple):
    """One element of an array that a record keeps apart from the rest of its document.

    A tuple, for there may be thousands in a record, and these are made in a third of the time.
    """

    path: str
    """Where the array is in the document, such as `$.status.tasks`; there is none in `Record.data` then."""
    position: int
    """Which element of the array it is, from 0."""
    key: str
    """What `Reader.parts` finds it by; several may have the same. Empty: nothing finds it."""
    data: str
    """The element: JSON text. A part that is read has none where it has a `wire`: the text is for people and SQL."""
    wire: bytes | None = None
    """The same element in the caller's own encoding; None: not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One resource as stored. The store never changes `data` or `wire`.

    A record may keep arrays of its document apart, element by element, so that a change of a few elements is stored
    without the others. What `data` and `wire` hold then is the document without those arrays, whose paths and lengths
    are in `lengths`. Indexes and `Query.text` do not see what is kept apart.
    """

    kind: str
    id: str
    """Any text but the empty one; unique across kinds."""
    org_id: str = ""
    project_id: str = ""
    slug: str = ""
    data: str
    """The document: JSON text, the truth that history, indexes and people read."""
    wire: bytes | None = None
    """The same document in the caller's own encoding, kept so that a read need not parse JSON; None: not kept."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    lengths: Mapping[str, int] = field(default_factory=dict[str, int])
    """Path of each array that is kept apart, such as `$.status.tasks`, to how many elements it has."""
    name: str | None = None
    """What `$.metadata.name` says, given to `save` by whoever knows: the store need not look for it in `data` then.
    Records that are read do not have it."""
    parts: tuple[Part, ...] = ()
    """Elements of those arrays, by path and position: all of them where a record was read whole, none where it was
    read by `Reader.head`; in `save`, those that are new or have changed."""
    version: int = 0
    """Counts the writes of this resource from 1. Set by the store; ignored by `save`."""
    updated_at: datetime | None = None
    """UTC, set by the store."""
    position: int = 0
    """Its place in the order of creation: the sequence of the change that created it. Set by the store."""


class Encoding(NamedTuple):
    """A record in the caller's own encoding, for whoever passes it on: read in half the time of the record or less."""

    org_id: str
    wire: bytes | None
    """`Record.wire`."""
    lengths: Mapping[str, int]
    """`Record.lengths`."""
    parts: bytes | None
    """`Part.wire` of all its parts, by path and position, joined; None where one has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Asks `save` to keep the saved document in the resource's history."""

    event: str = "updated"
    """created, updated, rolled_back …"""
    tag: str = ""
    hash: str = ""
    actor: str = ""
    """Who made the document what it is."""
    message: str = ""
    """Why, in the words of the actor."""
    data: str | None = None
    """The whole document, which has to be given where the record keeps arrays apart; None: the record's own `data`."""
    wire: bytes | None = None
    """The same in the caller's encoding; goes with `data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A document as it once was; always whole."""

    kind: str
    id: str
    version: int
    number: int
    """Counts the archived documents of the resource from 1; `version` counts those that were not archived, too."""
    data: str
    """The document; empty where it was not asked for."""
    wire: bytes | None
    event: str
    tag: str
    hash: str
    actor: str
    message: str
    archived_at: datetime


class Operation(Enum):
    """What a change did."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed write. `sequence` rises by commit order and has no gaps within a store's life."""

    sequence: int
    operation: Operation
    kind: str
    id: str
    org_id: str
    slug: str
    version: int
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """The labels that the change left; those that the resource had last, where it was deleted."""
    former_labels: Mapping[str, str] | None = None
    """The labels before an update that changed them; None: they were the same, or there were none before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTerm:
    """What must hold of one label."""

    key: str
    values: Sequence[str] = ()
    """Any of these, or any at all where there are none."""
    negated: bool = False
    """Whether the label must not be so; a resource without it then fits."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether it holds of these labels."""
        found = self.key in labels and (not self.values or labels[self.key] in self.values)
        return found is not self.negated


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records of one kind to list, and which page of them. Every filter given must hold."""

    kind: str
    org_id: str | tuple[str, ...] | None = None
    """Only records of this organization, or of one of several; None: of any."""
    project_id: str | None = None
    slug: str = ""
    """Only records with this slug, in whatever organization; empty for all."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels that a record must have, with these values."""
    selector: Sequence[LabelTerm] = ()
    """Further terms about labels."""
    where: Mapping[str, str | int | bool | Sequence[str]] = field(
        default_factory=dict[str, "str | int | bool | Sequence[str]"]
    )
    """Index name (of the kind's schema) to the value it must equal, or to several of which it must equal one."""
    text: str = ""
    """Case-insensitive part of the id, the slug or `$.metadata.name`."""
    created_after: int = 0
    """Only records whose `position` is beyond this one."""
    newest_first: bool = True
    """Order by creation (ties by id), newest or oldest first."""
    limit: int = 100
    cursor: str = ""
    """`Page.next_cursor` of the page before; pages neither repeat nor skip a record that exists throughout.

    A cursor belongs to its filters, except that the values of one with several may change between pages.
    """
    offset: int = 0
    """How many more to leave out, from the first or from the cursor on; costs a step of the index for each."""
    count: bool = False
    """Whether to count all matches (`Page.total`); costs a scan of the matching index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A run of records, and where the next one starts."""

    records: tuple[Record, ...]
    next_cursor: str = ""
    """Empty on the last page."""
    total: int | None = None


@runtime_checkable
class Changes(Protocol):
    """Committed changes, oldest first and each once; what `ResourceStore.watch` returns."""

    @property
    def position(self) -> int:
        """The sequence up to which every change was yielded or did not match."""
        ...

    def __aiter__(self) -> AsyncIterator[Change]: ...

    async def __anext__(self) -> Change:
        """Wait for the next change. A reader that is cancelled here loses none.

        Raises:
            StopAsyncIteration: The watch or the store was closed.
            CompactedError: The next change is no longer kept.
            InvalidQueryError: The watch began after a sequence that no change has had yet.
        """
        ...

    def close(self) -> None:
        """End the watch after the changes that are at hand; whoever waits for the next one is told."""
        ...


@runtime_checkable
class Reader(Protocol):
    """What can be read inside a transaction; the same verbs as the store's, at once and consistent."""

    def get(self, kind: str, id: str) -> Record:
        """Return the record with all its parts. Raises: NotFoundError."""
        ...

    def head(self, kind: str, id: str) -> Record:
        """Return the record without its parts, which costs nothing of them. Raises: NotFoundError."""
        ...

    def encoding(self, kind: str, id: str) -> Encoding:
        """Return the encoding of the record with all its parts. Raises: NotFoundError."""
        ...

    def parts(self, kind: str, id: str, *, path: str, keys: Sequence[str]) -> tuple[Part, ...]:
        """Return the elements of an array kept apart that have one of the keys, by position; costs only those.

        Where there is no such record, array or key, there are no such elements.
        """
        ...

    def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """Return the record with this slug; `org_id=None` looks in every organization and returns the newest match."""
        ...

    def list(self, query: Query) -> Page:
        """Return one page of records.

        Raises:
            InvalidQueryError: An unknown index, a value that no index can hold, a limit outside of 1 to 10,000, or a
                cursor that belongs to another query.
        """
        ...

    def archived(
        self,
        kind: str,
        id: str,
        *,
        version: int | None = None,
        number: int | None = None,
        tag: str = "",
        hash: str = "",
    ) -> HistoryEntry:
        """As `ResourceStore.archived`."""
        ...

    def archived_hashes(self) -> frozenset[str]:
        """Return every hash under which a document of any kind is in the history."""
        ...


@runtime_checkable
class Transaction(Reader, Protocol):
    """Reads and writes that commit together or not at all. Used only inside `ResourceStore.transact`."""

    def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> Record:
        """Create the record or store it in place of the present one.

        Args:
            record: `version`, `updated_at` and `position` are ignored. A record keeps its creation order and its kind.
                Arrays that are not in its `lengths` are no longer kept apart; of the others, elements beyond the
                length go, those in `parts` are stored, and the rest stays as it is.
            expected: None: whatever is there. 0: nothing may be there. N: exactly version N must be there.
            archive: Also keep this document in the history.

        Raises:
            ConflictError: `expected` does not hold; nothing was written.
            SlugTakenError: Another record of the kind and organization has the slug; carries its id.
            IdTakenError: A record of another kind has the id.
            InvalidRecordError: `data` is no JSON text, some text holds NUL or a lone surrogate, or it is too large;
                an element that `lengths` counts is neither given nor stored; a record that keeps arrays apart is to
                be archived without its whole document.
        """
        ...

    def delete(self, kind: str, id: str, *, expected: int | None = None) -> Record:
        """Remove the record with its history and return it as it was. Raises: NotFoundError, ConflictError."""
        ...

    def delete_kind(self, kind: str) -> int:
        """Remove every record of the kind and return how many there were."""
        ...


@runtime_checkable
class ResourceStore(Protocol):
    """Versioned documents, durable once acknowledged.

    Every write is atomic; what was acknowledged survives a killed process and a power cut. Readers see whole
    commits only, and a caller sees its own writes. All methods may be called at once from many tasks.
    Methods raise UnknownKindError for a kind that was not declared, ClosedError after `close`, and
    StoreUnavailableError (disk full, read-only, corrupt) with the cause; nothing of a failed write is kept.
    """

    async def transact(self, work: Callable[[Transaction], T], *, tentative: bool = False) -> T:
        """Run `work` alone against the store, commit what it wrote, and return its result once that is durable.

        `work` is an ordinary function, does no I/O of its own and may run on another thread, and again. If it raises,
        nothing of it is kept and the exception reaches the caller. A caller that is cancelled learns nothing: the work
        may have been done or not. The transaction is of no use after the work.

        `tentative`: the work is expected to raise after it has written, such as a trial. What shares its commit is
        then spared running again.
        """
        ...

    async def read(self, work: Callable[[Reader], T]) -> T:
        """Run `work` against one state of the store, the newest that is durable, and return its result.

        It waits for no writer, and no writer for it. `work` is as for `transact`; the reader is of no use after it.
        """
        ...

    async def get(self, kind: str, id: str) -> Record:
        """As `Reader.get`."""
        ...

    async def head(self, kind: str, id: str) -> Record:
        """As `Reader.head`."""
        ...

    async def encoding(self, kind: str, id: str) -> Encoding:
        """As `Reader.encoding`."""
        ...

    async def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `Reader.find`."""
        ...

    async def list(self, query: Query) -> Page:
        """As `Reader.list`."""
        ...

    async def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> Record:
        """As `Transaction.save`, in a transaction of its own."""
        ...

    async def delete(self, kind: str, id: str, *, expected: int | None = None) -> Record:
        """As `Transaction.delete`, in a transaction of its own."""
        ...

    async def delete_kind(self, kind: str) -> int:
        """As `Transaction.delete_kind`, in a transaction of its own."""
        ...

    async def history(
        self, kind: str, id: str, *, before: int | None = None, limit: int | None = None, documents: bool = True
    ) -> tuple[HistoryEntry, ...]:
        """Return the archived documents, newest first; empty when there are none.

        Args:
            kind: The resource's kind.
            id: The resource's id.
            before: Only entries with a smaller number.
            limit: At most so many; None: all.
            documents: False leaves `data` and `wire` out, and reads none of them.
        """
        ...

    async def archived(
        self,
        kind: str,
        id: str,
        *,
        version: int | None = None,
        number: int | None = None,
        tag: str = "",
        hash: str = "",
    ) -> HistoryEntry:
        """Return one archived document: that version or number, the newest with the tag, or the newest with the hash.

        Where several are given, all must hold. Raises: NotFoundError, or InvalidQueryError where none is given.
        """
        ...

    def watch(self, *, after: int | None = None, kinds: Sequence[str] = (), id: str = "") -> Changes:
        """Yield committed changes in order, each once.

        Starts after sequence `after` (None: from now on). The watch is registered when this method returns, not at
        the first `anext`; it ends when the store closes, or with its last reference. It takes bounded memory however
        slowly it is read, and has one reader at a time.

        Args:
            after: Sequence of the last change already known; 0: from the first.
            kinds: Only changes of these; none: of every kind.
            id: Only changes of this resource.

        Raises:
            CompactedError: Changes after `after` (or after the last one yielded) are no longer kept.
            InvalidQueryError: No change has had the sequence `after` yet.
        """
        ...

    async def last_sequence(self) -> int:
        """Return the sequence of the newest change, 0 in a new store."""
        ...

    async def identity(self) -> str:
        """Return what tells this database from every other; sequences of different databases have nothing in common."""
        ...

    async def compact(self, *, keep: int, limit: int | None = None) -> int:
        """Drop all but the newest `keep` entries of the change feed; return how many were dropped. Resources stay.

        Args:
            keep: How many changes stay.
            limit: Drop at most so many, the oldest first, which is soon done; None: all that are too many.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun, refuse what comes after; again is harmless."""
        ...
