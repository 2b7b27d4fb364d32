"""McpServer: how to reach a server of tools."""

from __future__ import annotations

from stigmer_server.kinds.port import Kind

KIND = Kind(name="mcp_server", shared=True, secrets=("spec.env_spec.data",))
