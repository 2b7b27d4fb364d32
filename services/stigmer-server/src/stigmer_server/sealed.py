"""Where sealed values stand in the database: in the secrets of resources, and in what the server keeps beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stigmer_sqlite import DatabaseFile, HistoryEntry, Record

from stigmer_server import executions, idempotency, outbox
from stigmer_server.kinds import Kinds
from stigmer_server.messages import to_json
from stigmer_server.secrets import Sealer, UnsealError, is_sealed, key_of, needs_redaction, reseal, secrets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a row of the store, or of its history, holds."""

    kind: str
    id: str
    data: str
    wire: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A value, and the place for which it is sealed."""

    id: str
    name: str
    text: str


def kinds_with_secrets(kinds: Kinds) -> Sequence[str]:
    """Return the store's kinds whose documents may hold sealed values."""
    return [*(kind.name for kind in kinds.values() if kind.secrets), outbox.SCHEMA.kind, idempotency.SCHEMA.kind]


def sealed_values(kinds: Kinds, document: Document) -> Iterator[Sealed]:
    """Yield the sealed values of a document."""
    if document.kind == idempotency.SCHEMA.kind:
        yield Sealed(id=document.id, name=idempotency.REQUEST, text=json.loads(document.data)[idempotency.REQUEST])
    elif document.wire is None:
        return
    elif document.kind == outbox.SCHEMA.kind:
        delivery = outbox.decoded(document.wire)
        yield Sealed(id=delivery.execution, name=executions.TOKEN, text=delivery.payload["token"])
    elif document.kind in kinds and needs_redaction(kinds[document.kind], document.wire):
        message = kinds[document.kind].parse(document.wire)
        for name, entry in secrets_of(kinds[document.kind], message):
            if is_sealed(entry.value):
                yield Sealed(id=message.metadata.id, name=name, text=entry.value)


def all_sealed(database: DatabaseFile, kinds: Kinds) -> Iterator[Sealed]:
    """Yield every sealed value of a database, present and past."""
    for documents in (database.records(), database.entries()):
        for found in documents:
            yield from sealed_values(kinds, document_of(found))


def document_of(found: Record | HistoryEntry) -> Document:
    """Return what a record, or an entry of the history, holds."""
    return Document(kind=found.kind, id=found.id, data=found.data, wire=found.wire)


def resealed(kinds: Kinds, sealer: Sealer, document: Document) -> tuple[str, bytes | None] | None:
    """Return the document's data and wire with its values sealed by the first key; None: there is nothing to do.

    What no key at hand opens stays as it is.
    """
    if document.kind == idempotency.SCHEMA.kind:
        (value,) = sealed_values(kinds, document)
        text = _resealed(value, sealer)
        known = json.loads(document.data)
        return None if text is None else (json.dumps({**known, idempotency.REQUEST: text}), document.wire)
    if document.wire is None:
        return None
    if document.kind == outbox.SCHEMA.kind:
        token = executions.reseal_token(document.wire, sealer)
        return None if token is None else (token.decode(), token)
    message = reseal(kinds[document.kind], document.wire, sealer)
    return None if message is None else (to_json(message), message.SerializeToString())


def _resealed(value: Sealed, sealer: Sealer) -> str | None:
    if key_of(value.text) == sealer.current:
        return None
    try:
        opened = sealer.unseal(value.text, id=value.id, name=value.name)
    except UnsealError:
        return None
    return sealer.seal(opened, id=value.id, name=value.name)
