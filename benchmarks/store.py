"""The resource store beside SQLite itself, and beside itself with little stored.

Every figure is a ratio of two measurements of the same run on the same disk, so it means something on any machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, process_time

from _report import Row, print_rows
from stigmer_sqlite import KindSchema, Query, Record, SqliteStore, Transaction

SCHEMA = KindSchema(kind="agent", indexes={"phase": "$.status.phase", "parent": "$.spec.parentId"})
WIRE = b"w" * 900
CLIENTS = 32


def agent(name: str, *, parent: str = "p") -> Record:
    document = {
        "metadata": {"name": f"Agent {name}"},
        "spec": {"parentId": parent, "instructions": "x" * 1800},
        "status": {"phase": "ready"},
    }
    data = json.dumps(document)
    return Record(kind="agent", id=name, org_id="org", slug=name, labels={"team": parent}, data=data, wire=WIRE)


def commit_per_row(folder: Path, rows: int) -> float:
    """Rows a second into a bare table of SQLite, each in a durable commit of its own."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE resources (id TEXT PRIMARY KEY, data TEXT, wire BLOB)")
    records = [agent(f"raw{i}") for i in range(rows)]
    begun = perf_counter()
    for record in records:
        connection.execute("INSERT INTO resources VALUES (?, ?, ?)", (record.id, record.data, record.wire))
    taken = perf_counter() - begun
    connection.close()
    return rows / taken


async def saves(store: SqliteStore, prefix: str, *, clients: int, rows: int) -> float:
    """Acknowledged saves a second."""

    async def client(records: list[Record]) -> None:
        for record in records:
            await store.save(record, expected=0)

    per_client = rows // clients
    work = [[agent(f"{prefix}{c}-{i}") for i in range(per_client)] for c in range(clients)]
    begun = perf_counter()
    await asyncio.gather(*(client(records) for records in work))
    return clients * per_client / (perf_counter() - begun)


async def saves_beside_a_busy_loop(store: SqliteStore, prefix: str, *, rows: int) -> float:
    """Acknowledged saves a second while something else never lets the event loop rest."""

    async def burn() -> None:
        while True:
            until = perf_counter() + 0.0005
            while perf_counter() < until:
                pass
            await asyncio.sleep(0)

    burning = asyncio.create_task(burn())
    try:
        return await saves(store, prefix, clients=CLIENTS, rows=rows)
    finally:
        burning.cancel()


async def durable_saves(folder: Path, *, rows: int) -> list[Row]:
    rounds = 3
    raw: list[float] = []
    single: list[float] = []
    grouped: list[float] = []
    busy: list[float] = []
    async with await SqliteStore.open(folder / "saves.db", [SCHEMA]) as store:
        for number in range(rounds):
            inner = folder / str(number)
            inner.mkdir()
            raw.append(commit_per_row(inner, rows // rounds))
            single.append(await saves(store, f"single{number}-", clients=1, rows=rows // rounds))
            grouped.append(await saves(store, f"grouped{number}-", clients=CLIENTS, rows=rows // rounds))
            busy.append(await saves_beside_a_busy_loop(store, f"busy{number}-", rows=rows // rounds))
    bare, idle = statistics.median(raw), statistics.median(grouped)
    return [
        rate("durable save, one client", statistics.median(single), "bare row and commit", bare, 0.15),
        rate(f"durable save, {CLIENTS} clients", idle, "bare row and commit", bare, 0.8),
        rate(f"durable save, {CLIENTS} clients", idle, "one client", statistics.median(single), 5),
        rate(f"durable save, {CLIENTS} clients, busy loop", statistics.median(busy), "with an idle loop", idle, 0.2),
    ]


def rate(name: str, ours: float, peer_name: str, peer: float, limit: float) -> Row:
    return Row(name=name, ours=ours, peer_name=peer_name, peer=peer, unit="saves/s", limit=limit, at_least=True)


async def filled(path: Path, size: int) -> SqliteStore:
    store = await SqliteStore.open(path, [SCHEMA])
    for start in range(0, size, 1000):

        def fill(tx: Transaction, start: int = start) -> None:
            for i in range(start, min(start + 1000, size)):
                tx.save(agent(f"a{i}", parent=f"p{i % 7}"))

        await store.transact(fill)
    return store


async def microseconds(ask: Callable[[int], Awaitable[object]], *, times: int) -> float:
    """CPU time of one call, the best of several runs: what the machine's other work cannot make longer."""
    best = float("inf")
    for _ in range(5):
        begun = process_time()
        for i in range(times):
            await ask(i)
        best = min(best, (process_time() - begun) / times)
    return best * 1e6


async def reads(folder: Path, *, few: int, some: int, many: int, times: int) -> list[Row]:
    rows: list[Row] = []
    stores = {size: await filled(folder / f"{size}.db", size) for size in (few, some, many)}

    async def compare(
        name: str, small: int, times: int, ask: Callable[[SqliteStore, int, int], Awaitable[object]]
    ) -> None:
        peer = await microseconds(lambda i: ask(stores[small], small, i), times=times)
        ours = await microseconds(lambda i: ask(stores[many], many, i), times=times)
        peer_name = f"{small:,} stored"
        row = Row(name=f"{name}, {many:,} stored", ours=ours, peer_name=peer_name, peer=peer, unit="us CPU", limit=1.5)
        rows.append(row)

    def page(**filters: object) -> Callable[[SqliteStore, int, int], Awaitable[object]]:
        query = Query(kind="agent", limit=100, **filters)  # type: ignore[arg-type]
        return lambda store, _size, _i: store.list(query)

    # Both sizes are asked for as many different records: what differs is how many others there are.
    await compare("get by id", few, times, lambda store, size, i: store.get("agent", f"a{i % few * (size // few)}"))
    await compare(
        "find by slug",
        few,
        times,
        lambda store, size, i: store.find("agent", org_id="org", slug=f"a{i % few * (size // few)}"),
    )
    await compare("page of 100", some, times // 50, page())
    await compare("page of 100 by organization", some, times // 50, page(org_id="org"))
    await compare("page of 100 by index", some, times // 50, page(where={"parent": "p3"}))
    await compare("page of 100 by label", some, times // 50, page(labels={"team": "p3"}))
    for store in stores.values():
        await store.close()
    return rows


async def measure(*, quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = await durable_saves(folder, rows=900 if quick else 9_000)
        many = 20_000 if quick else 100_000
        return saved + await reads(folder, few=100, some=1_000, many=many, times=1_000 if quick else 5_000)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the resource store against SQLite itself and its own size.")
    parser.add_argument("--quick", action="store_true", help="fewer rows and smaller stores: seconds, not minutes")
    rows = asyncio.run(measure(quick=parser.parse_args().quick))
    print_rows("The resource store", rows)
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
