"""An MCP server by the official library: on stdin and stdout, or with `--http` on a free port that it prints."""

import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("shop", version="1.2.3")


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool()
def tell(name: str) -> str:
    """Tell the value of an environment variable."""
    return os.environ.get(name, "nothing")


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ToolError(reason)


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Say hello to {name}."


@server.resource("shop://menu")
def menu() -> str:
    """What there is."""
    return "pizza"


@server.resource("shop://dish/{name}")
def dish(name: str) -> str:
    """One dish."""
    return f"a good {name}"


if __name__ == "__main__":
    if "--http" in sys.argv:
        # Not above: what is in the sandbox finds only what it needs.
        from stigmer_runner.testing import serve_guarded

        serve_guarded(server.streamable_http_app(), token=os.environ.get("TOKEN", ""))
    else:
        server.run("stdio")
