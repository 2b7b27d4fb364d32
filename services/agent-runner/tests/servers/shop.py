"""An MCP server by the official library: on stdin and stdout, or with `--http` on a free port that it prints."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("shop", version="1.2.3")
READS, AGAIN = ToolAnnotations(read_only_hint=True), ToolAnnotations(idempotent_hint=True)
PIXEL = bytes.fromhex("89504e470d0a1a0a")
basket: list[str] = []


@server.tool()
def put(what: str) -> str:
    """Put something into the basket."""
    basket.append(what)
    return ", ".join(basket)


@server.tool(annotations=READS)
def add(a: Annotated[int, Field(ge=0)], b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool(annotations=READS, description=os.environ.get("TOLD", "Tell the value of an environment variable."))
def tell(name: str) -> str:
    return os.environ.get(name, "nothing")


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ToolError(reason)


@server.tool()
def die() -> str:
    """End without a word."""
    os._exit(3)


@server.tool()
def hang() -> str:
    """Take for ever."""
    time.sleep(1000)
    return "never"


@server.tool(annotations=READS, structured_output=False)
def much(megabytes: int) -> str:
    """Say much."""
    return "all work and no play\n" * (megabytes * 2**20 // 21)


@server.tool(annotations=READS)
def picture() -> Image:
    """Show a picture."""
    return Image(data=PIXEL, format="png")


@server.tool()
def pay(amount: int) -> str:
    """Pay: a line in a file, and then a wait until somebody makes another."""
    with Path("paid.txt").open("a") as file:
        file.write(f"{amount}\n")
    while not Path("go-on").exists():
        time.sleep(0.05)
    return f"paid {amount}"


if __name__ == "__main__":
    if "--http" in sys.argv:
        # Not above: what is in the sandbox finds only what it needs.
        from stigmer_runner.testing import serve_guarded

        serve_guarded(
            server.streamable_http_app(), token=os.environ.get("TOKEN", ""), port=int(os.environ.get("PORT", "0"))
        )
    else:
        server.run("stdio")
