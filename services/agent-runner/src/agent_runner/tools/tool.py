"""A tool of an MCP server, as LangChain sees tools."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jsonschema.exceptions import SchemaError, UnknownType
from langchain_core.tools import BaseTool
from mcp_types import CallToolResult, Tool
from pydantic import PrivateAttr
from stigmer_dsl import WorkflowError
from stigmer_dsl.schemas import broken_rules

from agent_runner.tools.results import Keep, told
from agent_runner.turn.effects import Effect

_MOST_DESCRIPTION = 2_000
"""Characters of a description, which is the server's text and not ours."""
_MOST_SAID = 500

Call = Callable[[dict[str, Any]], Awaitable[CallToolResult]]


class ToolFailedError(Exception):
    """A tool's failure, for the model."""


class McpTool(BaseTool):
    """Calls one tool of one server."""

    _call: Call = PrivateAttr()
    _keep: Keep = PrivateAttr()

    def __init__(self, name: str, tool: Tool, *, call: Call, keep: Keep) -> None:
        """Offer `tool` as `name`; `call` makes a call, `keep` puts away what is too large."""
        super().__init__(name=name, description=description(tool), args_schema=_schema(tool.input_schema))
        self._call = call
        self._keep = keep

    def _run(self, /, **arguments: Any) -> Any:
        raise NotImplementedError("tools of MCP servers are called from an event loop")

    async def _arun(self, /, **arguments: Any) -> str:
        schema: Any = self.args_schema
        if wrong := problem(schema, arguments):
            raise ToolFailedError(f"The arguments do not fit the tool: {wrong}. It was not called.")
        result = await self._call(arguments)
        text = await told(self.name, result, self._keep)
        if result.is_error:
            raise ToolFailedError(text)
        return text


def description(tool: Tool) -> str:
    """What a tool is told to the model to be, bounded."""
    text = (tool.description or tool.title or tool.name).strip()
    return text if len(text) <= _MOST_DESCRIPTION else f"{text[:_MOST_DESCRIPTION]}…"


def effect(tool: Tool) -> Effect:
    """What a second run would do, as far as the server says."""
    hints = tool.annotations
    if hints is not None and hints.read_only_hint:
        return Effect.PURE
    return Effect.REPEATABLE if hints is not None and hints.idempotent_hint else Effect.ONCE


def problem(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """What is wrong with arguments, "" when nothing is; a schema that is none lets everything pass."""
    try:
        broken = broken_rules(schema, dict(arguments), "the arguments")
    except (WorkflowError, SchemaError, UnknownType, re.error, ValueError, LookupError, TypeError, AttributeError):
        return ""
    if not broken:
        return ""
    said = f"{broken[0].place}: {broken[0].message}".removeprefix("$: ").removeprefix("$.")
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}…"


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as LangChain wants one."""
    return {"type": "object", **schema, "properties": schema.get("properties") or {}}
