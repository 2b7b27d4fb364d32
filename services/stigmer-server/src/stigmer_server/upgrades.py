"""What an older server stored otherwise than this one looks for it, brought up to date once, before anybody is served.

The tables are the store's to upgrade; here is what only the server knows of its documents. Each step leaves a record,
so that it is not taken again.
"""

from __future__ import annotations

from dataclasses import replace

from loguru import logger
from stigmer_sqlite.errors import NotFoundError, StoreError
from stigmer_sqlite.port import KindSchema, Query, Record, ResourceStore, Transaction

from stigmer_server.kinds import Kind, Kinds
from stigmer_server.labels import labels_of
from stigmer_server.unit import wire_of

SCHEMA = KindSchema(kind="upgrade")
"""The store's kind of the steps that were taken."""
_NAMES_INDEXED = "upgrade-names-indexed"
_BATCH = 200


async def bring_up_to_date(store: ResourceStore, kinds: Kinds) -> None:
    """Take the steps that were not taken yet; a database that takes no writes now stays as it is."""
    try:
        await store.head(SCHEMA.kind, _NAMES_INDEXED)
    except NotFoundError:
        try:
            await _index_names(store, kinds)
        except StoreError as error:
            logger.warning("what names other resources could not be indexed, deleting one may miss it: {}", error)


async def _index_names(store: ResourceStore, kinds: Kinds) -> None:
    """Label everything that names another resource, so that it is found by what it names."""
    labelled = 0
    for kind in kinds.values():
        if kind.references:
            labelled += await _label_all(store, kind)
    await store.save(Record(kind=SCHEMA.kind, id=_NAMES_INDEXED, data="{}"))
    if labelled:
        logger.info("indexed what {} resources name", labelled)


async def _label_all(store: ResourceStore, kind: Kind) -> int:
    query, labelled = Query(kind=kind.name, newest_first=False, limit=_BATCH), 0

    def label(transaction: Transaction) -> tuple[int, str]:
        page, changed = transaction.list(query), 0
        for record in page.records:
            labels = labels_of(kind, kind.parse(wire_of(record)))
            if labels != record.labels:
                transaction.save(replace(record, labels=labels, parts=()))
                changed += 1
        return changed, page.next_cursor

    while True:
        changed, cursor = await store.transact(label)
        labelled += changed
        if not cursor:
            return labelled
        query = replace(query, cursor=cursor)
