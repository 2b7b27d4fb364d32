"""One MCP request over a connection that somebody else made: greet, ask, and understand the answer."""

from typing import Any

import mcp_types as types
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import RootModel, ValidationError
from stigmer_runner.mcp import Streams

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.call_messages import McpArguments


class _Result(RootModel[dict[str, Any]]):
    """A result as the server wrote it: what newer servers add is kept."""


_LISTED = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
_MOST_PAGES = 1_000
_EXCERPT = 2_000


class ConnectionEndedError(Exception):
    """The server was gone before it had answered."""


async def converse(streams: Streams, mcp: McpArguments) -> Any:
    """Make one request and return its result.

    Raises:
        ConnectionEndedError: The server was gone before it had answered.
        CallFailedError: It answered with an error, or not as the protocol says.
    """
    client = types.Implementation(name=mcp["client"]["name"], version=mcp["client"]["version"])
    async with ClientSession(*streams, client_info=client) as session:
        # Raised from within, it would come out as one of a group.
        try:
            await _greet(session, mcp["protocol_version"], client)
            return await _result(session, mcp)
        except (MCPError, ValidationError, ValueError, RuntimeError, CallFailedError) as error:
            failure = _failure(error)
    raise failure


async def _greet(session: ClientSession, version: str, client: types.Implementation) -> None:
    if version in MODERN_PROTOCOL_VERSIONS:
        await session.discover()
        return
    offer = types.InitializeRequestParams(
        protocol_version=version, capabilities=types.ClientCapabilities(), client_info=client
    )
    accepted = await session.send_request(types.InitializeRequest(params=offer), types.InitializeResult)
    if accepted.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        said = accepted.protocol_version
        raise CallFailedError("communication", f"the MCP server speaks version {said!r}, which this runner does not")
    session.adopt(accepted)
    await session.send_notification(types.InitializedNotification())


async def _result(session: ClientSession, mcp: McpArguments) -> Any:
    method, parameters = mcp["method"], mcp["parameters"]
    listed = _LISTED.get(method)
    if listed is not None and "cursor" not in parameters:
        return await _all_pages(session, method, parameters, listed)
    result = await _request(session, method, parameters)
    if method == "tools/call" and result.get("isError"):
        raise CallFailedError("runtime", f"the tool {parameters.get('name')!r} failed: {_text(result)}")
    return result


async def _all_pages(session: ClientSession, method: str, parameters: dict[str, Any], listed: str) -> dict[str, Any]:
    result = await _request(session, method, parameters)
    items = list(result.get(listed, []))
    seen: set[str] = set()
    while (cursor := result.pop("nextCursor", None)) is not None:
        if cursor in seen or len(seen) >= _MOST_PAGES:
            raise CallFailedError("communication", f"the pages of {method} do not end; ask for one by its cursor")
        seen.add(cursor)
        page = await _request(session, method, {**parameters, "cursor": cursor})
        items += page.get(listed, [])
        result["nextCursor"] = page.get("nextCursor")
    return {**result, listed: items}


async def _request(session: ClientSession, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    request = types.Request[dict[str, Any], str](method=method, params=parameters)
    return (await session.send_request(request, _Result)).root


def _failure(error: Exception) -> Exception:
    match error:
        case CallFailedError():
            return error
        case MCPError() if error.code == types.CONNECTION_CLOSED:
            return ConnectionEndedError(error.message)
        case MCPError() if error.code == types.PARSE_ERROR:
            return CallFailedError("communication", f"the MCP server's answer cannot be read: {error.message}")
        case MCPError():
            data = f"; {error.data}" if error.data else ""
            return CallFailedError("runtime", f"the MCP server answered with error {error.code}: {error.message}{data}")
        case ValidationError():
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            said = f"{place}: {problem['msg']}" if place else problem["msg"]
            return CallFailedError("communication", f"the MCP server's answer is not as the protocol says: {said}")
        case _:
            return CallFailedError("communication", f"the MCP server cannot be talked with: {error}")


def _text(result: dict[str, Any]) -> str:
    """Return what a result says to people."""
    texts = [str(part.get("text")) for part in result.get("content", []) if part.get("type") == "text"]
    text = "\n".join(texts).strip() or "it does not say why"
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
