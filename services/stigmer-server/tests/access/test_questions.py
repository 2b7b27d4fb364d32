"""Who may answer a task that asks particular people."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from stigmer_grpc import PermissionDeniedError

from stigmer_server.access.testing import ACME, House, key_manifest

RUN = "workflow_execution"
_API = "agentic.stigmer.ai/v1"
_DEFINITION = "document: {dsl: 1.0.0, namespace: a, name: b, version: 1.0.0}\ndo: [{ask: {set: {n: 1}}}]"


async def waiting(house: House, **asked: Any) -> str:
    """Make a run of the organization `acme` with a task that asks; return its id."""
    metadata = {"org": ACME, "ownerScope": 2}
    workflow = {"apiVersion": _API, "kind": "Workflow", "spec": {"definition": _DEFINITION}}
    made = await house.api("workflow", "apply", {**workflow, "metadata": {"name": "b", **metadata}})
    run = {"apiVersion": _API, "kind": "WorkflowExecution", "spec": {"workflowId": made.metadata.id}}
    execution = await house.api(RUN, "create", {**run, "metadata": {"name": f"run {uuid4()}", **metadata}})
    task = {"taskId": "1", "taskName": "ask", "status": "WORKFLOW_TASK_WAITING_FOR_APPROVAL", "inputValue": asked}
    status = {"phase": "EXECUTION_IN_PROGRESS", "tasks": [task]}
    await house.api(RUN, "updateStatus", {"executionId": execution.metadata.id, "status": status})
    return execution.metadata.id


async def test_only_assignees_and_the_operator_answer(house: House) -> None:
    made = await house.api("api_key", "create", key_manifest("ada", "editor"))
    ada, bob, operator = house.with_token(made.spec.key_hash), await house.as_("editor"), await house.as_("operator")
    for who in (ada, operator):
        run = await waiting(house, message="Go?", outcomes=["yes"], assignees=[made.metadata.id])
        request = {"executionId": run, "taskName": "ask", "outcome": "yes"}
        with pytest.raises(PermissionDeniedError, match=f"task ask asks {made.metadata.id}, and not key-"):
            await bob(RUN, "submitWorkflowTaskApproval", request)
        await who(RUN, "submitWorkflowTaskApproval", request)


async def test_without_assignees_whoever_may_change_the_run_answers(house: House) -> None:
    run = await waiting(house, message="Go?", outcomes=["yes"])
    request = {"executionId": run, "taskName": "ask", "outcome": "yes"}
    with pytest.raises(PermissionDeniedError):
        await (await house.as_("viewer"))(RUN, "submitWorkflowTaskApproval", request)
    await (await house.as_("editor"))(RUN, "submitWorkflowTaskApproval", request)
