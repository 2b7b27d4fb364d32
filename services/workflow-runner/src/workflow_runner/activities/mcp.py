"""Calling MCP servers: processes in the sandbox, and servers behind HTTP."""

import asyncio
import importlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from stigmer_dsl import Problem
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import CallMcpTask, Workflow
from stigmer_sandbox import Command
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.confinement import PATH, Confinement
from workflow_runner.activities.requests import Requests
from workflow_runner.call_messages import McpArguments, McpProcess
from workflow_runner.document import find


class McpCalls:
    """Calls MCP servers. Every call has a connection of its own, and a process does not outlive its call."""

    def __init__(
        self,
        calls: Calls,
        requests: Requests,
        authentication: Authentication,
        confinement: Confinement,
        *,
        readable: Sequence[Path],
    ) -> None:
        """Call servers.

        Args:
            calls: What all calls have in common.
            requests: Sends what goes over HTTP.
            authentication: Applies the policies of endpoints.
            confinement: Where processes run.
            readable: Folders that processes see besides the machine's programs.
        """
        self._calls = calls
        self._requests = requests
        self._authentication = authentication
        self._confinement = confinement
        self._readable = tuple(readable)

    @activity.defn(name=names.CALL_MCP)
    async def call(self, call: Any) -> Any:
        """Make the call whose arguments are `McpArguments`; the output is the result of its method."""
        return await self._calls.make(call, self._exchange)

    async def lacking(self, workflow: Workflow) -> list[Problem]:
        """Return the servers of a workflow that are processes and cannot be run on this machine."""
        commands = [
            (f"{pointer}/with/transport/stdio/command", task.with_.transport.stdio.command)
            for pointer, task in find(workflow, CallMcpTask)
            if task.with_.transport.stdio is not None
        ]
        return await self._confinement.lacking([pointer for pointer, _ in commands]) or [
            Problem(code="unsupported", message=f"there is no program {name!r} on this machine", pointer=pointer)
            for pointer, name in commands
            if not is_expression(name) and shutil.which(name, path=PATH) is None
        ]

    async def _exchange(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        mcp = cast("McpArguments", arguments)
        # The library takes a second to load: not for runners that never call an MCP server, and not on the loop.
        await asyncio.to_thread(importlib.import_module, "workflow_runner.activities.mcp_exchange")
        from workflow_runner.activities.mcp_exchange import ask_process, ask_server

        if mcp["stdio"] is not None:
            return await ask_process(self._confinement, self._command(mcp["stdio"], seconds), mcp, seconds)
        if mcp["http"] is None:
            raise CallFailedError("configuration", "the call names no transport")
        auth = self._authentication.auth(mcp["http"]["authentication"])
        return await ask_server(
            self._requests, mcp["http"], auth, mcp, seconds=seconds, most=self._confinement.limits.output_bytes
        )

    def _command(self, process: McpProcess, seconds: float) -> Command:
        self._confinement.check_network(asked=process["network"])
        return Command(
            arguments=(process["command"], *process["arguments"]),
            environment=process["environment"],
            network=process["network"],
            readable=self._readable,
            limits=self._confinement.limits.lasting(seconds),
        )
