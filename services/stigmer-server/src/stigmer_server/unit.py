"""One transaction, in terms of resources: what `settle` functions and commands read and write.

Stands on the store's transaction and adds messages, sealing of secrets and the effects that wait for the commit.
Runs in the store's writer and may run again from the start, so it keeps no state beyond itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace

from stigmer_protos import descriptors
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import records
from stigmer_sqlite.port import Archive, Query, Reader, Record, Transaction

from stigmer_server import audit, executions, messages, naming, parts
from stigmer_server.calls import Call
from stigmer_server.errors import DeniedError, InvalidError, MissingError
from stigmer_server.kinds import Kind, Kinds
from stigmer_server.kinds.port import Filter
from stigmer_server.labels import labels_of
from stigmer_server.lifecycle import Level
from stigmer_server.messages import Message
from stigmer_server.outbox import Outbox
from stigmer_server.parts import Divided, Excerpt
from stigmer_server.secrets import Sealer, seal_message

_TENANT = "organization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A resource as a transaction left it."""

    kind: Kind
    id: str
    wire: bytes
    """The stored encoding, or where the caller wants little of it at least its head; secrets in it are sealed."""
    head: bytes | None = None
    """The encoding of its head, in which all secrets are; None: it has no parts."""


class Unit:
    """The work of one transaction on resources."""

    def __init__(
        self,
        transaction: Transaction,
        kinds: Kinds,
        sealer: Sealer,
        call: Call,
        *,
        guarded: bool = False,
        lifecycle: Level = "off",
        trace: str = "",
    ) -> None:
        self.transaction = transaction
        """The store's own, for what is no resource."""
        self.sealer = sealer
        self.kinds = kinds
        self.call = call
        self.guarded = guarded
        """Whether callers are told apart, so that what they name has to be theirs."""
        self.lifecycle: Level = lifecycle
        """Of what lifecycle events are published."""
        self.now = timestamp()
        self.changed: list[tuple[str, str]] = []
        """Resources (kind, id) that were written or removed."""
        self._excerpts: dict[str, Excerpt] = {}
        self.outbox = Outbox(transaction, trace=trace)
        """What the engine has to do once this is committed."""

    @property
    def reader(self) -> Reader:
        """The store's own view of the transaction, for reading."""
        return self.transaction

    def find(self, kind: str, *, org: str | None, slug: str) -> Message | None:
        """Return the resource with this slug, if the caller may see it; `org=None` looks wherever that is so."""
        for place in (org,) if org is not None else self.call.caller.places(shared=self.kinds[kind].shared):
            record = self.transaction.find(kind, org_id=place, slug=slug)
            if record is not None and self._sees(kind, record):
                return self.kinds[kind].parse(wire_of(record))
        return None

    def is_taken(self, kind: str, id: str) -> bool:
        """Tell whether there is a resource with this id, whoever may see it; there is none without an id."""
        return self._head(kind, id) is not None

    def named(self, kind: str, *, org: str | None, slug: str) -> list[Message]:
        """Return the resources with this slug, newest first; `org=None` looks in every organization."""
        page = self.transaction.list(Query(kind=kind, org_id=org, slug=slug))
        return [self.kinds[kind].parse(wire_of(record)) for record in page.records]

    def exists(self, kind: str, id: str) -> bool:
        """Tell whether there is such a resource that the caller may see; there is none without an id."""
        record = self._head(kind, id)
        return record is not None and self._sees(kind, record)

    def require(self, kind: str, id: str) -> Message:
        """Return the resource with its secrets sealed.

        Raises:
            MissingError: There is none, or none that the caller may see.
        """
        try:
            record = self.transaction.get(kind, id)
        except NotFoundError as error:
            raise MissingError.of(self.kinds[kind].title, id) from error
        if not self._sees(kind, record):
            raise MissingError.of(self.kinds[kind].title, id)
        return self.kinds[kind].parse(wire_of(record))

    def require_writable(self, kind: Kind, message: Message) -> None:
        """Check that a resource which the caller sees is also its to change. Raises: DeniedError."""
        if not self.call.caller.may_write(message.metadata.org):
            msg = f"{kind.title} {message.metadata.id} is the platform's, which its operator alone changes"
            raise DeniedError(msg)

    def require_organization(self, slug: str) -> None:
        """Check that resources may belong to the organization: where callers are told apart, it has to exist.

        Raises:
            MissingError: It does not.
        """
        if self.guarded and slug and self.transaction.find(_TENANT, org_id=slug, slug=slug) is None:
            raise MissingError.of(self.kinds[_TENANT].title, slug)

    def within(self, org: str) -> Unit:
        """Return the same unit for what is done on behalf of an organization, which sees no other's resources.

        Where callers are not told apart, nothing is anybody's in particular.
        """
        if not self.guarded:
            return self
        made = copy(self)
        made.call = replace(self.call, caller=replace(self.call.caller, org=org))
        return made

    def _sees(self, kind: str, record: Record) -> bool:
        caller = self.call.caller
        return caller.org is None or caller.sees(record.org_id, shared=self.kinds[kind].shared)

    def _head(self, kind: str, id: str) -> Record | None:
        if not id:
            return None
        try:
            return self.transaction.head(kind, id)
        except NotFoundError:
            return None

    def require_reported(self, kind: Kind, id: str, report: Message) -> Message:
        """Return an execution, of whose arrays maybe only that is there which a reported status is about.

        Merge the report into it, then give it to `replace_status` or `as_stored`, which see to the rest.

        Raises:
            MissingError: There is no such execution.
        """
        try:
            excerpt = parts.excerpt(kind, self.transaction, id, report)
        except NotFoundError as error:
            raise MissingError.of(kind.title, id) from error
        if excerpt is None:
            return self.require(kind.name, id)
        if not self.call.caller.sees(excerpt.message.metadata.org):
            raise MissingError.of(kind.title, id)
        self._excerpts[id] = excerpt
        return excerpt.message

    def as_stored(self, kind: Kind, message: Message) -> Saved:
        """Return a resource that was read and shall stay as it is, whole."""
        id = message.metadata.id
        if self._excerpt(message) is None:
            return Saved(kind=kind, id=id, wire=message.SerializeToString())
        return self._stored(kind, id)

    def require_exists(self, kind: str, id: str) -> None:
        """Check that there is such a resource. Raises: MissingError."""
        if not self.exists(kind, id):
            raise MissingError.of(self.kinds[kind].title, id)

    def records(
        self,
        kind: str,
        where: Mapping[str, Filter] | None = None,
        *,
        org: str | None = None,
        label: str = "",
        value: str = "1",
    ) -> Iterator[Record]:
        """Yield every matching record, oldest first; `label`: one that it has, with this value."""
        labels = {label: value} if label else {}
        query = Query(kind=kind, org_id=org, where=where or {}, labels=labels, newest_first=False, limit=200)
        return records(self.transaction, query)

    def insert(self, kind: Kind, message: Message, *, event: str = "created") -> Saved:
        """Store a new, complete resource and its first history entry: seals its secrets, begins its audit.

        Raises: the store's SlugTakenError and ConflictError; InvalidError for a redacted secret.
        """
        version = message.metadata.version
        version.id = "1"
        version.ClearField("previous_version_id")
        audit.record_creation(message, self.call.caller.id, self.now)
        seal_message(kind, message, None, self.sealer)
        return self._save(kind, message, expected=0, archive=self._archive(kind, message, event))

    def replace(self, kind: Kind, message: Message, stored: Message, *, event: str = "updated") -> Saved:
        """Store a new spec and metadata, and keep them in the history; `stored` is what they replace."""
        version = int(stored.metadata.version.id or "1")
        message.metadata.version.id = str(version + 1)
        message.metadata.version.previous_version_id = str(version)
        audit.record_change(message, self.call.caller.id, self.now)
        return self._save(kind, message, archive=self._archive(kind, message, event))

    def seal(self, kind: Kind, message: Message, stored: Message) -> None:
        """Seal the secrets of a new state; a redacted one keeps its stored value. Raises: InvalidError."""
        seal_message(kind, message, stored, self.sealer)

    def replace_status(self, kind: Kind, message: Message) -> Saved:
        """Store a resource of which only the status has changed."""
        audit.record_status_change(message, self.call.caller.id, self.now)
        return self._save(kind, message)

    def unchanged(self, kind: Kind, message: Message) -> Saved:
        """Return the answer of a command that found spec and metadata as they should be; its audit says so."""
        answer = messages.copied(message)
        audit.say_unchanged(answer)
        return Saved(kind=kind, id=message.metadata.id, wire=answer.SerializeToString())

    def delete(self, kind: Kind, id: str) -> Saved:
        """Remove the resource and its history; an execution that still runs is cancelled after the commit."""
        record = self.transaction.delete(kind.name, id)
        self.changed.append((kind.name, id))
        wire = wire_of(record)
        message = kind.parse(wire)
        if kind.phases:
            executions.abandon(self, kind, message)
        kind.removed(message, self)
        return Saved(kind=kind, id=id, wire=wire)

    def _archive(self, kind: Kind, message: Message, event: str) -> Archive:
        tag, hash = kind.version_names(message)
        why = message.metadata.version.message
        return Archive(event=event, tag=tag, hash=hash, actor=self.call.caller.id, message=why)

    def _save(
        self, kind: Kind, message: Message, *, expected: int | None = None, archive: Archive | None = None
    ) -> Saved:
        id, excerpt = message.metadata.id, self._excerpt(message)
        with _in_json():
            if excerpt is not None:
                divided = parts.divided_excerpt(kind, excerpt, self.transaction)
            else:
                divided = parts.divided(kind, message, self.transaction)
            record = record_of(kind, divided)
            if archive is not None and divided.lengths:
                archive = replace(archive, data=messages.to_json(message), wire=message.SerializeToString())
        self.transaction.save(record, expected=expected, archive=archive)
        self.changed.append((kind.name, id))
        if not divided.lengths or self.call.brief:
            return Saved(kind=kind, id=id, wire=parts.head(record))
        return self._stored(kind, id)

    def _excerpt(self, message: Message) -> Excerpt | None:
        """Return what is known of a message that is not whole."""
        found = self._excerpts.get(message.metadata.id)
        return found if found is not None and found.message is message else None

    def _stored(self, kind: Kind, id: str) -> Saved:
        found = self.transaction.encoding(kind.name, id)
        return Saved(kind=kind, id=id, wire=parts.joined(kind.name, id, found), head=found.wire)


def record_of(kind: Kind, divided: Divided) -> Record:
    """Return a resource as the store keeps it. Raises: ValueError when it cannot be said in JSON."""
    message = divided.head
    metadata = message.metadata
    return Record(
        kind=kind.name,
        id=metadata.id,
        org_id=metadata.org,
        slug=metadata.slug,
        data=messages.to_json(message),
        wire=message.SerializeToString(),
        name=metadata.name,
        lengths=divided.lengths,
        parts=divided.parts,
        labels=labels_of(kind, message),
    )


@contextmanager
def _in_json() -> Generator[None]:
    """Turn away a resource that cannot be said in JSON. Raises: InvalidError."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise InvalidError.of("", "json.representable", str(error)) from error


def wire_of(record: Record) -> bytes:
    """Return the encoding of a stored resource, whole; this server always keeps it."""
    return parts.whole(record)


def assign_id(kind: Kind, message: Message) -> None:
    """Give a new resource its id."""
    message.metadata.id = naming.new_id(kind.described.id_prefix)


_timestamp: Callable[..., Message] = descriptors.message_type("google.protobuf.Timestamp")


def timestamp() -> Message:
    """Return the present moment."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return _timestamp(seconds=seconds, nanos=nanos // 1000 * 1000)
