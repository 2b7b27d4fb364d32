"""What Temporal starts when a schedule says that it is time: it asks the server for the execution, once.

The moment is named by the id of this run, which Temporal makes of the schedule and the time, so a moment that comes
twice is the same moment. Workflow code.
"""

from typing import Any

from temporalio import workflow

from workflow_runner import names
from workflow_runner.errands import until_it_works


@workflow.defn(name=names.FIRE_WORKFLOW, sandboxed=False)
class FireWorkflow:
    """One moment of one schedule."""

    @workflow.run
    async def run(self, moment: Any) -> Any:
        """Return the id of the execution; empty when the moment counts no more."""
        name = workflow.info().workflow_id
        prefix = f"{names.FIRE_WORKFLOW}/{moment['workflow_id']}-"
        request = {
            "workflow_id": moment["workflow_id"],
            "key": moment.get("key") or name,
            "scheduled_at": name.removeprefix(prefix) if name.startswith(prefix) else "",
        }
        return await until_it_works(names.FIRE, request)
