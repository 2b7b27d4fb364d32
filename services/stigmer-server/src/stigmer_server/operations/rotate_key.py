"""Seal every secret with a new key, and let the old keys go once nothing needs them.

    key file: new, old     every value that is sealed from now on is sealed with the new key
    documents              present and past, are sealed anew in small transactions
    key file: new          only when asked, and only when no value needs the old key

Between any two of these steps, and within them, every value opens with the keys in the file, so it may be stopped and
begun again anywhere. A server that runs meanwhile takes the keys of the file as soon as they have changed.
"""

from __future__ import annotations

import argparse
from collections import Counter

from stigmer_sqlite import DatabaseFile
from stigmer_sqlite.database_file import own

from stigmer_server.errors import OperationError
from stigmer_server.keys import KeyFile, decode_keys, key_name, new_key
from stigmer_server.kinds import registry
from stigmer_server.operations.port import Operation, Result
from stigmer_server.sealed import Document, all_sealed, kinds_with_secrets, resealed
from stigmer_server.secrets import Sealer, key_of
from stigmer_server.settings import Settings


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retire",
        action="store_true",
        help="make no new key: finish what was begun, then remove the keys that no value is sealed with any more",
    )


def _run(settings: Settings, options: argparse.Namespace) -> Result:
    if settings.encryption_key is not None:
        return _reseal_by_setting(settings, retire=options.retire)
    file = KeyFile(settings.keys_path)
    with DatabaseFile(settings.db_path) as database, file.locked():
        try:
            keys = file.read()
        except (OSError, ValueError) as error:
            msg = f"encryption key file {file.path}: {error}"
            raise OperationError(msg) from error
        unfinished = key_usage(database).keys() - {key_name(keys[0])}
        begun = not options.retire and not unfinished & {key_name(key) for key in keys}
        if begun:
            keys = [new_key(), *keys]
            file.write(keys)
        changed, usage = _reseal(database, Sealer(keys))
        retired = _retire(file, keys, usage) if options.retire else []
    return _result(keys, changed, usage, begun=begun, retired=retired)


def _reseal_by_setting(settings: Settings, *, retire: bool) -> Result:
    """Seal anew with the first of the keys that a setting gives; a running server cannot be told of it."""
    if retire:
        msg = "the keys come from a setting: run rotate-key without --retire, then remove the old keys from the setting"
        raise OperationError(msg)
    assert settings.encryption_key is not None  # noqa: S101 - the caller looked
    keys = decode_keys(settings.encryption_key.get_secret_value())
    with own(settings.db_path), DatabaseFile(settings.db_path) as database:
        changed, usage = _reseal(database, Sealer(keys))
    return _result(keys, changed, usage, begun=False, retired=[])


def _reseal(database: DatabaseFile, sealer: Sealer) -> tuple[int, Counter[str]]:
    """Seal everything with the first key; return how many documents were changed, and what is used afterwards."""
    kinds = registry()

    def change(kind: str, id: str, data: str, wire: bytes | None) -> tuple[str, bytes | None] | None:
        return resealed(kinds, sealer, Document(kind=kind, id=id, data=data, wire=wire))

    sealing = kinds_with_secrets(kinds)
    changed = 0
    # What a running server writes while this goes on may be missed, or be the last that it sealed with the old key.
    while now := database.recode(sealing, change):
        changed += now
    return changed, key_usage(database)


def _retire(file: KeyFile, keys: list[bytes], usage: Counter[str]) -> list[str]:
    """Remove the keys that are not in use from the file, and return their names."""
    kept = [keys[0], *(key for key in keys[1:] if usage[key_name(key)])]
    if len(kept) < len(keys):
        file.write(kept)
    return [key_name(key) for key in keys if key not in kept]


def key_usage(database: DatabaseFile) -> Counter[str]:
    """Return how many values, present and past, are sealed with which key."""
    with database.snapshot():
        return Counter(key_of(value.text) for value in all_sealed(database, registry()))


def _result(keys: list[bytes], changed: int, usage: Counter[str], *, begun: bool, retired: list[str]) -> Result:
    names = [key_name(key) for key in keys if key_name(key) not in retired]
    lost = {name: count for name, count in sorted(usage.items()) if name not in names}
    lines = [
        f"key {names[0]} {'is new and ' if begun else ''}seals every secret; {changed} documents were sealed anew",
        *(f"key {name} is removed" for name in retired),
        *(f"key {name} still opens what it has sealed; --retire removes it" for name in names[1:]),
        *(f"{count} values are sealed with key {name}, which is not at hand" for name, count in lost.items()),
    ]
    data = {
        "current": names[0],
        "new": begun,
        "documents": changed,
        "values": usage[names[0]],
        "kept": names[1:],
        "retired": retired,
        "lost": lost,
    }
    return Result(data=data, lines=lines, sound=not lost)


ROTATE_KEY = Operation(
    name="rotate-key",
    summary="seal every secret with a new key",
    description="Make a new encryption key and seal every secret with it, those of earlier versions too. The server "
    "may run. It can be interrupted at any time; run it again to finish. The old keys stay in the key file until "
    "--retire. Where the keys come from a setting, put a new one in front there; this then seals everything with it, "
    "while the server does not run.",
    configure=_configure,
    run=_run,
)
