"""Outputs that the server keeps apart, because they are too large for a message."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stigmer_cli.runs.execution import Execution

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

    from stigmer_cli.console import OutputFormat
    from stigmer_cli.resources import Resources
    from stigmer_cli.runs.states import Run

_TRANSFERS = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionTransferController"


async def output_of(channel: Channel, identifier: str) -> Any:
    """Return the whole output of a workflow execution."""
    parts = channel.service(_TRANSFERS).stream("getOutput", {"execution_id": identifier})
    return json.loads(b"".join([part.chunk async for part in parts]))


async def with_output(resources: Resources, run: Run, output: OutputFormat) -> Run:
    """Return a run with its whole output, where a program reads it; people see the beginnings of a large one."""
    if not isinstance(run, Execution) or not run.is_cut or not (output.is_structured or not sys.stdout.isatty()):
        return run
    return replace(run, output=await output_of(resources.channel, run.id))


async def fill(channel: Channel, execution: dict[str, Any]) -> None:
    """Put the whole output into a workflow execution as plain data, where only its beginnings are there."""
    status = execution.get("status", {})
    if "large_output" in status:
        whole = await output_of(channel, execution["metadata"]["id"])
        status["output_value"] = whole
        if isinstance(whole, dict):
            status["output"] = whole
