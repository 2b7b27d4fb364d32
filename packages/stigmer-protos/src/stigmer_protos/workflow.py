# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of workflows: their document, tasks and validation."""

from stigmer_protos._gen.ai.stigmer.agentic.workflow.v1 import (
    Export as Export,
    FlowControl as FlowControl,
    Workflow as Workflow,
    WorkflowDocument as WorkflowDocument,
    WorkflowId as WorkflowId,
    WorkflowSpec as WorkflowSpec,
    WorkflowStatus as WorkflowStatus,
    WorkflowTask as WorkflowTask,
)
from stigmer_protos._gen.ai.stigmer.agentic.workflow.v1.serverless import (
    ServerlessWorkflowValidation as ServerlessWorkflowValidation,
    ValidationState as ValidationState,
)
