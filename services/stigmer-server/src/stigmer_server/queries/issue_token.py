"""Issue a token that lets a runner get the values of one execution."""

from __future__ import annotations

from stigmer_protos import descriptors

from stigmer_server.access.execution_tokens import ExecutionTokens
from stigmer_server.errors import RefusedError
from stigmer_server.messages import Message
from stigmer_server.queries.get_environment import execution_kind
from stigmer_server.resources import Resources
from stigmer_server.unit import wire_of


async def issue_token(resources: Resources, tokens: ExecutionTokens, execution_id: str) -> Message:
    """Return a token for an execution that has not ended, good for a quarter of an hour.

    Raises:
        MissingError: There is no such execution.
        RefusedError: The execution has ended.
    """
    kind = execution_kind(resources.kinds, execution_id)
    if kind.is_finished(kind.parse(wire_of(await resources.record(kind, execution_id)))):
        msg = f"{kind.title} {execution_id} has ended; tokens are issued only while it runs"
        raise RefusedError(msg)
    answer: Message = descriptors.message_type("ai.stigmer.runtime.v1.ExecutionToken")()
    answer.token, expires = tokens.issue(execution_id)
    answer.expires_at.FromSeconds(expires)
    return answer
