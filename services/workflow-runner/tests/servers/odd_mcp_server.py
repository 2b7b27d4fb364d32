"""An MCP server of its own making, which does one thing that it should not, or that few do: see `MODES`."""

import json
import sys
import time
from typing import Any


def say(message: Any) -> None:
    print(message if isinstance(message, str) else json.dumps(message), flush=True)


def answer(request: dict[str, Any], result: Any) -> None:
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})


def greet(request: dict[str, Any], version: str = "2025-06-18") -> None:
    information = {"name": "odd", "version": "1"}
    answer(request, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": information})


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}}


def pages(request: dict[str, Any]) -> None:
    cursor = int(request.get("params", {}).get("cursor", "0"))
    more = {"nextCursor": str(cursor + 1)} if cursor < 2 else {}
    answer(request, {"tools": [tool(f"tool{cursor}")], **more})


def endless(request: dict[str, Any]) -> None:
    answer(request, {"tools": [], "nextCursor": "again"})


def die(_: dict[str, Any]) -> None:
    print("out of paper", file=sys.stderr)
    sys.exit(3)


def silent(_: dict[str, Any]) -> None:
    print("thinking", file=sys.stderr, flush=True)
    time.sleep(1000)


def rubbish(_: dict[str, Any]) -> None:
    while True:
        say("all work and no play")


def broken(request: dict[str, Any]) -> None:
    say(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"tools": []}})[:-4])


def huge(request: dict[str, Any]) -> None:
    answer(request, {"tools": [tool("x" * 3_000_000)]})


def wrong(request: dict[str, Any]) -> None:
    answer(request, {"tools": "none"})


def refuse(request: dict[str, Any]) -> None:
    say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32042, "message": "not today", "data": {"n": 1}}})


def ask_back(request: dict[str, Any]) -> None:
    """Ask the client for what it does not offer, wait for its refusal, and answer."""
    say({"jsonrpc": "2.0", "id": "back", "method": "roots/list"})
    refused = json.loads(sys.stdin.readline())
    answer(request, {"tools": [tool(f"refused{refused['error']['code']}")]})


def polite(request: dict[str, Any]) -> None:
    answer(request, {"tools": [tool("polite")]})


MODES = {
    made.__name__: made
    for made in (pages, endless, die, silent, rubbish, broken, huge, wrong, refuse, ask_back, polite)
}


def main(mode: str) -> None:
    if mode == "polite":
        say("Welcome to the odd server")
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("method") == "initialize":
            greet(request, "1999-01-01" if mode == "old" else "2025-06-18")
        elif "id" in request:
            MODES[mode](request)


if __name__ == "__main__":
    main(sys.argv[1])
