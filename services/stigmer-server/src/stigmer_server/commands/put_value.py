"""Keep a value that is too large for a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stigmer_server import executions, values
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.transitions import ENDED, Phase
from stigmer_server.unit import Unit


async def put_value(resources: Resources, given: AsyncIterator[Message]) -> Message:
    """Keep a value for an execution, durably, and return what names it. Putting the same again is harmless.

    Raises:
        InvalidError: The header is not the first part and the only one, the value is too large, or it is another one
            than the header says.
        MissingError: There is no such execution.
        RefusedError: It has ended, and is never recovered.
    """
    first = await anext(given, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidError.of("header", "value.parts.header", "send a header first, and after it the value")
    header = first.header
    for field, value in (("execution_id", header.execution_id), ("value.key", header.value.key)):
        if not value:
            raise InvalidError.of(f"header.{field}", "required", "is needed")
    most = resources.values.most
    if header.value.bytes > most:
        raise InvalidError.of("header.value.bytes", "value.size", f"a value may take {most} bytes, and this takes more")
    await resources.transact(lambda unit: _check(unit, header.execution_id))
    async with resources.values.receiving() as incoming:
        async for part in given:
            if part.WhichOneof("part") != "chunk":
                raise InvalidError.of("header", "value.parts.order", "send one header, and after it nothing but chunks")
            await incoming.write(part.chunk)
        if header.value.key != incoming.hash:
            problem = f"is {header.value.key}, and what came is {incoming.hash}; send the value again"
            raise InvalidError.of("header.value.key", "value.key", problem)
        await asyncio.to_thread(values.check, incoming.file, header.value.bytes)
        await incoming.keep()
        await resources.transact(lambda unit: _store(unit, header))
    return header.value


def _store(unit: Unit, header: Message) -> None:
    _check(unit, header.execution_id)
    values.add(unit.transaction, header.execution_id, header.value.key)


def _check(unit: Unit, execution: str) -> None:
    kind = unit.kinds["workflow_execution"]
    stored = unit.require(kind.name, execution)
    if kind.phase_of(stored.status) in ENDED - {Phase.FAILED}:
        raise RefusedError(executions.has_ended(kind, stored, "takes no value any more"))
