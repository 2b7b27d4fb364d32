"""Get the values that an execution runs with, secrets in clear: the one query that opens them."""

from __future__ import annotations

from stigmer_protos import descriptors

from stigmer_server import environments
from stigmer_server.access.execution_tokens import ExecutionTokens
from stigmer_server.errors import MissingError, RefusedError
from stigmer_server.kinds import Kind, Kinds
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Unit


async def get_environment(resources: Resources, tokens: ExecutionTokens, execution_id: str, token: str) -> Message:
    """Return every value of the execution's environment, by name, to whoever has a token of it.

    Raises:
        UnprovenError: The token is missing, forged or expired.
        DeniedError: The token is for another execution.
        MissingError: The execution, or what it runs, does not exist.
        RefusedError: The execution has ended, and needs no secrets any more.
        UnsealError: A secret cannot be opened with the keys at hand.
    """
    tokens.check(token, execution_id)
    kind = execution_kind(resources.kinds, execution_id)

    def work(unit: Unit) -> environments.Values:
        execution = unit.require(kind.name, execution_id)
        if kind.is_finished(execution):
            msg = f"{kind.title} {execution_id} has ended; its environment is given only while it runs"
            raise RefusedError(msg)
        return environments.of_execution(unit.within(execution.metadata.org), kind.name, execution)

    values = await resources.read(work)
    answer: Message = descriptors.message_type("ai.stigmer.runtime.v1.ExecutionEnvironment")()
    for name, layered in values.items():
        answer.values[name].value = layered.opened(name, resources.sealer)
        answer.values[name].is_secret = layered.is_secret
    return answer


def execution_kind(kinds: Kinds, execution_id: str) -> Kind:
    """Return the kind of execution that has such an id. Raises: MissingError."""
    prefix = execution_id.partition("-")[0]
    for kind in kinds.values():
        if kind.phases and kind.described.id_prefix == prefix:
            return kind
    raise MissingError.of("Execution", execution_id)
