"""Put a backup in the place of a server's files.

Everything is copied beside its place and held against the manifest before anything is touched. Then, in this order:

    artifacts    are added; they are named by their content, so none is ever replaced by another
    keys         are added to those that are there
    database     takes the place of the present one, in one step; that one stays under another name

Killed in between, the server's files are as before, but for artifacts and keys that nothing needs yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stigmer_sqlite import DatabaseFile
from stigmer_sqlite.database_file import own, put_in_place
from stigmer_sqlite.disk import sync_folder

from stigmer_server.errors import OperationError
from stigmer_server.keys import KeyFile, decode_keys, key_name
from stigmer_server.operations import bundle
from stigmer_server.operations.bundle import DATABASE, KEYS, STORAGE, Manifest, open_bundle
from stigmer_server.operations.partial import partial_folder
from stigmer_server.operations.port import Operation, Result
from stigmer_server.settings import Settings


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FOLDER|FILE", help="a backup")
    parser.add_argument(
        "--replace", action="store_true", help="take the place of a database that is there; it stays under another name"
    )
    parser.add_argument(
        "--without-key", action="store_true", help="restore it even if its secrets cannot be opened with the keys here"
    )


def _run(settings: Settings, options: argparse.Namespace) -> Result:
    with own(settings.db_path) as owned, KeyFile(settings.keys_path).locked():
        if owned.database.exists() and not options.replace:
            msg = f"{owned.database} is there already; --replace puts the backup in its place and keeps it"
            raise OperationError(msg)
        with open_bundle(options.source.expanduser()) as opened, partial_folder(owned.database) as folder:
            files, manifest = folder / "files", opened.manifest
            opened.unpack(files)
            keys = _keys(settings, manifest, files / KEYS, without=options.without_key)
            with DatabaseFile(files / DATABASE, immutable=True):
                pass  # Opened to see that this version knows it.
            _add_artifacts(settings.storage_path, files / STORAGE, manifest)
            if keys:
                KeyFile(settings.keys_path).write(keys)
            kept = put_in_place(files / DATABASE, owned)
    return _result(owned.database, manifest, kept)


def _keys(settings: Settings, manifest: Manifest, brought: Path, *, without: bool) -> list[bytes]:
    """Return the keys that the key file shall hold; none: it stays as it is."""
    new = KeyFile(brought).read() if brought.exists() else []
    if settings.encryption_key is not None:
        present = decode_keys(settings.encryption_key.get_secret_value())
    else:
        present = KeyFile(settings.keys_path).read() if settings.keys_path.exists() else []
    usable = present if settings.encryption_key is not None else [*present, *new]
    lost = sorted(set(manifest.keys) - {key_name(key) for key in usable})
    if lost and not without:
        msg = (
            f"its secrets are sealed with key {', '.join(lost)}, which is not at hand: "
            f"put it into {settings.keys_path} or the setting, or say --without-key and lose the secrets"
        )
        raise OperationError(msg)
    added = [key for key in new if key not in present]
    # What seals from now on is what sealed in the backup: its keys come first.
    return [*new, *(key for key in present if key not in new)] if added and settings.encryption_key is None else []


def _add_artifacts(storage: Path, files: Path, manifest: Manifest) -> None:
    folders: set[Path] = set()
    for key in manifest.artifacts:
        target = storage / key
        if target.exists() and bundle.measured(target).sha256 == target.stem:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.restored")
        draft.unlink(missing_ok=True)
        with (files / key).open("rb") as source:
            bundle.copy(source, draft)
        draft.replace(target)
        folders.add(target.parent)
    for folder in folders:
        sync_folder(folder)


def _result(database: Path, manifest: Manifest, kept: Path | None) -> Result:
    lines = [f"{database} is the backup of {manifest.created_at}: {manifest.told}"]
    if kept is not None:
        lines.append(f"What was there before is {kept}")
    lines += [f"artifact {key} was missing or damaged when the backup was made" for key in manifest.missing]
    data = {
        "database": str(database),
        "created_at": manifest.created_at,
        "sequence": manifest.sequence,
        "resources": manifest.resources,
        "artifacts": len(manifest.artifacts),
        "missing": manifest.missing,
        "replaced": None if kept is None else str(kept),
    }
    return Result(data=data, lines=lines, sound=not manifest.missing)


RESTORE = Operation(
    name="restore",
    summary="put a backup in the place of the database and what belongs to it",
    description="Check a backup and put it in the place of the database, at once or not at all. The server must not "
    "run. A database that is there stays, under another name.",
    arguments="FOLDER|FILE",
    configure=_configure,
    run=_run,
)
