# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of agent instances: an agent bound to environments."""

from stigmer_protos._gen.ai.stigmer.agentic.agentinstance.v1 import (
    AgentInstance as AgentInstance,
    AgentInstanceId as AgentInstanceId,
    AgentInstanceList as AgentInstanceList,
    AgentInstanceSpec as AgentInstanceSpec,
    GetAgentInstancesByAgentRequest as GetAgentInstancesByAgentRequest,
)
