# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of execution contexts: the values given to one run."""

from stigmer_protos._gen.ai.stigmer.agentic.executioncontext.v1 import (
    ExecutionContext as ExecutionContext,
    ExecutionContextId as ExecutionContextId,
    ExecutionContextSpec as ExecutionContextSpec,
    ExecutionValue as ExecutionValue,
)
