"""Outputs that are too large for a message are fetched whole, where a program reads them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from stigmer_cli.environment import Home
from stigmer_cli.stack.server import EmbeddedServer
from stigmer_protos import descriptors

DOCUMENT = "document: {dsl: 1.0.0, namespace: docs, name: greet, version: 1.0.0}\ndo: [{a: {set: {b: 1}}}]\n"
WHOLE = {"text": "x" * 3_000_000}
PREVIEW = {"$truncated": {"bytes": 3_000_011, "preview": {"text": "xxx…"}}}
_EXECUTION = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionCommandController"
_RUNTIME = "ai.stigmer.runtime.v1.ExecutionRuntimeController"


async def run_with_large_output(home: Home, workflow: str) -> str:
    """Make a run that has ended with an output that the server keeps apart, as a runner does."""
    text = json.dumps(WHOLE, separators=(",", ":")).encode()
    kept = zstandard.compress(text)
    part: Any = descriptors.message_type("ai.stigmer.runtime.v1.PutValuePart")
    async with EmbeddedServer(home) as server:
        metadata = {"name": "run", "org": "local", "ownerScope": 2}
        made = (
            await server.channel()
            .service(_EXECUTION)
            .unary(
                "create",
                {
                    "apiVersion": "agentic.stigmer.ai/v1",
                    "kind": "WorkflowExecution",
                    "metadata": metadata,
                    "spec": {"workflowId": workflow},
                },
            )
        )
        header = part()
        header.header.execution_id = made.metadata.id
        header.header.value.key, header.header.value.bytes = hashlib.sha256(kept).hexdigest(), len(text)
        value = await server.channel().service(_RUNTIME).client_stream("putValue", [header, part(chunk=kept)])
        large = {"key": value.key, "bytes": str(value.bytes)}
        status = {"phase": "EXECUTION_COMPLETED", "outputValue": PREVIEW, "output": PREVIEW, "largeOutput": large}
        await (
            server.channel()
            .service(_EXECUTION)
            .unary("updateStatus", {"executionId": made.metadata.id, "status": status})
        )
        return made.metadata.id


@pytest.fixture
def run(home: Home, stigmer: Any, tmp_path: Path) -> str:
    (tmp_path / "greet.yaml").write_text(DOCUMENT)
    assert stigmer("apply", "-f", tmp_path / "greet.yaml").code == 0
    workflow = json.loads(stigmer("get", "workflow/greet", "-o", "json").out)["metadata"]["id"]
    return asyncio.run(run_with_large_output(home, workflow))


def test_get_and_watch_print_a_large_output_whole(stigmer: Any, run: str) -> None:
    status = json.loads(stigmer("get", run, "-o", "json").out)["status"]
    assert status["output"] == status["output_value"] == WHOLE
    assert json.loads(stigmer("watch", run, "-o", "json").out)["output"] == WHOLE
    # To a file or another program.
    assert json.loads(stigmer("watch", run).out) == WHOLE


def test_pages_for_people_show_the_beginnings_of_a_large_output(stigmer: Any, run: str) -> None:
    told = stigmer("describe", run).out
    assert "xxx…" in told
    assert len(told) < 5_000
