"""Backup, restore, check, rotate-key and compact, as the command runs them, on the files of real servers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, RpcError
from stigmer_protos import descriptors
from stigmer_sqlite import StoreError

from stigmer_server.command_line import parse
from stigmer_server.errors import ServerError
from stigmer_server.keys import decode_keys, key_name
from stigmer_server.testing import Api, manifest, serve

CANARY = "canary-7be1"
SECRET = {"value": CANARY, "isSecret": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An operation that has ended."""

    code: int
    out: str
    said: str

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.out)


def command(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    places = {"DB_PATH": str(folder / "stigmer.db"), "STORAGE_PATH": str(folder / "storage")}
    inherited = {name: value for name, value in os.environ.items() if name != "STIGMER_ENCRYPTION_KEY"}
    return subprocess.Popen(
        [sys.executable, "-m", "stigmer_server", *arguments],
        env={**inherited, **places, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def in_process(folder: Path, *arguments: str, **variables: str) -> Ended:
    """Run an operation as the command does, in a process of its own."""
    process = command(folder, *arguments, **variables)
    out, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert "Traceback" not in said
    return Ended(code=process.returncode, out=out, said=said)


async def operate(folder: Path, *arguments: str) -> Ended:
    """Run an operation in a thread: most of what a process costs is its start."""
    places = ("--db-path", str(folder / "stigmer.db"), "--storage-path", str(folder / "storage"))
    return await asyncio.to_thread(_operate, [*arguments, *places])


def _operate(arguments: list[str]) -> Ended:
    parsed = parse(arguments)
    assert parsed.operation is not None
    try:
        result = parsed.operation.run(parsed.settings, parsed.options)
    except (ServerError, StoreError, OSError) as error:
        return Ended(code=5, out="", said=str(error))
    return Ended(code=0 if result.sound else 1, out=result.told(parsed.options.output), said="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What was put into a server."""

    environment: str
    run: str
    skill: str
    artifact: bytes


async def fill(api: Api, name: str = "vault") -> Filled:
    """Put in a secret with history, one of a run, and a skill of two versions."""
    sent = manifest(
        "environment", name, {"data": {"TOKEN": SECRET, "REGION": {"value": "eu"}}}, labels={"team": "core"}
    )
    environment = await api("environment", "apply", sent)
    sent["spec"]["data"]["EXTRA"] = SECRET
    await api("environment", "apply", sent)
    spec = {"instructions": "Answer every question in one sentence.", "envSpec": {"data": {"KEY": SECRET}}}
    agent = await api("agent", "create", manifest("agent", f"{name} agent", spec))
    spec = {
        "agentId": agent.metadata.id,
        "message": "go",
        "runtimeEnv": {"T": SECRET},
        "callbackToken": base64.b64encode(CANARY.encode()).decode(),
    }
    again = {"x-stigmer-idempotency-key": name}
    run = await api("agent_execution", "create", manifest("agent_execution", "run", spec), metadata=again)
    request: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.PushSkillRequest")
    artifact = b""
    for text in ("one", "two"):
        artifact = packed(f"# {name} {text}")
        skill = await api("skill", "push", request(name=name, scope=2, org="local", artifact=artifact))
    return Filled(environment=environment.metadata.id, run=run.metadata.id, skill=skill.metadata.id, artifact=artifact)


def packed(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("SKILL.md", text)
    return buffer.getvalue()


async def assert_whole(api: Api, filled: Filled) -> None:
    """Check that all is there, secrets included."""
    values = (await api.environment(filled.run)).values
    assert {name: values[name].value for name in values} == {"KEY": CANARY, "T": CANARY}
    assert (await api("environment", "get", {"value": filled.environment})).spec.data["REGION"].value == "eu"
    skill = await api("skill", "get", {"value": filled.skill})
    key = skill.status.artifact_storage_key
    assert (await api("skill", "getArtifact", {"artifactStorageKey": key})).artifact == filled.artifact


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
async def filled(home: Path) -> Filled:
    async with serve(home) as api:
        return await fill(api)


def keys_of(home: Path) -> list[str]:
    """Names of the keys in the key file, the one that seals first."""
    return [key_name(key) for key in decode_keys((home / "encryption.key").read_text().strip().replace("\n", ","))]


def used_keys(database: Path) -> set[str]:
    """Names of the keys that anything in the database is sealed with."""
    with sqlite3.connect(database) as connection:
        texts = [
            bytes(row[0] or b"")
            for table in ("resources", "resource_history")
            for row in connection.execute(f"SELECT wire FROM {table} UNION ALL SELECT CAST(data AS BLOB) FROM {table}")  # noqa: S608 # constants
        ]
    connection.close()
    return {part[:8].decode() for text in texts for part in text.split(b"enc:v1:")[1:]}


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.gz"])
async def test_a_backup_is_restored_elsewhere(home: Path, filled: Filled, tmp_path: Path, name: str) -> None:
    made = await operate(home, "backup", str(tmp_path / name), "--with-key", "-o", "json")
    assert made.code == 0, made.said
    assert (made.data["artifacts"], made.data["with_key"], made.data["missing"]) == (2, True, [])
    assert made.data["resources"]["environment"] == 1
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0
    checked = await operate(home, "check", str(tmp_path / name), "-o", "json")
    assert (checked.code, checked.data["problems"]) == (0, [])
    restored = await operate(tmp_path / "other", "restore", str(tmp_path / name))
    assert restored.code == 0, restored.said
    assert stat.S_IMODE((tmp_path / "other" / "encryption.key").stat().st_mode) == 0o600
    async with serve(tmp_path / "other") as api:
        await assert_whole(api, filled)
    assert (await operate(tmp_path / "other", "check")).code == 0


async def test_a_backup_has_no_key_and_no_secret_unless_told(home: Path, filled: Filled, tmp_path: Path) -> None:
    made = await operate(home, "backup", str(tmp_path / "copy"))
    assert keys_of(home)[0] in made.out
    assert names_in(tmp_path / "copy") == ["manifest.json", "stigmer.db", "storage", "storage/skills"] + [
        f"storage/skills/{path.name}" for path in sorted((home / "storage" / "skills").glob("*.zip"))
    ]
    key = (home / "encryption.key").read_bytes().strip()
    for path in (tmp_path / "copy").rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()
            assert key not in path.read_bytes()
    refused = await operate(tmp_path / "other", "restore", str(tmp_path / "copy"))
    assert refused.code == 5
    assert keys_of(home)[0] in refused.said
    assert not (tmp_path / "other" / "stigmer.db").exists()
    shutil.copy(home / "encryption.key", tmp_path / "other" / "encryption.key")
    assert (await operate(tmp_path / "other", "restore", str(tmp_path / "copy"))).code == 0
    async with serve(tmp_path / "other") as api:
        await assert_whole(api, filled)
    assert (await operate(tmp_path / "third", "restore", str(tmp_path / "copy"), "--without-key")).code == 0


async def test_a_backup_replaces_nothing(home: Path, filled: Filled, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    made = await operate(home, "backup", str(tmp_path / "copy"))
    assert made.code == 5
    assert "is there already" in made.said
    nothing = await operate(tmp_path / "empty", "backup", str(tmp_path / "other"))
    assert nothing.code == 5
    assert "no database" in nothing.said
    assert {name.partition("/")[0] for name in names_in(tmp_path)} == {"copy", "home"}


async def test_an_artifact_that_is_gone_is_told_and_the_rest_is_backed_up(
    home: Path, filled: Filled, tmp_path: Path
) -> None:
    first, second = sorted((home / "storage" / "skills").glob("*.zip"))
    first.unlink()
    second.write_bytes(b"damaged")
    made = await operate(home, "backup", str(tmp_path / "copy"), "-o", "json")
    assert made.code == 1
    assert made.data["missing"] == [f"skills/{first.name}", f"skills/{second.name}"]
    checked = await operate(home, "check")
    assert checked.code == 1
    assert f"artifact skills/{first.name} is missing" in checked.out
    assert f"artifact skills/{second.name} is damaged" in checked.out


async def test_restoring_over_a_database_must_be_asked_for_and_keeps_it(
    home: Path, filled: Filled, tmp_path: Path
) -> None:
    await operate(home, "backup", str(tmp_path / "copy"))
    async with serve(home) as api:
        later = await fill(api, "later")
    refused = await operate(home, "restore", str(tmp_path / "copy"))
    assert refused.code == 5
    assert "--replace" in refused.said
    restored = await operate(home, "restore", str(tmp_path / "copy"), "--replace", "-o", "json")
    assert restored.code == 0
    async with serve(home) as api:
        await assert_whole(api, filled)
        with pytest.raises(RpcError):
            await api("environment", "get", {"value": later.environment})
    kept = Path(restored.data["replaced"])
    assert kept.parent == home
    with sqlite3.connect(kept) as connection:
        assert connection.execute("SELECT 1 FROM resources WHERE id = ?", (later.environment,)).fetchone()
    connection.close()
    assert [name for name in names_in(home) if "partial" in name] == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _spoil(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        read = json.loads(path.read_text())
        change(read)
        path.write_text(json.dumps(read))

    return spoil


SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a damaged database": ("stigmer.db", _flip, "stigmer.db is not what its manifest says"),
    "a short database": ("stigmer.db", _cut, "stigmer.db is not what its manifest says"),
    "no database": ("stigmer.db", Path.unlink, "stigmer.db is missing"),
    "a file too many": ("stigmer.db", lambda path: path.with_name("more").write_text("x"), "does not tell of: more"),
    "no manifest": ("manifest.json", Path.unlink, "is no backup"),
    "a manifest that is none": ("manifest.json", lambda path: path.write_text("{"), "is no backup"),
    "a newer format": ("manifest.json", _spoil(lambda read: read.update(format=2)), "is no backup that this version"),
    "a way out": (
        "manifest.json",
        _spoil(lambda read: read["files"].update({"storage/../../out": read["files"]["stigmer.db"]})),
        "has a file 'storage/../../out'",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
async def test_a_backup_that_is_not_whole_is_refused_before_anything_is_touched(
    home: Path, filled: Filled, tmp_path: Path, case: str
) -> None:
    name, spoil, told = SPOILT[case]
    await operate(home, "backup", str(tmp_path / "copy"))
    spoil(tmp_path / "copy" / name)
    before, names = (home / "stigmer.db").read_bytes(), names_in(home)
    refused = await operate(home, "restore", str(tmp_path / "copy"), "--replace")
    assert refused.code == 5
    assert told in refused.said
    assert (home / "stigmer.db").read_bytes() == before
    assert set(names_in(home)) - set(names) <= {"encryption.key.lock"}
    assert (await operate(home, "check", str(tmp_path / "copy"))).code == 5


async def test_an_archive_that_is_not_whole_is_refused(home: Path, filled: Filled, tmp_path: Path) -> None:
    archive = tmp_path / "copy.tgz"
    await operate(home, "backup", str(archive))
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive at all", whole[:200] + b"\0" * 200 + whole[400:]):
        archive.write_bytes(damaged)
        assert (await operate(tmp_path / "other", "restore", str(archive), "--without-key")).code == 5
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        tar.add(_manifest_of(whole, tmp_path), arcname="manifest.json")
        link = tarfile.TarInfo("stigmer.db")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    refused = await operate(tmp_path / "other", "restore", str(tmp_path / "link.tar"), "--without-key")
    assert refused.code == 5
    assert "that is no file: stigmer.db" in refused.said
    assert not (tmp_path / "other" / "stigmer.db").exists()


def _manifest_of(archive: bytes, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        content = tar.extractfile("manifest.json")
        assert content is not None
        path = folder / "manifest.json"
        path.write_bytes(content.read())
        return path


async def test_keys_are_rotated_and_the_old_ones_retired(home: Path, filled: Filled) -> None:
    (old,) = keys_of(home)
    rotated = await operate(home, "rotate-key", "-o", "json")
    assert rotated.code == 0, rotated.said
    new, kept = keys_of(home)
    assert kept == old
    assert rotated.data["current"] == new
    assert rotated.data["kept"] == [old]
    assert used_keys(home / "stigmer.db") == {new}
    assert stat.S_IMODE((home / "encryption.key").stat().st_mode) == 0o600
    retired = await operate(home, "rotate-key", "--retire", "-o", "json")
    assert (retired.code, retired.data["retired"], retired.data["documents"]) == (0, [old], 0)
    assert keys_of(home) == [new]
    assert (await operate(home, "check")).code == 0
    async with serve(home) as api:
        await assert_whole(api, filled)
        run = await api("agent_execution", "get", {"value": filled.run})
        other = manifest("agent_execution", "run", {"sessionId": run.spec.session_id, "message": "another"})
        with pytest.raises(FailedPreconditionError, match="from another request"):
            await api("agent_execution", "create", other, metadata={"x-stigmer-idempotency-key": "vault"})
        old_version = await api("environment", "getByReference", {"slug": "vault", "version": "1"})
        assert "EXTRA" not in old_version.spec.data


async def test_a_rotation_that_was_begun_is_finished_with_its_key(home: Path, filled: Filled) -> None:
    await operate(home, "rotate-key")
    new, old = keys_of(home)
    async with serve(home, encryption_key=_reversed(home)) as api:
        await fill(api, "sealed with the old key")
    finished = await operate(home, "rotate-key", "-o", "json")
    assert (finished.data["new"], finished.data["current"]) == (False, new)
    assert finished.data["documents"] > 0
    assert keys_of(home) == [new, old]
    assert used_keys(home / "stigmer.db") == {new}


def _reversed(home: Path) -> str:
    return ",".join(reversed((home / "encryption.key").read_text().split()))


async def test_a_key_that_something_needs_is_not_retired(home: Path, filled: Filled) -> None:
    text = (home / "encryption.key").read_text()
    (lost,) = keys_of(home)
    (home / "encryption.key").unlink()
    async with serve(home) as api:
        await fill(api, "new")
    rotated = await operate(home, "rotate-key", "--retire", "-o", "json")
    assert rotated.code == 1
    assert list(rotated.data["lost"]) == [lost]
    (home / "encryption.key").write_text((home / "encryption.key").read_text() + text)
    assert (await operate(home, "rotate-key", "--retire")).code == 0
    assert len(keys_of(home)) == 1
    async with serve(home) as api:
        await assert_whole(api, filled)


async def test_keys_of_a_setting_are_rotated_there(home: Path, filled: Filled) -> None:
    (old,) = keys_of(home)
    both = f"{os.urandom(32).hex()},{(home / 'encryption.key').read_text().strip()}"
    async with serve(home):
        running = await operate(home, "rotate-key", "--encryption-key", both)
        assert running.code == 5
        assert str(os.getpid()) in running.said
    assert (await operate(home, "rotate-key", "--retire", "--encryption-key", both)).code == 5
    rotated = await operate(home, "rotate-key", "-o", "json", "--encryption-key", both)
    assert rotated.code == 0
    assert used_keys(home / "stigmer.db") == {rotated.data["current"]} != {old}
    async with serve(home, encryption_key=both.partition(",")[0]) as api:
        await assert_whole(api, filled)


async def test_keys_are_rotated_under_a_server_that_writes_and_reads_secrets(home: Path, filled: Filled) -> None:
    async with serve(home) as api:
        working = True

        async def work() -> int:
            done = 0
            while working:
                done += 1
                await fill(api, f"written {done}")
                await assert_whole(api, filled)
            return done

        worker = asyncio.create_task(work())
        for _ in range(2):
            assert (await in_process(home, "rotate-key")).code == 0
            retired = await in_process(home, "rotate-key", "--retire", "-o", "json")
            assert (retired.code, retired.data["lost"]) == (0, {})
            assert len(keys_of(home)) == 1
        working = False
        assert await worker > 0
        # What was written meanwhile opens with the key that is left, too.
        checked = await operate(home, "check")
        assert checked.code == 0, checked.out
    assert used_keys(home / "stigmer.db") == set(keys_of(home))


async def test_only_one_rotation_runs_at_a_time(home: Path, filled: Filled) -> None:
    import fcntl

    with (home / "encryption.key.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = await operate(home, "rotate-key")
    assert refused.code == 5
    assert "another process is changing the keys" in refused.said


DAMAGE = {
    "encoding cannot be read": "UPDATE resources SET wire = x'ffff' WHERE kind = 'environment'",
    "its JSON and its encoding differ": "UPDATE resources SET data = json_set(data, '$.spec.description', 'other')"
    " WHERE kind = 'environment'",
    "it is found under slug 'o', and says 'vault'": "UPDATE resources SET slug = 'o' WHERE kind = 'environment'",
    "it is found under organization": "UPDATE resources SET org_id = 'other' WHERE kind = 'environment'",
    "it is found under labels {}": "UPDATE resources SET labels = '{}' WHERE kind = 'environment'",
    "its history lacks the present version": "DELETE FROM resource_history WHERE version = 1",
    "is stored in the clear": "UPDATE resources SET wire = CAST(replace(wire, 'enc:v1:', 'enc:v0:') AS BLOB)",
    "cannot be opened": "UPDATE resources SET wire = CAST(replace(wire, 'TOKEN', 'OTHER') AS BLOB)",
    "version 1 of its history: its encoding": "UPDATE resource_history SET data = '{}', wire = x'ff' WHERE version = 1",
    "a label of": "DELETE FROM resource_labels",
}


@pytest.mark.parametrize("told", DAMAGE)
async def test_a_check_finds_what_is_wrong(home: Path, filled: Filled, told: str) -> None:
    with sqlite3.connect(home / "stigmer.db") as connection:
        connection.execute(DAMAGE[told])
    connection.close()
    checked = await operate(home, "check")
    assert checked.code == 1
    assert told in checked.out
    in_json = await operate(home, "check", "-o", "json")
    assert (in_json.code, in_json.data["sound"]) == (1, False)
    assert any(told in f"{problem['where']}: {problem['what']}" for problem in in_json.data["problems"])


async def test_a_check_without_the_key_says_so(home: Path, filled: Filled) -> None:
    (home / "encryption.key").unlink()
    checked = await operate(home, "check")
    assert checked.code == 1
    assert "there is no key file" in checked.out
    assert not (home / "encryption.key").exists()
    (home / "encryption.key").write_text(os.urandom(32).hex())
    (home / "encryption.key").chmod(0o600)
    assert "cannot be opened" in (await operate(home, "check")).out


async def test_a_check_and_a_backup_run_beside_a_busy_server(home: Path, filled: Filled, tmp_path: Path) -> None:
    async with serve(home) as api:
        working = True

        async def work() -> None:
            number = 0
            while working:
                number += 1
                made = await fill(api, f"busy {number}")
                await api("skill", "delete", {"value": made.skill})

        worker = asyncio.create_task(work())
        for number in range(2):
            checked = await in_process(home, "check")
            assert checked.code == 0, checked.out
            made = await in_process(home, "backup", str(tmp_path / f"copy{number}"))
            assert made.code == 0, made.out
            assert (await operate(home, "check", str(tmp_path / f"copy{number}"))).code == 0
        working = False
        await worker


async def test_the_database_is_compacted_while_no_server_runs(home: Path, filled: Filled) -> None:
    async with serve(home) as api:
        assert (await operate(home, "compact")).code == 5
        for number in range(20):
            data = {f"PAD{index}": {"value": "x" * 2000} for index in range(20)}
            made = await api("environment", "create", manifest("environment", f"padded {number}", {"data": data}))
            await api("environment", "delete", {"resourceId": made.metadata.id})
    compacted = await operate(home, "compact", "-o", "json")
    assert compacted.code == 0
    assert compacted.data["bytes_after"] < compacted.data["bytes_before"]
    async with serve(home) as api:
        await assert_whole(api, filled)


async def test_wrong_arguments_end_with_2(home: Path) -> None:
    for arguments in (("backup",), ("backup", "x", "--log-level", "loud"), ("unknown",), ("prune",)):
        ended = await in_process(home, *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert ended.said


async def test_the_command_tells_results_by_its_output_and_its_exit_code(home: Path, filled: Filled) -> None:
    sound = await in_process(home, "check", "-o", "json")
    assert (sound.code, sound.said, sound.data["sound"]) == (0, "", True)
    (home / "encryption.key").unlink()
    assert (await in_process(home, "check")).code == 1
    gone = await in_process(home / "none", "check")
    assert (gone.code, gone.out) == (5, "")
    assert "no database" in gone.said


async def test_settings_may_stand_on_both_sides_of_the_operation(home: Path, filled: Filled, tmp_path: Path) -> None:
    database = ("--db-path", str(home / "stigmer.db"))
    storage = ("--storage-path", str(home / "storage"))
    assert (await in_process(tmp_path / "empty", *database, "check", *storage)).code == 0


KILLED_AT_A_STEP = """
import os, pathlib, signal, sys
left = int(sys.argv.pop(1))

def counted(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call

os.fsync = counted(os.fsync)
for name in ("replace", "hardlink_to", "unlink"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
import stigmer_server.secrets
stigmer_server.secrets.reseal = counted(stigmer_server.secrets.reseal)
from stigmer_server.__main__ import main
main()
"""
"""Runs an operation that is killed just before it touches the disk, or a document, for the nth time."""


async def killed_at(step: int, home: Path, *arguments: str) -> bool:
    """Tell whether it was killed; otherwise it ended well before it got there."""
    places = ("--db-path", str(home / "stigmer.db"), "--storage-path", str(home / "storage"))
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED_AT_A_STEP, str(step), *arguments, *places],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0


@pytest.mark.slow
async def test_a_backup_that_is_killed_leaves_nothing_under_its_name(
    home: Path, filled: Filled, tmp_path: Path
) -> None:
    step, seen = 1, list[str]()
    while await killed_at(step, home, "backup", str(tmp_path / "there" / f"copy{step}.tar"), "--with-key"):
        for name in names_in(tmp_path / "there"):
            if not name.startswith("."):
                seen.append(name)
                assert (await operate(home, "check", str(tmp_path / "there" / name))).code == 0
                (tmp_path / "there" / name).unlink()
        step += 1
    assert step > 8
    assert len(seen) <= 1, "only when all is done does it get its name"
    assert (await operate(home, "check", str(tmp_path / "there" / f"copy{step}.tar"))).code == 0
    assert (await operate(home, "backup", str(tmp_path / "there" / f"copy{step - 1}.tar"))).code == 0
    assert f"copy{step - 1}.tar" not in " ".join(name for name in names_in(tmp_path / "there") if name[0] == ".")


@pytest.mark.slow
async def test_a_restore_that_is_killed_leaves_the_old_or_the_new(home: Path, filled: Filled, tmp_path: Path) -> None:
    await operate(home, "backup", str(tmp_path / "copy"), "--with-key")
    async with serve(home) as api:
        later = await fill(api, "later")
    await operate(home, "rotate-key")
    for path in (home / "storage" / "skills").glob("*.zip"):
        path.unlink()
    shutil.copytree(tmp_path / "copy" / "storage", home / "storage", dirs_exist_ok=True)
    await operate(home, "backup", str(tmp_path / "old"), "--with-key")
    step, seen = 1, set[bool]()
    while await killed_at(step, home, "restore", str(tmp_path / "copy"), "--replace"):
        async with serve(home) as api:
            values = (await api.environment(filled.run)).values
            assert values["KEY"].value == CANARY
            new = await _is_missing(api, later.environment)
            seen.add(new)
            if not new:
                assert (await api.environment(later.run)).values["KEY"].value == CANARY
        if new:
            assert (await operate(home, "check")).code == 0
            # Back to the old, so that every step is tried from there.
            assert (await operate(home, "restore", str(tmp_path / "old"), "--replace")).code in (0, 1)
        step += 1
    assert step > 8
    assert seen == {True, False}
    async with serve(home) as api:
        assert await _is_missing(api, later.environment)
        await assert_whole(api, filled)
    assert (await operate(home, "check")).code == 0


async def _is_missing(api: Api, id: str) -> bool:
    try:
        await api("environment", "get", {"value": id})
    except RpcError:
        return True
    return False


@pytest.mark.slow
async def test_a_rotation_that_is_killed_loses_no_secret_and_is_finished_later(home: Path) -> None:
    async with serve(home) as api:
        runs = [await fill(api, f"vault {number}") for number in range(8)]
    step, killed = 1, 0
    while await killed_at(step, home, "rotate-key"):
        killed += 1
        checked = await operate(home, "check")
        assert checked.code == 0, checked.out
        async with serve(home) as api:
            for filled in runs[::3]:
                await assert_whole(api, filled)
        step = _next(step)
    assert killed > 8
    assert len(keys_of(home)) >= 2
    step = 1
    while await killed_at(step, home, "rotate-key", "--retire"):
        assert (await operate(home, "check")).code == 0
        step = _next(step)
    assert used_keys(home / "stigmer.db") == set(keys_of(home))
    assert len(keys_of(home)) == 1
    assert (await operate(home, "check")).code == 0


def _next(step: int) -> int:
    """Return the next step to try: all of the first, then wider apart, for every document is one."""
    return step + 1 if step < 6 else 2 * step
