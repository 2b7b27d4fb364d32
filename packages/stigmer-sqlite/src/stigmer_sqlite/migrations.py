"""How the database's tables came about, step by step; `schema` says when this is needed, which is seldom."""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

migrations = Migrations("stigmer-sqlite")

# Small columns come first: a scan that filters on them never touches the pages where long documents overflow.
# `position` is the sequence of the change that created the record. `name_key` makes one index serve both sorts of
# kinds: 0 where the slug names the record (so it is unique), the position elsewhere (so slugs may repeat, in order).
_RESOURCES = """
CREATE TABLE resources (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    org_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    slug TEXT NOT NULL,
    name_key INTEGER NOT NULL,
    position INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    labels TEXT NOT NULL,
    search TEXT NOT NULL,
    data JSON TEXT NOT NULL CHECK (json_valid(data)),
    wire BLOB
)
"""

_DDL = (
    _RESOURCES,
    "CREATE UNIQUE INDEX resources_named ON resources (kind, org_id, slug, name_key) WHERE slug <> ''",
    "CREATE INDEX resources_by_slug ON resources (kind, slug, position) WHERE slug <> ''",
    "CREATE INDEX resources_by_kind ON resources (kind, position)",
    "CREATE INDEX resources_by_org ON resources (kind, org_id, position)",
    "CREATE INDEX resources_by_project ON resources (kind, project_id, position) WHERE project_id <> ''",
    """
    CREATE TABLE resource_labels (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        position INTEGER NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (kind, key, value, position)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE resource_history (
        id TEXT NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        kind TEXT NOT NULL,
        event TEXT NOT NULL,
        tag TEXT NOT NULL,
        hash TEXT NOT NULL,
        archived_at TEXT NOT NULL,
        data JSON TEXT NOT NULL,
        wire BLOB,
        PRIMARY KEY (id, version)
    )
    """,
    "CREATE INDEX resource_history_by_tag ON resource_history (id, tag, version) WHERE tag <> ''",
    "CREATE INDEX resource_history_by_hash ON resource_history (id, hash, version) WHERE hash <> ''",
    # AUTOINCREMENT keeps the newest sequence known even when every change was compacted away.
    """
    CREATE TABLE changes (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        operation TEXT NOT NULL,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        org_id TEXT NOT NULL,
        slug TEXT NOT NULL,
        version INTEGER NOT NULL
    )
    """,
    "CREATE TABLE kinds (kind TEXT NOT NULL PRIMARY KEY, named INTEGER NOT NULL)",
)


@migrations()
def m001_resources(db: Database) -> None:
    """Create the tables, the same for every kind there will ever be."""
    for statement in _DDL:
        db.conn.execute(statement)


_NUMBERED_HISTORY = """
CREATE TABLE numbered_history (
    id TEXT NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    tag TEXT NOT NULL,
    hash TEXT NOT NULL,
    actor TEXT NOT NULL,
    message TEXT NOT NULL,
    archived_at TEXT NOT NULL,
    data JSON TEXT NOT NULL,
    wire BLOB,
    PRIMARY KEY (id, version)
)
"""
_NUMBER_HISTORY = """
INSERT INTO numbered_history
SELECT id, version, row_number() OVER (PARTITION BY id ORDER BY version),
       kind, event, tag, hash, '', '', archived_at, data, wire
FROM resource_history
"""


@migrations()
def m002_revisions(db: Database) -> None:
    """Number the history and keep who wrote it and why; tell the labels of changes; find records by id as by name."""
    for statement in (
        _NUMBERED_HISTORY,
        _NUMBER_HISTORY,
        "DROP TABLE resource_history",
        "ALTER TABLE numbered_history RENAME TO resource_history",
        "CREATE UNIQUE INDEX resource_history_by_number ON resource_history (id, number)",
        "CREATE INDEX resource_history_by_tag ON resource_history (id, tag, version) WHERE tag <> ''",
        "CREATE INDEX resource_history_by_hash ON resource_history (id, hash, version) WHERE hash <> ''",
        "ALTER TABLE changes ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE changes ADD COLUMN former_labels TEXT",
        # The value, part of the primary key, comes along at the end.
        "CREATE INDEX resource_labels_by_key ON resource_labels (kind, key, position)",
        "UPDATE resources SET search = search || search_text('', NULL, id)",
        "CREATE TABLE identity (value TEXT NOT NULL)",
        "INSERT INTO identity VALUES (lower(hex(randomblob(16))))",
    ):
        db.conn.execute(statement)


# The elements of arrays that records keep apart. `documents` puts them together again, for people and other tools.
_PARTS = (
    "ALTER TABLE resources ADD COLUMN lengths JSON TEXT NOT NULL DEFAULT '{}'",
    """
    CREATE TABLE resource_parts (
        id TEXT NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
        path TEXT NOT NULL,
        position INTEGER NOT NULL,
        key TEXT NOT NULL,
        wire BLOB,
        data JSON TEXT NOT NULL CHECK (json_valid(data)),
        PRIMARY KEY (id, path, position)
    )
    """,
    "CREATE INDEX resource_parts_by_key ON resource_parts (id, path, key) WHERE key <> ''",
    """
    CREATE VIEW documents AS
    SELECT kind, id, org_id, project_id, slug, version, updated_at, labels, CASE lengths WHEN '{}' THEN data ELSE (
        WITH RECURSIVE
        arrays AS (
            SELECT row_number() OVER (ORDER BY each.key) AS number, each.key AS path, (
                SELECT json_group_array(json(data)) FROM (
                    SELECT data FROM resource_parts WHERE id = r.id AND path = each.key ORDER BY position
                )
            ) AS elements
            FROM json_each(r.lengths) AS each
        ),
        filled (number, document) AS (
            SELECT 0, r.data
            UNION ALL
            SELECT arrays.number, json_set(filled.document, arrays.path, json(arrays.elements))
            FROM filled JOIN arrays ON arrays.number = filled.number + 1
        )
        SELECT document FROM filled ORDER BY number DESC LIMIT 1
    ) END AS data
    FROM resources AS r
    """,
)


@migrations()
def m003_parts(db: Database) -> None:
    """Let records keep arrays of their documents apart; those that are stored stay as they are until they change."""
    for statement in _PARTS:
        db.conn.execute(statement)


@migrations()
def m004_present_documents(db: Database) -> None:
    """Let an entry of the history without a document stand for the present one; there is none such before this.

    Nothing changes in the tables. That the step was taken keeps earlier versions, which would read nothing there, from
    the database.
    """


def apply(connection: sqlite3.Connection) -> None:
    """Take every step that the database has not taken yet."""
    # Plugins of sqlite-utils are for its command line; a library must not load what happens to be installed.
    migrations.apply(Database(connection, execute_plugins=False, recursive_triggers=False))
