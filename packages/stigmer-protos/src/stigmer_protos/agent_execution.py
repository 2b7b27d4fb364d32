# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of agent executions: one run, its messages and tool calls."""

from stigmer_protos._gen.ai.stigmer.agentic.agentexecution.v1 import (
    AgentExecution as AgentExecution,
    AgentExecutionControlInput as AgentExecutionControlInput,
    AgentExecutionDelta as AgentExecutionDelta,
    AgentExecutionId as AgentExecutionId,
    AgentExecutionList as AgentExecutionList,
    AgentExecutionLive as AgentExecutionLive,
    AgentExecutionSpec as AgentExecutionSpec,
    AgentExecutionStatus as AgentExecutionStatus,
    AgentExecutionTellInput as AgentExecutionTellInput,
    AgentExecutionUpdateStatusInput as AgentExecutionUpdateStatusInput,
    AgentMessage as AgentMessage,
    ApprovalAction as ApprovalAction,
    ComponentMetadata as ComponentMetadata,
    ExecutionConfig as ExecutionConfig,
    ExecutionPhase as ExecutionPhase,
    ListAgentExecutionsBySessionRequest as ListAgentExecutionsBySessionRequest,
    ListAgentExecutionsRequest as ListAgentExecutionsRequest,
    MessageType as MessageType,
    SessionId as SessionId,
    SubAgentExecution as SubAgentExecution,
    SubAgentStatus as SubAgentStatus,
    SubmitApprovalInput as SubmitApprovalInput,
    TodoItem as TodoItem,
    TodoStatus as TodoStatus,
    ToolApproval as ToolApproval,
    ToolCall as ToolCall,
    ToolCallStatus as ToolCallStatus,
    Usage as Usage,
)
