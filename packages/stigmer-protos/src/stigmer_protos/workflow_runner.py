# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of the workflow runner's own service."""

from stigmer_protos._gen.ai.stigmer.agentic.workflowrunner.v1 import (
    CancelExecutionRequest as CancelExecutionRequest,
    PauseExecutionRequest as PauseExecutionRequest,
    ResumeExecutionRequest as ResumeExecutionRequest,
    WorkflowExecuteInput as WorkflowExecuteInput,
    WorkflowExecuteResponse as WorkflowExecuteResponse,
)
