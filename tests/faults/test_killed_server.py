"""The server killed at any point under eight writers: nothing acknowledged is lost, nothing is half there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stigmer_grpc import UnavailableError
from stigmer_server.testing import Api, ServerProcess, manifest

WRITERS = 8
SHORT, FULL = 3, 200
ACKNOWLEDGEMENTS = (40, 260)
"""How many writes of a round are acknowledged before the kill, at least and at most."""


@dataclass(slots=True)
class Acknowledged:
    """What the server said is done."""

    versions: dict[str, int] = field(default_factory=dict[str, int])
    """Agent id to the newest version that was acknowledged."""
    instances: dict[str, str] = field(default_factory=dict[str, str])
    """Agent id to its default instance."""
    gone: set[str] = field(default_factory=set[str])
    doubtful: set[str] = field(default_factory=set[str])
    """Agents whose deletion was asked for, and not answered."""
    writes: int = 0


def instructions(writer: int, number: int) -> str:
    """Text that says by itself whether it is whole; of all sizes, so that writes are cut at all places."""
    text = f"{writer}:{number}:" + "x" * (number * 37 % 5000)
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}"


def is_whole(text: str) -> bool:
    digest, _, rest = text.partition(" ")
    return hashlib.sha256(rest.encode()).hexdigest() == digest


async def write(api: Api, writer: int, told: Acknowledged) -> None:
    """Create, update, apply and delete agents until the server is gone."""
    number = 0
    try:
        while True:
            number += 1
            name = f"agent {writer} {os.urandom(6).hex()}"
            made = await api("agent", "create", manifest("agent", name, {"instructions": instructions(writer, number)}))
            agent = made.metadata.id
            told.versions[agent], told.instances[agent] = 1, made.status.default_instance_id
            told.writes += 1
            verb = "update" if number % 2 else "apply"
            changed = manifest(
                "agent", name, {"instructions": instructions(writer, number + 1)}, slug=made.metadata.slug
            )
            updated = await api("agent", verb, changed)
            told.versions[agent] = int(updated.metadata.version.id)
            told.writes += 1
            if number % 5 == 0:
                told.doubtful.add(agent)
                await api("agent", "delete", {"value": agent})
                told.doubtful.discard(agent)
                told.gone.add(agent)
                told.writes += 1
    except UnavailableError:
        return


async def hurt(server: ServerProcess, told: Acknowledged, acknowledgements: int) -> None:
    """Let eight clients write, and kill the server when it has acknowledged so many writes."""
    until = told.writes + acknowledgements
    writers = [asyncio.create_task(write(server.client(), writer, told)) for writer in range(WRITERS)]
    async with asyncio.timeout(60):
        while told.writes < until:
            done, _ = await asyncio.wait(writers, timeout=0.002)
            assert not done, [writer.exception() for writer in done]
    await server.kill()
    await asyncio.gather(*writers)


def check(path: Path, told: Acknowledged) -> None:
    """Hold the database against what was acknowledged, beside the server that has it open."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = database.execute("SELECT kind, id, version, data FROM resources").fetchall()
        archived = _grouped(database.execute("SELECT id, version FROM resource_history ORDER BY id, version"))
        changes = database.execute("SELECT sequence, operation, id, version FROM changes ORDER BY sequence").fetchall()
    database.close()
    documents = {key: json.loads(data) for _, key, _, data in rows}
    for kind, key, version, _ in rows:
        document = documents[key]
        number = int(document["metadata"]["version"]["id"])
        # Every state of the specification has its entry in the history, from the first to the present one.
        assert len(archived[key]) == number, key
        assert archived[key][0] == 1
        assert archived[key][-1] <= version
        if kind == "agent":
            assert is_whole(document["spec"]["instructions"])
            assert documents[document["status"]["defaultInstanceId"]]["spec"]["agentId"] == key
        else:
            assert documents[document["spec"]["agentId"]]["status"]["defaultInstanceId"] == key
    assert archived.keys() == documents.keys()
    _check_changes(changes, {key: version for _, key, version, _ in rows})
    for key, version in told.versions.items():
        if key in told.gone:
            assert key not in documents
        elif key in documents:
            assert int(documents[key]["metadata"]["version"]["id"]) >= version
            assert documents[key]["status"]["defaultInstanceId"] == told.instances[key]
        else:
            assert key in told.doubtful, f"{key} was acknowledged and is lost"


def _grouped(rows: Any) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, version in rows:
        found.setdefault(key, []).append(version)
    return found


def _check_changes(changes: list[tuple[int, str, str, int]], versions: dict[str, int]) -> None:
    """The feed has no gap, and played back it leads to what is stored."""
    assert [change[0] for change in changes] == list(range(1, len(changes) + 1))
    replayed: dict[str, int] = {}
    for _, operation, key, version in changes:
        if operation == "deleted":
            del replayed[key]
        else:
            assert version == replayed.get(key, 0) + 1
            replayed[key] = version
    assert replayed == versions


async def test_a_killed_server_loses_nothing_that_it_acknowledged(
    tmp_path: Path, server: Callable[..., ServerProcess], rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    count = rounds(short=SHORT, full=FULL)
    told, ready = Acknowledged(), list[float]()
    seeded = random.Random(20261122)
    for _ in range(count):
        process = server()
        api = await process.ready()
        ready.append(process.ready_seconds)
        sampled = seeded.sample(sorted(told.versions), min(20, len(told.versions)))
        await asyncio.gather(*(check_served(api, key, told) for key in sampled))
        await hurt(process, told, seeded.randint(*ACKNOWLEDGEMENTS))
        await process.close()
        check(tmp_path / "stigmer.db", told)
    process = server()
    await process.ready()
    ready.append(process.ready_seconds)
    check(tmp_path / "stigmer.db", told)
    assert told.writes >= count * ACKNOWLEDGEMENTS[0]
    figures(
        kills=count,
        acknowledged=told.writes,
        stored=len(told.versions) - len(told.gone),
        ready=f"{sorted(ready)[len(ready) // 2] * 1e3:.0f} ms (at most {max(ready) * 1e3:.0f} ms)",
    )


async def check_served(api: Api, key: str, told: Acknowledged) -> None:
    """The restarted server answers with what was acknowledged."""
    if key in told.gone or key in told.doubtful:
        return
    found = await api("agent", "get", {"value": key})
    assert int(found.metadata.version.id) >= told.versions[key]
    instance = await api("agent_instance", "get", {"value": told.instances[key]})
    assert instance.spec.agent_id == key
