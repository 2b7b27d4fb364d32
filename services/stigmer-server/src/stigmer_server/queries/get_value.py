"""Get a value that is too large for a message."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_server import parts, values
from stigmer_server.errors import RefusedError
from stigmer_server.resources import Resources


async def get_value(resources: Resources, execution_id: str, key: str) -> AsyncIterator[bytes]:
    """Yield a value of an execution that has not ended, as it was put, piece by piece.

    Raises:
        MissingError: There is no such execution, or it has no such value.
        RefusedError: The execution has ended.
    """
    kind = resources.kinds["workflow_execution"]
    if kind.is_finished(kind.parse(parts.head(await resources.head(kind, execution_id)))):
        msg = f"{kind.title} {execution_id} has ended; there is nothing left to run"
        raise RefusedError(msg)
    async for part in values.parts(resources, execution_id, key, expanded=False):
        yield part
