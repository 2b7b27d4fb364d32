"""A database that the first schema was written with: opened, brought up to date, and read to the last document.

`data/first_schema` was made by the code as it was before the first migration after it, through the API, with a resource
of every kind, earlier versions, secrets, finished and pending executions, and something that was deleted.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from stigmer_sqlite import DatabaseFile

from stigmer_server.command_line import parse
from stigmer_server.operations import Result
from stigmer_server.testing import Api, serve

DATA = Path(__file__).parent / "data" / "first_schema"
KEY = bytes(range(32)).hex()
COUNTS = {
    "agent": 1,
    "agent_execution": 2,
    "agent_instance": 2,
    "environment": 1,
    "execution_context": 1,
    "mcp_server": 1,
    "session": 2,
    "skill": 1,
    "workflow": 1,
    "workflow_execution": 2,
    "workflow_instance": 2,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The files of a server of that time."""
    shutil.copytree(DATA / "storage", tmp_path / "storage")
    database = sqlite3.connect(tmp_path / "stigmer.db")
    database.executescript((DATA / "stigmer.sql").read_text())
    database.close()
    return tmp_path


def operate(home: Path, *arguments: str) -> Result:
    places = ["--db-path", str(home / "stigmer.db"), "--storage-path", str(home / "storage"), "--encryption-key", KEY]
    command = parse([*arguments, *places])
    assert command.operation is not None
    options: argparse.Namespace = command.options
    return command.operation.run(command.settings, options)


async def one(api: Api, kind: str, slug: str, version: str = "") -> Any:
    return await api(kind, "getByReference", {"org": "local", "slug": slug, "version": version})


async def execution(api: Api, slug: str) -> Any:
    entries = (await api("workflow_execution", "list", {})).entries
    return next(entry for entry in entries if entry.metadata.slug == slug)


async def test_everything_is_read_after_the_upgrade(home: Path) -> None:
    async with serve(home, encryption_key=KEY) as api:
        for kind, count in COUNTS.items():
            assert (await api.list_all({"kind": kind, "org": ""})).total_count == count, kind
        assert (await one(api, "environment", "vault", "1")).spec.data["REGION"].value == "eu"
        vault = await one(api, "environment", "vault")
        assert (vault.metadata.version.id, list(vault.metadata.tags)) == ("2", ["prod"])
        skill = await one(api, "skill", "house-style", "stable")
        key = skill.status.artifact_storage_key
        assert (await api("skill", "getArtifact", {"artifactStorageKey": key})).artifact
        finished = await execution(api, "first-run")
        assert (finished.status.phase, finished.status.tasks[0].task_name) == (3, "greet")
        pending = await execution(api, "second-run")
        values = (await api.environment(pending.metadata.id)).values
        assert {name: values[name].value for name in values} == {
            "TOKEN": "second secret",
            "REGION": "eu",
            "RUN": "flow secret",
        }
        revisions = await api.any("listRevisions", {"kind": "environment", "id": vault.metadata.id})
        assert len(revisions.entries) == 2
        vault.spec.data["REGION"].value = "us"
        assert (await api("environment", "update", vault)).metadata.version.id == "3"
    assert operate(home, "check").sound


async def test_it_is_checked_and_backed_up_before_the_upgrade(home: Path, tmp_path: Path) -> None:
    checked = operate(home, "check")
    assert checked.sound, checked.data["problems"]
    assert operate(home, "backup", str(tmp_path / "copy")).sound
    with DatabaseFile(home / "stigmer.db") as database:
        assert database.counts() == COUNTS
    other = tmp_path / "other"
    assert operate(other, "restore", str(tmp_path / "copy")).sound
    async with serve(other, encryption_key=KEY) as api:
        assert (await one(api, "agent", "release-notes")).spec.instructions
    assert operate(other, "check").sound


async def test_its_keys_are_rotated_before_the_upgrade(home: Path) -> None:
    new = bytes(range(1, 33)).hex()
    places = ["--db-path", str(home / "stigmer.db"), "--encryption-key", f"{new},{KEY}"]
    command = parse(["rotate-key", *places])
    assert command.operation is not None
    assert command.operation.run(command.settings, command.options).data["documents"] > 0
    async with serve(home, encryption_key=new) as api:
        pending = await execution(api, "second-run")
        assert (await api.environment(pending.metadata.id)).values["TOKEN"].value == "second secret"
