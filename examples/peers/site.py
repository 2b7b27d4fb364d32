"""What the examples talk with: a small web site on this machine, with nothing to install.

    python examples/peers/site.py            # http://127.0.0.1:8765, until Ctrl-C

It has pages, a page that fails at first, jobs that take their time, a page for those with a token, an OpenAPI
description, an MCP server, an agent that speaks A2A, and a catalog of functions.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8765
TOKEN = "open-sesame"  # noqa: S105 - of an example
PETS = {"1": {"id": 1, "name": "Rex"}, "2": {"id": 2, "name": "Minka"}}
STOCK = {"chair": 4, "table": 0, "lamp": 12}

Answer = tuple[int, Any]

_lock = threading.Lock()
_failures: dict[str, int] = {}
_jobs: dict[str, float] = {}


def answer(method: str, path: str, headers: dict[str, str], body: Any, url: str) -> Answer:
    """Return status and JSON for a request."""
    head, *rest = path.strip("/").split("/")
    page: Callable[..., Answer] | None = PAGES.get(head)
    return (404, {"error": f"there is no page {path}"}) if page is None else page(method, rest, headers, body, url)


def pets(method: str, rest: list[str], *_: Any) -> Answer:
    """All pets, or one."""
    if not rest:
        return 200, list(PETS.values())
    return (200, PETS[rest[0]]) if rest[0] in PETS else (404, {"error": f"there is no pet {rest[0]}"})


def stock(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """How much there is of something."""
    if rest[0] not in STOCK:
        return 404, {"error": f"{rest[0]} is not sold here"}
    return 200, {"item": rest[0], "left": STOCK[rest[0]]}


def payments(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """Take a payment, or give it back."""
    if method == "DELETE":
        return 200, {"refunded": rest[0]}
    if body["amount"] > 1000:
        return 402, {"error": "the card does not cover it"}
    return 201, {"id": f"pay-{body['order']}", "amount": body["amount"]}


def flaky(method: str, rest: list[str], *_: Any) -> Answer:
    """Fails twice for each name, then answers."""
    with _lock:
        _failures[rest[0]] = left = _failures.get(rest[0], 3) - 1
        if not left:
            del _failures[rest[0]]
    return (503, {"error": "not yet"}) if left else (200, {"name": rest[0]})


def jobs(method: str, rest: list[str], *_: Any) -> Answer:
    """Takes half a second for each job."""
    with _lock:
        if method == "POST":
            _jobs[rest[0]] = time.monotonic()
            return 202, {"job": rest[0], "state": "running"}
        done = time.monotonic() - _jobs.get(rest[0], 0) > 0.5
    return 200, {"job": rest[0], "state": "done" if done else "running"}


def private(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """A page for those with the token."""
    if headers.get("authorization") != f"Bearer {TOKEN}":
        return 401, {"error": "say open-sesame"}
    return 200, {"treasure": "forty chests"}


def square(method: str, rest: list[str], *_: Any) -> Answer:
    """The square of a number."""
    return 200, {"number": int(rest[0]), "square": int(rest[0]) ** 2}


def openapi(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """What there is to call about pets, as OpenAPI."""
    pet = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]}
    return 200, {
        "openapi": "3.0.3",
        "info": {"title": "Pets", "version": "1"},
        "servers": [{"url": url}],
        "paths": {
            "/pets": {"get": {"operationId": "listPets", "responses": {"200": {"description": "all"}}}},
            "/pets/{id}": {"get": {"operationId": "getPet", **pet, "responses": {"200": {"description": "one"}}}},
        },
    }


def mcp(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """An MCP server with one tool, over streamable HTTP."""
    if method != "POST":
        return 405, {"error": "only messages are taken"}
    if "id" not in body:
        return 202, None
    params = body.get("params", {})
    if body["method"] == "initialize":
        result: Any = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "calculator", "version": "1"},
        }
    elif body["method"] == "tools/list":
        schema = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
        result = {"tools": [{"name": "add", "description": "Adds two numbers.", "inputSchema": schema}]}
    elif body["method"] == "tools/call":
        total = params["arguments"]["a"] + params["arguments"]["b"]
        result = {"content": [{"type": "text", "text": str(total)}], "structuredContent": {"sum": total}}
    else:
        error = {"code": -32601, "message": f"there is no {body['method']}"}
        return 200, {"jsonrpc": "2.0", "id": body["id"], "error": error}
    return 200, {"jsonrpc": "2.0", "id": body["id"], "result": result}


def agent_card(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """Who the agent is."""
    return 200, {
        "protocolVersion": "0.3.0",
        "name": "Echo",
        "description": "Says what it hears.",
        "url": f"{url}/a2a",
        "version": "1.0.0",
        "capabilities": {},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [],
    }


def a2a(method: str, rest: list[str], headers: dict[str, str], body: Any, url: str) -> Answer:
    """An agent that says what it hears."""
    heard = body["params"]["message"]["parts"][0]["text"]
    parts = [{"kind": "text", "text": f"I heard: {heard}"}]
    message = {"kind": "message", "role": "agent", "messageId": "m-1", "parts": parts}
    return 200, {"jsonrpc": "2.0", "id": body["id"], "result": message}


def catalog(method: str, rest: list[str], *_: Any) -> Answer:
    """A catalog with one function, `functions/greet/1.0.0/function.yaml`. JSON is YAML."""
    if rest != ["functions", "greet", "1.0.0", "function.yaml"]:
        return 404, {"error": "there is no such function"}
    return 200, {"set": {"greeting": '${ "Hello, " + .name + "!" }'}}


PAGES: dict[str, Callable[..., Answer]] = {
    "pets": pets,
    "stock": stock,
    "payments": payments,
    "flaky": flaky,
    "jobs": jobs,
    "private": private,
    "square": square,
    "openapi.json": openapi,
    "mcp": mcp,
    ".well-known": agent_card,
    "a2a": a2a,
    "catalog": catalog,
}


class Handler(BaseHTTPRequestHandler):
    """Answers in JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a request of any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        url = f"http://{self.headers.get('Host')}"
        status, content = answer(self.command, path, headers, json.loads(body) if body else None, url)
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class looks for these names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


def main() -> None:
    """Serve until Ctrl-C."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201 - a program's own words
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
