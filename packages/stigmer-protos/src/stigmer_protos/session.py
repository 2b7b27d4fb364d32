# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of sessions: conversations with an agent."""

from stigmer_protos._gen.ai.stigmer.agentic.session.v1 import (
    AgentId as AgentId,
    ForkSessionInput as ForkSessionInput,
    ListSessionsByAgentRequest as ListSessionsByAgentRequest,
    ListSessionsRequest as ListSessionsRequest,
    Session as Session,
    SessionFork as SessionFork,
    SessionId as SessionId,
    SessionList as SessionList,
    SessionSpec as SessionSpec,
    SessionStatus as SessionStatus,
)
