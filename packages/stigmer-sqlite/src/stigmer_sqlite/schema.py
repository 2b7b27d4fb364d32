"""The database's schema: whether it is ours and up to date, and the indexes that the declared kinds ask for.

Nearly always nothing has to be migrated, so sqlite-utils, which takes longer to load than all else here together, is
imported only where something has.
"""

from __future__ import annotations

import sqlite3

from stigmer_sqlite.errors import InvalidSchemaError, UnsupportedSchemaError
from stigmer_sqlite.failures import is_code
from stigmer_sqlite.kinds import Kind, Kinds

STEPS = ("m001_resources", "m002_revisions", "m003_parts", "m004_present_documents")
"""The names of the migrations, in order."""
_SET = "stigmer-sqlite"
_TABLE = "_sqlite_migrations"


def check_supported(connection: sqlite3.Connection) -> None:
    """Refuse, before anything is written, a database that is not ours or is newer. Raises: UnsupportedSchemaError."""
    tables = _tables(connection)
    if not tables:
        return
    applied = _applied(connection)
    if not applied and tables - {_TABLE}:
        raise UnsupportedSchemaError(f"the file is another application's database (it has tables {sorted(tables)})")
    if unknown := [name for name in applied if name not in STEPS]:
        raise UnsupportedSchemaError(f"the database was written by a newer version (unknown migrations: {unknown})")


def bring_up_to_date(connection: sqlite3.Connection, kinds: Kinds) -> None:
    """Bring the schema up to date, and the indexes and names in line with the declared kinds.

    Raises: InvalidSchemaError when a kind becomes named whose slugs repeat; nothing of the kinds was changed then.
    """
    if _applied(connection) != list(STEPS):
        from stigmer_sqlite import migrations

        migrations.apply(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for kind in kinds:
            _apply_naming(connection, kind)
        _apply_indexes(connection, kinds)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


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


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _applied(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the migrations that the database has had, in order."""
    if _TABLE not in _tables(connection):
        return []
    sql = f"SELECT name FROM {_TABLE} WHERE migration_set = ? ORDER BY rowid"  # noqa: S608 # a constant
    return [row[0] for row in connection.execute(sql, (_SET,))]
