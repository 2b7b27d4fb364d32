"""Hold everything that a server keeps against what it must be: database, documents, history, artifacts, secrets.

Reads one moment of the database, whether or not a server writes it, and changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from stigmer_sqlite import DatabaseFile, HistoryEntry, Record, StoreError

from stigmer_server.artifacts import FORMS
from stigmer_server.errors import OperationError
from stigmer_server.keys import KeyFile, decode_keys
from stigmer_server.kinds import Kind, Kinds, registry
from stigmer_server.labels import labels_of, without_names
from stigmer_server.messages import Message, to_json
from stigmer_server.operations.backup import artifacts_named, artifacts_of
from stigmer_server.operations.bundle import DATABASE, KEYS, STORAGE, is_archive, open_bundle
from stigmer_server.operations.port import Operation, Result
from stigmer_server.sealed import Sealed, document_of, sealed_values
from stigmer_server.secrets import Sealer, UnsealError, is_sealed, secrets_of
from stigmer_server.settings import Settings
from stigmer_server.upgrades import SCHEMA

_SHOWN = 100
"""Problems that people are told one by one."""


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a check has seen so far."""

    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Where, and what."""
    counts: Counter[str] = field(default_factory=Counter[str])
    """How much was looked at, and what is no problem but worth knowing."""
    indexed: bool = True
    """Whether whoever names a resource is found by labels; not so before the server has brought it up to date."""
    artifacts: dict[str, str] = field(default_factory=dict[str, str])
    """Artifacts that are named, each with a resource that does."""

    def add(self, where: str, what: str) -> None:
        """Note a problem."""
        self.problems.append((where, what))


def inspect(path: Path, storage: Path, sealer: Sealer | None, *, immutable: bool = False) -> Findings:
    """Check a database with its artifacts.

    Args:
        path: The database.
        storage: Folder of the artifacts.
        sealer: Has the keys at hand; without it secrets are counted and not opened.
        immutable: Nobody writes the database meanwhile.

    Raises:
        StoreUnavailableError: It is not there or cannot be opened.
    """
    kinds, findings = registry(), Findings()
    with DatabaseFile(path, immutable=immutable) as database:
        with database.snapshot():
            for flaw in database.flaws():
                findings.add("database", flaw)
            findings.indexed = SCHEMA.kind in database.counts()
            try:
                for record, entries in _joined(database.records(), database.entries()):
                    _check_resource(kinds, record, entries, sealer, findings)
            except StoreError as error:
                findings.add("database", str(error))
        _check_artifacts(storage, findings, lambda: _named_now(database, kinds))
    return findings


def _joined(
    records: Iterator[Record], entries: Iterator[HistoryEntry]
) -> Iterator[tuple[Record, Iterable[HistoryEntry]]]:
    """Yield every record with its history; both come by id."""
    groups = groupby(entries, key=lambda entry: entry.id)
    id, group = next(groups, ("", iter(())))
    for record in records:
        while id and id < record.id:
            id, group = next(groups, ("", iter(())))
        yield record, group if id == record.id else ()


def _check_resource(
    kinds: Kinds, record: Record, entries: Iterable[HistoryEntry], sealer: Sealer | None, findings: Findings
) -> None:
    kind = kinds.get(record.kind)
    if kind is None:
        findings.counts["other records"] += 1
        for key in artifacts_named(kinds, record):
            findings.artifacts.setdefault(key, record.id)
        _check_secrets(record.id, sealed_values(kinds, document_of(record)), sealer, findings)
        return
    where = f"{kind.title} {record.id}"
    findings.counts["resources"] += 1
    message = _document(kinds, where, record, sealer, findings)
    if message is not None:
        for what in _contradictions(kind, record, message, indexed=findings.indexed):
            findings.add(where, what)
    versions: set[str] = set()
    for entry in entries:
        findings.counts["earlier versions"] += 1
        is_present = (entry.version, entry.data, entry.wire) == (record.version, record.data, record.wire)
        old = message
        if not is_present:
            old = _document(kinds, f"{where}, version {entry.version} of its history", entry, sealer, findings)
        if old is not None:
            versions.add(old.metadata.version.id)
    if message is not None and message.metadata.version.id not in versions:
        findings.add(where, f"its history lacks the present version, {message.metadata.version.id!r}")


def _contradictions(kind: Kind, record: Record, message: Message, *, indexed: bool) -> Iterator[str]:
    """Yield where the row and the document in it differ."""
    metadata = message.metadata
    stored_labels, labels = dict(record.labels), labels_of(kind, message)
    if not indexed:
        stored_labels, labels = without_names(stored_labels), without_names(labels)
    for name, stored, said in (
        ("id", record.id, metadata.id),
        ("organization", record.org_id, metadata.org),
        ("slug", record.slug, metadata.slug),
        ("labels", stored_labels, labels),
    ):
        if stored != said:
            yield f"it is found under {name} {stored!r}, and says {said!r}"


def _document(
    kinds: Kinds, where: str, stored: Record | HistoryEntry, sealer: Sealer | None, findings: Findings
) -> Message | None:
    """Return a stored document, checked by itself; None when it cannot be read."""
    kind = kinds[stored.kind]
    if stored.wire is None:
        findings.add(where, "it has no encoding")
        return None
    try:
        message = kind.parse(stored.wire)
    except DecodeError as error:
        findings.add(where, f"its encoding cannot be read: {error}")
        return None
    text = to_json(message)
    # Equal text is the rule; another version of the server may have written the same in another way.
    if text != stored.data and orjson.loads(text) != _loaded(stored.data):
        findings.add(where, "its JSON and its encoding differ")
    for key in artifacts_of(message):
        findings.artifacts.setdefault(key, where)
    for name, entry in secrets_of(kind, message):
        if not is_sealed(entry.value):
            findings.add(where, f"secret {name!r} is stored in the clear")
    _check_secrets(where, sealed_values(kinds, document_of(stored)), sealer, findings)
    return message


def _check_secrets(where: str, values: Iterable[Sealed], sealer: Sealer | None, findings: Findings) -> None:
    for value in values:
        findings.counts["secrets"] += 1
        if sealer is None:
            findings.counts["secrets not opened"] += 1
            continue
        try:
            sealer.unseal(value.text, id=value.id, name=value.name)
        except UnsealError as error:
            findings.add(where, str(error))


def _loaded(data: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _check_artifacts(storage: Path, findings: Findings, named_now: Callable[[], set[str]]) -> None:
    missing: list[str] = []
    for key, where in sorted(findings.artifacts.items()):
        path = storage / key
        findings.counts["artifacts"] += 1
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            missing.append(key)
        except OSError as error:
            findings.add(where, f"artifact {key} cannot be read: {error}")
        else:
            if digest != path.stem:
                findings.add(where, f"artifact {key} is damaged: its content is {digest}")
    # A running server may have swept it away since, with the last that named it.
    still = named_now() if missing else set[str]()
    for key in missing:
        if key in still:
            findings.add(findings.artifacts[key], f"artifact {key} is missing")
    present = {
        path.relative_to(storage).as_posix() for form in FORMS for path in storage.glob(f"{form.folder}/*{form.suffix}")
    }
    findings.counts["artifacts that nothing names"] += len(present - findings.artifacts.keys())


def _named_now(database: DatabaseFile, kinds: Kinds) -> set[str]:
    named: set[str] = set()
    with database.snapshot():
        for documents in (database.records(), database.entries()):
            for document in documents:
                named |= set(artifacts_named(kinds, document))
    return named


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backup", type=Path, nargs="?", metavar="BACKUP", help="check this backup instead of the server's files"
    )


def _run(settings: Settings, options: argparse.Namespace) -> Result:
    if options.backup is not None:
        return _check_backup(settings, options.backup.expanduser())
    findings = inspect(settings.db_path, settings.storage_path, _sealer(settings, settings.keys_path))
    if unopened := findings.counts["secrets not opened"]:
        findings.add("keys", f"{unopened} secrets cannot be opened: there is no key file {settings.keys_path}")
    return _result(str(settings.db_path), findings)


def _check_backup(settings: Settings, path: Path) -> Result:
    with open_bundle(path) as opened, ExitStack() as stack:
        files = path
        if is_archive(path):
            files = Path(stack.enter_context(TemporaryDirectory())) / "files"
            opened.unpack(files)
        else:
            opened.verify()
        brought = files / KEYS
        sealer = _sealer(settings, brought if brought.exists() else settings.keys_path)
        return _result(str(path), inspect(files / DATABASE, files / STORAGE, sealer, immutable=True))


def _sealer(settings: Settings, path: Path) -> Sealer | None:
    if settings.encryption_key is not None:
        return Sealer(decode_keys(settings.encryption_key.get_secret_value()))
    if not path.exists():
        return None
    try:
        return Sealer(KeyFile(path).read())
    except (OSError, ValueError) as error:
        msg = f"encryption key file {path}: {error}"
        raise OperationError(msg) from error


def _result(what: str, findings: Findings) -> Result:
    counts = {name: count for name, count in findings.counts.items() if count}
    problems = findings.problems
    summary = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing in it"
    more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    verdict = f"{len(problems)} problems" if problems else "sound"
    data = {
        "checked": what,
        "sound": not problems,
        "counts": counts,
        "problems": [{"where": where, "what": told} for where, told in problems],
    }
    lines = [*(f"{where}: {told}" for where, told in problems[:_SHOWN]), *more, f"{what}: {verdict}; {summary}"]
    return Result(data=data, lines=lines, sound=not problems)


CHECK = Operation(
    name="check",
    summary="check database, history, artifacts and secrets, or a backup",
    description="Check that the database is whole, that every document can be read and is found where it belongs, that "
    "artifacts are what their names say, and that secrets open with the keys at hand. Changes nothing; the server may "
    "run. Exit code 1: something is wrong.",
    arguments="[BACKUP]",
    configure=_configure,
    run=_run,
)
