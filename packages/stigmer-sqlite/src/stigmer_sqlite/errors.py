"""What can go wrong in a store, in one tree.

StoreError
├── NotFoundError              no such record, or no such entry of its history
├── ConflictError              the record is not at the version the caller expected
├── SlugTakenError             another record of the kind and organization has the slug
├── IdTakenError               a record of another kind has the id
├── InvalidRecordError         a record that cannot be stored as it is
├── InvalidQueryError          a query, cursor or sequence that means nothing here
│   ├── InvalidCursorError     a cursor of another query, or of no query at all
│   └── UnknownKindError       a kind that was not declared when the store was opened
├── InvalidSchemaError         a KindSchema that is malformed, or that the stored records contradict
├── CompactedError             the changes asked for are no longer kept
├── ClosedError                the store is closed, or the transaction is over
└── StoreUnavailableError      the storage beneath fails: disk full, read-only, corrupt
    ├── InUseError             another process, or another store of this one, owns the database
    └── UnsupportedSchemaError the database was written by a newer version, or by something else
"""

from __future__ import annotations


class StoreError(Exception):
    """The root of every error that a store raises of its own accord."""


class NotFoundError(StoreError):
    """No record has this kind and id, or its history has no such entry."""

    def __init__(self, kind: str, id: str, what: str = "") -> None:
        super().__init__(f"no {kind} with id {id!r}" + (f" has {what} in its history" if what else ""))
        self.kind = kind
        self.id = id


class ConflictError(StoreError):
    """The caller expected another version than the stored one; nothing was written."""

    def __init__(self, kind: str, id: str, *, expected: int, actual: int) -> None:
        stored = f"is at version {actual}" if actual else "does not exist"
        wanted = f"version {expected}" if expected else "no record"
        super().__init__(f"{kind} {id!r} {stored}, expected {wanted}")
        self.kind = kind
        self.id = id
        self.expected = expected
        """What the caller gave; 0: nothing there."""
        self.actual = actual
        """The stored version; 0: nothing there."""


class SlugTakenError(StoreError):
    """Another record of the same kind and organization has the slug; nothing was written."""

    def __init__(self, kind: str, org_id: str, slug: str, *, id: str) -> None:
        super().__init__(f"{kind} with slug {slug!r} already exists in organization {org_id!r} (id: {id})")
        self.kind = kind
        self.org_id = org_id
        self.slug = slug
        self.id = id
        """The id of the record that has the slug."""


class IdTakenError(StoreError):
    """A record of another kind has the id; ids are unique across kinds."""

    def __init__(self, kind: str, id: str, *, holder: str) -> None:
        super().__init__(f"{kind} cannot have the id {id!r}: a {holder} has it")
        self.kind = kind
        self.id = id
        self.holder = holder
        """The kind of the record that has the id."""


class InvalidRecordError(StoreError):
    """The record cannot be stored as it is: no JSON, NUL or lone surrogates in its text, an empty id, too large."""


class InvalidQueryError(StoreError):
    """The question means nothing to this store: an unknown index, a foreign cursor, a limit out of range."""


class InvalidCursorError(InvalidQueryError):
    """The cursor is none of this store's, or belongs to another query."""


class UnknownKindError(InvalidQueryError):
    """The kind is none of those declared when the store was opened."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"kind {kind!r} is not declared in this store")
        self.kind = kind


class InvalidSchemaError(StoreError):
    """A KindSchema is malformed, or says what the stored records contradict."""


class CompactedError(StoreError):
    """Changes right after the given sequence are no longer kept; read the resources anew and watch from now on."""

    def __init__(self, after: int) -> None:
        super().__init__(f"changes after sequence {after} are no longer kept")
        self.after = after


class ClosedError(StoreError):
    """The store is closed, or the transaction was used after its end."""


class StoreUnavailableError(StoreError):
    """The storage beneath failed; nothing of the failed call was kept. The cause is chained."""


class InUseError(StoreUnavailableError):
    """The database is open elsewhere; only one store at a time owns it."""

    def __init__(self, path: str, *, holder: int | None) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(f"database {path} is in use by {who}")
        self.path = path
        self.holder = holder
        """Process id of the owner; None when it could not be told."""


class UnsupportedSchemaError(StoreUnavailableError):
    """The file holds a schema that this version does not know; it was left untouched."""
