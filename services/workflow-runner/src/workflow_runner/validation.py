"""The activity for a server that has runners check what it is to store, as Stigmer Cloud does.

The checks are the language's own, which stigmer-server makes by itself. What this machine cannot do is no error of the
workflow, and told as a warning. It is on a queue of its own: there it is asked for while somebody waits.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format
from stigmer_dsl import DocumentError, compile_spec, doubts_about, to_yaml
from stigmer_dsl.model import Workflow
from stigmer_protos import descriptors
from stigmer_runner.contract import answer_of
from temporalio import activity
from temporalio.common import RawValue

from workflow_runner.activities.load import Lacking
from workflow_runner.cloud import read
from workflow_runner.tasks import unsupported

VALIDATE = "validateWorkflow"
"""Name of the activity, by which that server asks for it."""

_SPEC = "ai.stigmer.agentic.workflow.v1.WorkflowSpec"
_VALIDATION = "ai.stigmer.agentic.workflow.v1.serverless.ServerlessWorkflowValidation"
_VALID, _INVALID = 2, 3
"""Numbers of serverless.ValidationState."""
_LESS = ("yaml", "warnings")
"""What a result leaves out when it is too large."""

Message = Any


class Validation:
    """Checks workflows.

    Args:
        lacking: Say what of a workflow this machine cannot do.
        most_bytes: What a result may take.
    """

    def __init__(self, lacking: Sequence[Lacking], *, most_bytes: int) -> None:
        self._lacking = lacking
        self._most_bytes = most_bytes

    @activity.defn(name=VALIDATE)
    async def validate(self, spec: RawValue) -> RawValue:
        """Return the ServerlessWorkflowValidation of a WorkflowSpec.

        Raises:
            ApplicationError: The argument is no spec.
        """
        given = read(spec, _SPEC)
        validation: Message = descriptors.message_type(_VALIDATION)()
        validation.validated_at.GetCurrentTime()
        validation.validation_workflow_id = activity.info().workflow_id or ""
        try:
            workflow, validation.yaml = await asyncio.to_thread(_compiled, given)
        except DocumentError as error:
            validation.state = _INVALID
            validation.errors.extend(map(str, error.problems))
        else:
            validation.state = _VALID
            for problem in (*doubts_about(workflow), *unsupported(workflow)):
                validation.warnings.append(str(problem))
            for lacking in self._lacking:
                validation.warnings.extend(map(str, await lacking(workflow)))
        return answer_of(validation, most_bytes=self._most_bytes, less=_LESS)


def _compiled(spec: Message) -> tuple[Workflow, str]:
    """Return a spec as a workflow and as text. Raises: DocumentError."""
    workflow = compile_spec(json_format.MessageToDict(spec, descriptor_pool=descriptors.pool()))
    return workflow, str(spec.definition) or to_yaml(workflow)
