# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of workflow executions: one run and its tasks."""

from stigmer_protos._gen.ai.stigmer.agentic.workflowexecution.v1 import (
    ExecutionPhase as ExecutionPhase,
    GetWorkflowExecutionOutputRequest as GetWorkflowExecutionOutputRequest,
    LargeValue as LargeValue,
    ListWorkflowExecutionsByWorkflowRequest as ListWorkflowExecutionsByWorkflowRequest,
    ListWorkflowExecutionsRequest as ListWorkflowExecutionsRequest,
    OutputPart as OutputPart,
    SendSignalInput as SendSignalInput,
    SubmitWorkflowTaskApprovalInput as SubmitWorkflowTaskApprovalInput,
    SubscribeWorkflowExecutionRequest as SubscribeWorkflowExecutionRequest,
    WorkflowExecution as WorkflowExecution,
    WorkflowExecutionControlInput as WorkflowExecutionControlInput,
    WorkflowExecutionId as WorkflowExecutionId,
    WorkflowExecutionList as WorkflowExecutionList,
    WorkflowExecutionRecoverInput as WorkflowExecutionRecoverInput,
    WorkflowExecutionSpec as WorkflowExecutionSpec,
    WorkflowExecutionStatus as WorkflowExecutionStatus,
    WorkflowExecutionUpdate as WorkflowExecutionUpdate,
    WorkflowExecutionUpdateStatusInput as WorkflowExecutionUpdateStatusInput,
    WorkflowId as WorkflowId,
    WorkflowTask as WorkflowTask,
    WorkflowTaskStatus as WorkflowTaskStatus,
    WorkflowTaskType as WorkflowTaskType,
    WorkflowUpdateType as WorkflowUpdateType,
)
