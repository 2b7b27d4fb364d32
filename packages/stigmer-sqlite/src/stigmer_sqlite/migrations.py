"""The database's schema: its tables, how they came about, and the indexes that the declared kinds ask for."""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

from stigmer_sqlite.errors import InvalidSchemaError, UnsupportedSchemaError
from stigmer_sqlite.failures import is_code
from stigmer_sqlite.kinds import Kind, Kinds

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


# `pending` asks the database; an empty one has everything pending.
_KNOWN = frozenset(migration.name for migration in migrations.pending(Database(memory=True, execute_plugins=False)))


def check_supported(connection: sqlite3.Connection) -> None:
    """Refuse, before anything is written, a database that is not ours or is newer. Raises: UnsupportedSchemaError."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return
    db = _database(connection)
    applied = [migration.name for migration in migrations.applied(db)]
    if not applied and tables - {migrations.migrations_table}:
        raise UnsupportedSchemaError(f"the file is another application's database (it has tables {sorted(tables)})")
    if unknown := [name for name in applied if name not in _KNOWN]:
        raise UnsupportedSchemaError(f"the database was written by a newer version (unknown migrations: {unknown})")


def migrate(connection: sqlite3.Connection, kinds: Kinds) -> None:
    """Bring the schema up to date, and the indexes and names in line with the declared kinds.

    Raises: InvalidSchemaError when a kind becomes named whose slugs repeat; nothing of the kinds was changed then.
    """
    db = _database(connection)
    migrations.apply(db)
    with db.atomic():
        for kind in kinds:
            _apply_naming(connection, kind)
        _apply_indexes(connection, kinds)


def index_name(kind: Kind, name: str) -> str:
    """Return the name of the database index for a kind's declared index."""
    return f"where_{kind.name}.{name}"


def _apply_naming(connection: sqlite3.Connection, kind: Kind) -> None:
    known = connection.execute("SELECT named FROM kinds WHERE kind = ?", (kind.name,)).fetchone()
    if known is not None and bool(known[0]) == kind.named:
        return
    try:
        connection.execute(
            "UPDATE resources SET name_key = CASE WHEN ? THEN 0 ELSE position END WHERE kind = ?",
            (kind.named, kind.name),
        )
    except sqlite3.IntegrityError as error:
        if not is_code(error, sqlite3.SQLITE_CONSTRAINT_UNIQUE):
            raise
        raise InvalidSchemaError(f"kind {kind.name!r} cannot be named: some of its stored slugs repeat") from error
    connection.execute("INSERT OR REPLACE INTO kinds (kind, named) VALUES (?, ?)", (kind.name, kind.named))


def _apply_indexes(connection: sqlite3.Connection, kinds: Kinds) -> None:
    wanted = {
        index_name(kind, name): f'CREATE INDEX "{index_name(kind, name)}" ON resources '
        f"(json_extract(data, '{path.text}'), position) WHERE kind = '{kind.name}'"
        for kind in kinds
        for name, path in kind.indexes.items()
    }
    present = dict(
        connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name GLOB 'where_*'")
    )
    for name, sql in present.items():
        if wanted.get(name) != sql:
            connection.execute(f'DROP INDEX "{name}"')
    for name, sql in wanted.items():
        if present.get(name) != sql:
            connection.execute(sql)


def _database(connection: sqlite3.Connection) -> Database:
    # Plugins of sqlite-utils are for its command line; a library must not load what happens to be installed.
    return Database(connection, execute_plugins=False, recursive_triggers=False)
