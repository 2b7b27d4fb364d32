"""A Temporal worker that interprets the Open Workflow DSL."""

from workflow_runner.tasks import unsupported

__all__ = ["unsupported"]
