"""ExecutionContext: the values that one execution runs with. Never updated: applying a second time is refused."""

from __future__ import annotations

from stigmer_server.kinds.port import Kind

KIND = Kind(
    name="execution_context",
    secrets=("spec.data",),
    indexes={"execution_id": "$.spec.executionId"},
    applied_once=True,
    no_rollback="the values that an execution ran with are a record of it",
)
