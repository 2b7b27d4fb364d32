# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of agents: what they are told, which tools and skills they have."""

from stigmer_protos._gen.ai.stigmer.agentic.agent.v1 import (
    Agent as Agent,
    AgentId as AgentId,
    AgentSpec as AgentSpec,
    AgentStatus as AgentStatus,
    ApprovalExpiry as ApprovalExpiry,
    ApprovalPolicy as ApprovalPolicy,
    ApprovalRule as ApprovalRule,
    Budget as Budget,
    DockerServer as DockerServer,
    HttpServer as HttpServer,
    McpServerDefinition as McpServerDefinition,
    McpToolSelection as McpToolSelection,
    PortMapping as PortMapping,
    StdioServer as StdioServer,
    SubAgent as SubAgent,
    VolumeMount as VolumeMount,
)
