# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of MCP servers: tools that agents share."""

from stigmer_protos._gen.ai.stigmer.agentic.mcpserver.v1 import (
    DockerServerConfig as DockerServerConfig,
    HttpServerConfig as HttpServerConfig,
    McpServer as McpServer,
    McpServerId as McpServerId,
    McpServerList as McpServerList,
    McpServerSpec as McpServerSpec,
    McpServerStatus as McpServerStatus,
    PortMapping as PortMapping,
    StdioServerConfig as StdioServerConfig,
    ValidationState as ValidationState,
    VolumeMount as VolumeMount,
)
