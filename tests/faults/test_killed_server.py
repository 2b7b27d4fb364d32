"""The server killed at any point under eight writers: nothing acknowledged is lost, nothing is half there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import resource
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stigmer_grpc import AbortedError, UnavailableError
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
    stored = {key: (kind, version, json.loads(data)) for kind, key, version, data in rows}
    # The server keeps records of its own beside them, of which there is no history.
    documents = {key: document for key, (_, _, document) in stored.items() if "metadata" in document}
    for key, document in documents.items():
        kind, version, _ = stored[key]
        number = int(document["metadata"]["version"]["id"])
        # Every state of the specification has its entry in the history, from the first to the present one.
        assert len(archived[key]) == number, key
        assert archived[key][0] == 1
        assert archived[key][-1] <= version
        if kind == "agent":
            assert is_whole(document["spec"]["instructions"])
            assert documents[document["status"]["defaultInstanceId"]]["spec"]["agentId"] == key
        elif kind == "agent_instance":
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


async def test_a_full_disk_fails_writes_and_loses_nothing(
    tmp_path: Path, server: Callable[..., ServerProcess], rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    """Files that may grow no further, again and again, and may grow again: the server is never restarted."""
    process = server(LOG_LEVEL="error")
    api = await process.ready()
    told, refused = Acknowledged(), 0
    unlimited = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
    for _ in range(rounds(short=2, full=20)):
        room = (tmp_path / "stigmer.db-wal").stat().st_size + 200_000
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (room, unlimited[1]))
        failures = await asyncio.gather(*(write_until_refused(api, writer, told) for writer in range(WRITERS)))
        refused += len(failures)
        assert all("database" in failure for failure in failures), failures
        for key in list(told.versions)[-5:]:
            await check_served(api, key, told)
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, unlimited)
        before = told.writes
        recovered = asyncio.create_task(write(api, 0, told))
        async with asyncio.timeout(30):
            while told.writes < before + 20:
                assert not recovered.done()
                await asyncio.sleep(0.01)
        recovered.cancel()
        await asyncio.gather(recovered, return_exceptions=True)
    await process.kill()
    check(tmp_path / "stigmer.db", told)
    figures(refused=refused, acknowledged=told.writes)


async def write_until_refused(api: Api, writer: int, told: Acknowledged) -> str:
    """Create agents until one is refused, and return what the refusal says."""
    number = 0
    while True:
        number += 1
        name = f"agent {writer} {os.urandom(6).hex()}"
        try:
            made = await api("agent", "create", manifest("agent", name, {"instructions": instructions(writer, number)}))
        except UnavailableError as error:
            return error.message
        told.versions[made.metadata.id], told.instances[made.metadata.id] = 1, made.status.default_instance_id
        told.writes += 1


@dataclass(slots=True)
class Observation:
    """One call on the contended agent, and when it began and ended."""

    begun: float
    ended: float
    version: int
    """What it wrote, or saw."""
    text: str
    wrote: bool


async def test_one_resource_is_linearizable_across_kills(
    tmp_path: Path, server: Callable[..., ServerProcess], rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    """Eight clients update and read one agent by its version while the server is killed."""
    seen: list[Observation] = []
    doubtful: set[str] = set()
    process = server()
    api = await process.ready()
    made = await api("agent", "create", manifest("agent", "contended", {"instructions": instructions(0, 0)}))
    count = rounds(short=3, full=100)
    for number in range(count):
        calls = len(seen)
        clients = [asyncio.create_task(contend(process.client(), made, seen, doubtful)) for _ in range(WRITERS)]
        async with asyncio.timeout(60):
            while len(seen) < calls + 40 + number % 7 * 20:
                done, _ = await asyncio.wait(clients, timeout=0.002)
                assert not done, [client.exception() for client in done]
        await process.kill()
        await asyncio.gather(*clients)
        await process.close()
        process = server()
        api = await process.ready()
    found = await api("agent", "get", {"value": made.metadata.id})
    check_linear(seen, doubtful, made, found)
    figures(kills=count, calls=len(seen), versions=found.metadata.version.id)


async def contend(api: Api, made: Any, seen: list[Observation], doubtful: set[str]) -> None:
    """Read the agent and write it at the version that was read, until the server is gone."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            begun = loop.time()
            read = await api("agent", "get", {"value": made.metadata.id})
            version = int(read.metadata.version.id)
            seen.append(Observation(begun, loop.time(), version, read.spec.instructions, wrote=False))
            text = f"{version + 1}:{os.urandom(8).hex()}"
            read.spec.instructions = text
            begun = loop.time()
            doubtful.add(text)
            try:
                saved = await api("agent", "update", read)
            except AbortedError:
                doubtful.discard(text)
                continue
            doubtful.discard(text)
            seen.append(Observation(begun, loop.time(), int(saved.metadata.version.id), text, wrote=True))
    except UnavailableError:
        return


def check_linear(seen: list[Observation], doubtful: set[str], made: Any, found: Any) -> None:
    """Versions are the order: each was written once, everybody read what was written, and time never ran backwards."""
    texts = {1: made.spec.instructions}
    for write in (each for each in seen if each.wrote):
        assert write.version not in texts, f"version {write.version} was acknowledged twice"
        texts[write.version] = write.text
    for read in (each for each in seen if not each.wrote):
        if read.version in texts:
            assert texts[read.version] == read.text
        else:
            # Nobody was told of it, so it is a write whose answer was lost with the server.
            assert read.text in doubtful
            texts[read.version] = read.text
    newest = int(found.metadata.version.id)
    assert newest >= max(texts)
    assert found.spec.instructions == texts.get(newest, found.spec.instructions)
    # What began after another call had ended must not be older than it; a write must be newer.
    latest, ended = 1, sorted(seen, key=lambda each: each.ended)
    at = 0
    for each in sorted(seen, key=lambda each: each.begun):
        while at < len(ended) and ended[at].ended < each.begun:
            latest = max(latest, ended[at].version)
            at += 1
        assert each.version > latest if each.wrote else each.version >= latest
