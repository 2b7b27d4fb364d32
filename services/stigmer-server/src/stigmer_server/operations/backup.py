"""Back up a server, running or not: one moment of its database, with the artifacts that it names.

The database is read by a connection of its own, to which SQLite shows the state of one moment while others write.
Artifacts never change once they are stored; so copying those that this state names, after it was read, fits it.
A backup appears under its name when it is complete, or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from stigmer_sqlite import DatabaseFile, HistoryEntry, Record
from stigmer_sqlite.disk import sync_folder

from stigmer_server import files, values
from stigmer_server.artifacts import FILES, VALUES
from stigmer_server.errors import OperationError
from stigmer_server.keys import KeyFile, decode_keys
from stigmer_server.kinds import Kinds, registry
from stigmer_server.messages import Message
from stigmer_server.operations import bundle
from stigmer_server.operations.bundle import DATABASE, KEYS, MANIFEST, STORAGE, File, Manifest
from stigmer_server.operations.partial import partial_folder
from stigmer_server.operations.port import Operation, Result
from stigmer_server.sealed import all_sealed
from stigmer_server.secrets import key_of
from stigmer_server.settings import Settings

_FURTHER_LOOKS = 9
"""How often the database is read anew where artifacts were swept away between reading it and copying them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a database says that a backup must know."""

    sequence: int
    resources: Mapping[str, int]
    keys: tuple[str, ...]
    artifacts: tuple[str, ...]


def contents_of(path: Path, kinds: Kinds) -> Contents:
    """Return what a database that nobody writes has in it. Raises: StoreUnavailableError."""
    with DatabaseFile(path, immutable=True) as database:
        documents = chain(database.records(), database.entries())
        named = {key for document in documents for key in artifacts_named(kinds, document)}
        return Contents(
            sequence=database.last_sequence(),
            resources=database.counts(),
            keys=tuple(sorted({key_of(value.text) for value in all_sealed(database, kinds)})),
            artifacts=tuple(sorted(named)),
        )


def artifacts_named(kinds: Kinds, document: Record | HistoryEntry) -> Iterator[str]:
    """Yield the keys of the artifacts that a stored document names."""
    if document.kind == values.SCHEMA.kind and isinstance(document, Record):
        yield VALUES.key_of(values.key_in(document))
    elif document.kind == files.SCHEMA.kind and isinstance(document, Record):
        yield FILES.key_of(files.decoded(document).hash)
    elif document.kind == "skill" and document.wire is not None:
        yield from artifacts_of(kinds["skill"].parse(document.wire))


def artifacts_of(message: Message) -> Iterator[str]:
    """Yield the keys of the artifacts that a resource names."""
    key = getattr(message.status, "artifact_storage_key", "")
    if bundle.is_artifact_key(key):
        yield key


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", type=Path, metavar="FOLDER|FILE", help="where to; one file if it ends with .tar, .tar.gz or .tgz"
    )
    parser.add_argument(
        "--with-key",
        action="store_true",
        help="put the encryption keys into it; whoever has the backup can then read every secret",
    )


def _run(settings: Settings, options: argparse.Namespace) -> Result:
    target: Path = options.target.expanduser().absolute()
    if target.exists():
        msg = f"{target} is there already; a backup replaces nothing"
        raise OperationError(msg)
    keys = _keys(settings) if options.with_key else []
    with partial_folder(target) as folder:
        files = folder / "files"
        manifest = _fill(files, settings, keys)
        made = files
        if bundle.is_archive(target):
            made = folder / target.name
            bundle.pack(files, made, manifest)
        made.replace(target)
        sync_folder(target.parent)
    return _result(target, manifest)


def _fill(folder: Path, settings: Settings, keys: list[bytes]) -> Manifest:
    folder.mkdir(mode=0o700)
    contents, missing, artifacts = _copy(folder, settings)
    files = {DATABASE: bundle.measured(folder / DATABASE), **artifacts}
    if keys:
        KeyFile(folder / KEYS).write(keys)
        files[KEYS] = bundle.measured(folder / KEYS)
    manifest = Manifest(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        server_version=version("stigmer-server"),
        sequence=contents.sequence,
        resources=contents.resources,
        keys=contents.keys,
        missing=tuple(missing),
        files=files,
    )
    bundle.write_manifest(folder, manifest)
    return manifest


def _copy(folder: Path, settings: Settings) -> tuple[Contents, list[str], dict[str, File]]:
    """Copy the database and its artifacts; return what is in it, the artifacts that are not as named, and the files.

    What was swept away after the database was read is no loss if a newer state does not name it. Artifacts that were
    copied stay, so each further look is a shorter one.
    """
    artifacts: dict[str, File] = {}
    contents, missing = _look(folder, settings, artifacts)
    for _ in range(_FURTHER_LOOKS):
        if not missing:
            break
        before = missing
        (folder / DATABASE).unlink()
        contents, missing = _look(folder, settings, artifacts)
        if missing == before:  # and so for good
            break
    for key in artifacts.keys() - set(contents.artifacts):
        (folder / STORAGE / key).unlink()
        del artifacts[key]
    return contents, missing, {f"{STORAGE}/{key}": artifacts[key] for key in sorted(artifacts)}


def _look(folder: Path, settings: Settings, artifacts: dict[str, File]) -> tuple[Contents, list[str]]:
    """Copy the database, and the artifacts that it names beside those that were copied before."""
    contents = _copy_database(settings.db_path, folder / DATABASE)
    missing: list[str] = []
    for key in contents.artifacts:
        try:
            if key not in artifacts:
                with (settings.storage_path / key).open("rb") as source:
                    artifacts[key] = bundle.copy(source, folder / STORAGE / key)
        except FileNotFoundError:
            missing.append(key)
            continue
        if artifacts[key].sha256 != Path(key).stem:
            missing.append(key)
    return contents, missing


def _copy_database(source: Path, target: Path) -> Contents:
    with DatabaseFile(source) as database, database.snapshot():
        database.copy_to(target)
    target.chmod(0o600)
    return contents_of(target, registry())


def _keys(settings: Settings) -> list[bytes]:
    if settings.encryption_key is not None:
        return decode_keys(settings.encryption_key.get_secret_value())
    try:
        return KeyFile(settings.keys_path).read()
    except (OSError, ValueError) as error:
        msg = f"encryption key file {settings.keys_path}: {error}"
        raise OperationError(msg) from error


def _result(target: Path, manifest: Manifest) -> Result:
    lines = [f"{target}: {manifest.told}"]
    if KEYS in manifest.files:
        lines.append("The encryption keys are in it: whoever has it can read every secret.")
    elif manifest.keys:
        lines.append(f"Its secrets open with key {', '.join(manifest.keys)} only, which is not in it: keep that, too.")
    lines += [f"artifact {key} is missing or damaged" for key in manifest.missing]
    data = {
        "path": str(target),
        "sequence": manifest.sequence,
        "resources": manifest.resources,
        "artifacts": len(manifest.artifacts),
        "bytes": manifest.size,
        "keys": manifest.keys,
        "with_key": KEYS in manifest.files,
        "missing": manifest.missing,
    }
    return Result(data=data, lines=lines, sound=not manifest.missing)


BACKUP = Operation(
    name="backup",
    summary="copy the database and what belongs to it, while the server runs or not",
    description="Make a consistent copy of the database and of the artifacts that it names, with checksums. The server "
    f"may run. The copy appears when it is complete. Its {MANIFEST} tells what is in it.",
    arguments="FOLDER|FILE",
    configure=_configure,
    run=_run,
)
