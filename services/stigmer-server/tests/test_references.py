"""Who names a resource is found through an index, whatever else is stored, and also in what an older server stored."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError

from stigmer_server.command_line import parse
from stigmer_server.testing import Api, manifest, serve

REFERENCE = {"environmentRefs": [{"slug": "prod", "kind": 53}]}


async def named(api: Api) -> tuple[Any, Any]:
    """Make an environment and an instance that names it."""
    environment = await api("environment", "create", manifest("environment", "prod", {"description": "values"}))
    agent = await api("agent", "create", manifest("agent", "helper", {"instructions": "Answer in one sentence."}))
    spec = {"agentId": agent.metadata.id, **REFERENCE}
    return environment, await api("agent_instance", "create", manifest("agent_instance", "user", spec))


async def test_a_deletion_looks_up_who_names_the_resource(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        environment, instance = await named(api)
        store: Any = api.app.resources.store
        connection: sqlite3.Connection = store._writer_connection
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        with pytest.raises(FailedPreconditionError, match=f"still needed by .* .{instance.metadata.id}"):
            await api("environment", "delete", {"resourceId": environment.metadata.id})
        connection.set_trace_callback(None)
        plans = [
            "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
            for sql in asked
            if re.match(r"\s*SELECT", sql)
        ]
    lookups = [plan for plan in plans if "SEARCH l USING PRIMARY KEY (kind=? AND key=? AND value=?" in plan]
    assert lookups
    assert not [plan for plan in plans if "SCAN" in plan or "resources_by_kind (kind=?)" in plan]


async def test_a_resource_that_is_named_no_more_can_be_deleted(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        environment, instance = await named(api)
        instance.spec.ClearField("environment_refs")
        await api("agent_instance", "update", instance)
        await api("environment", "delete", {"resourceId": environment.metadata.id})


async def test_what_an_older_server_stored_is_indexed_at_the_next_start(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        environment, instance = await named(api)
    with closing(sqlite3.connect(tmp_path / "stigmer.db")) as database, database:
        database.execute("DELETE FROM resource_labels WHERE key LIKE 'stigmer.names/%'")
        database.execute("UPDATE resources SET labels = '{}' WHERE id = ?", (instance.metadata.id,))
        database.execute("DELETE FROM resources WHERE kind = 'upgrade'")
    check = parse(["check", "--db-path", str(tmp_path / "stigmer.db"), "--storage-path", str(tmp_path / "storage")])
    assert check.operation is not None
    assert check.operation.run(check.settings, check.options).sound
    async with serve(tmp_path) as api:
        with pytest.raises(FailedPreconditionError, match="still needed by AgentInstance user"):
            await api("environment", "delete", {"resourceId": environment.metadata.id})
        assert (await api("agent_instance", "get", {"value": instance.metadata.id})) == instance
    assert check.operation.run(check.settings, check.options).sound
