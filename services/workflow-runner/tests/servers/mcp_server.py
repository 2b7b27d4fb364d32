"""An MCP server by the official library: on stdin and stdout, or with `--http` on a free port that it prints."""

import os
import socket
import sys
from typing import Any

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


class Guarded:
    """Lets nobody in without the token, if there is one."""

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization", b"").decode() != f"Bearer {self.token}":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"who are you"})
            return
        await self.app(scope, receive, send)


def serve_http(token: str) -> None:
    import uvicorn

    app = server.streamable_http_app()
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(Guarded(app, token) if token else app, log_level="error")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    if "--http" in sys.argv:
        serve_http(os.environ.get("TOKEN", ""))
    else:
        server.run("stdio")
