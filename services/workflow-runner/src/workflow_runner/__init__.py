"""A Temporal worker that interprets the Open Workflow DSL."""

import stigmer_grpc  # noqa: F401  # pyright: ignore[reportUnusedImport] - before Temporal's client, which loads gRPC

from workflow_runner.tasks import unsupported

__all__ = ["unsupported"]
