"""How runners reach MCP servers: over a process's pipes, and over HTTP through the outbound guard. The extra `mcp`."""

from stigmer_runner.mcp.http import Bridge, HttpRefusedError, Send, address, http_streams
from stigmer_runner.mcp.process import Listener, process_streams
from stigmer_runner.mcp.streams import Streams

__all__ = [
    "Bridge",
    "HttpRefusedError",
    "Listener",
    "Send",
    "Streams",
    "address",
    "http_streams",
    "process_streams",
]
