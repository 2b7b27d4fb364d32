"""`call: mcp`: ask an MCP server, output the result of its method."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import CallMcpTask, McpStdioTransport

from workflow_runner import names
from workflow_runner.arguments import evaluate_endpoint, evaluate_object
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault
from workflow_runner.tasks.run import text_of, wants_network

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
"""Versions of MCP that the library speaks; it takes too long to load only to be asked."""
_CLIENT = {"name": "stigmer", "version": version("workflow-runner")}
_UNSETTABLE = frozenset(
    """PATH HOME IFS ENV BASH_ENV SHELLOPTS PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONINSPECT NODE_OPTIONS NODE_PATH
    PERL5LIB PERL5OPT RUBYLIB RUBYOPT JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS CLASSPATH GCONV_PATH GLIBC_TUNABLES""".split()  # noqa: SIM905 - reads best as text
)
_UNSETTABLE_PREFIXES = ("LD_", "DYLD_")


class _CallMcp:
    task = CallMcpTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallMcpTask) -> Iterator[tuple[str, str]]:
        given = task.with_
        if not is_expression(given.protocol_version) and given.protocol_version not in VERSIONS:
            yield "/with/protocolVersion", _unknown_version(given.protocol_version)
        if given.transport.options:
            yield "/with/transport/options", "no options of a transport are known; leave them out"
        for name in (given.transport.stdio and given.transport.stdio.environment) or ():
            if _is_unsettable(name):
                yield f"/with/transport/stdio/environment/{name}", _unsettable(name)

    async def run(self, task: CallMcpTask, step: Step) -> Outcome:
        given = task.with_
        arguments: dict[str, Any] = {
            "method": given.method,
            "parameters": evaluate_object(given.parameters, "with.parameters", step),
            "protocol_version": _version(given.protocol_version, step),
            "client": step.evaluate(given.client.to_dict()) if given.client else _CLIENT,
            "http": None,
            "stdio": None,
        }
        if given.transport.http is not None:
            headers = evaluate_object(given.transport.http.headers, "the headers", step)
            arguments["http"] = {
                **evaluate_endpoint(given.transport.http.endpoint, step),
                "headers": {name: text_of(value, f"the header {name}", step) for name, value in headers.items()},
            }
        elif given.transport.stdio is not None:
            arguments["stdio"] = _process(given.transport.stdio, task, step)
        seconds = None if given.timeout is None else step.duration(given.timeout).total_seconds()
        # What a tool does is not known beforehand; everything else only reads.
        repeatable = given.method != "tools/call"
        return Outcome(output=await step.call(names.CALL_MCP, arguments, repeatable=repeatable, seconds=seconds))


def _process(stdio: McpStdioTransport, task: CallMcpTask, step: Step) -> dict[str, Any]:
    environment = {
        name: text_of(value, f"the variable {name}", step)
        for name, value in evaluate_object(stdio.environment, "the environment", step).items()
    }
    return {
        "command": text_of(step.evaluate(stdio.command), "the command", step),
        "arguments": [text_of(step.evaluate(value), "an argument", step) for value in stdio.arguments or ()],
        "environment": environment,
        "network": wants_network(task, step),
    }


def _version(given: str, step: Step) -> str:
    found = step.evaluate(given)
    if found not in VERSIONS:
        raise configuration_fault(_unknown_version(found), step)
    return str(found)


def _unknown_version(found: object) -> str:
    return f"version {found!r} of MCP is not spoken, only {', '.join(VERSIONS)}"


def _is_unsettable(name: str) -> bool:
    return name.upper() in _UNSETTABLE or name.upper().startswith(_UNSETTABLE_PREFIXES)


def _unsettable(name: str) -> str:
    return f"the variable {name} changes which code runs, and cannot be set"


KIND: TaskKind[CallMcpTask] = _CallMcp()
