# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of what a runner needs to know to run an execution."""

from stigmer_protos._gen.ai.stigmer.runtime.v1 import (
    ExecutionEnvironment as ExecutionEnvironment,
    ExecutionRef as ExecutionRef,
    ExecutionToken as ExecutionToken,
    PutValueHeader as PutValueHeader,
    PutValuePart as PutValuePart,
    ValuePart as ValuePart,
    ValueRef as ValueRef,
    WorkflowCheckpoint as WorkflowCheckpoint,
    WorkflowPosition as WorkflowPosition,
    WorkflowRun as WorkflowRun,
)
