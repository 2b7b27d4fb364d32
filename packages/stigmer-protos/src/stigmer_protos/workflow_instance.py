# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of workflow instances: a workflow bound to environments."""

from stigmer_protos._gen.ai.stigmer.agentic.workflowinstance.v1 import (
    GetWorkflowInstancesByWorkflowRequest as GetWorkflowInstancesByWorkflowRequest,
    WorkflowInstance as WorkflowInstance,
    WorkflowInstanceId as WorkflowInstanceId,
    WorkflowInstanceList as WorkflowInstanceList,
    WorkflowInstanceSpec as WorkflowInstanceSpec,
)
