"""Search attributes: what runs can be found by in Temporal, by organization, workflow, execution and phase.

A workflow that names an attribute which its namespace lacks is stuck for good. So a worker looks when it starts, makes
what is missing, and says in each run that it loads whether runs may name them: that stands in history.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from loguru import logger
from temporalio import workflow
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError

_KEYS = {
    name: SearchAttributeKey.for_keyword(f"Stigmer{name.capitalize()}")
    for name in ("org", "workflow", "execution", "phase")
}
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
_SETTLE_SECONDS = 3.0
"""Temporal's services learn of a new attribute one after the other."""


class SearchAttributes:
    """Makes the attributes of one namespace."""

    def __init__(self) -> None:
        self._making: asyncio.Task[bool] | None = None

    def begin(self, client: Client) -> None:
        """Begin to look, and to make what is missing."""
        self._making = asyncio.create_task(_make(client))

    def are_there(self) -> bool:
        """Whether runs may name them by now."""
        return self._making is not None and self._making.done() and self._making.result()

    async def close(self) -> None:
        """Stop looking."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)


def tell(limits: Mapping[str, Any], **values: str) -> None:
    """Set attributes of the run in progress, by the names `org`, `workflow`, `execution` and `phase`."""
    if limits.get("search_attributes"):
        updates = [_KEYS[name].value_set(value) for name, value in values.items() if value]
        workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType] - the library's


async def _make(client: Client) -> bool:
    names = [key.name for key in _KEYS.values()]
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        missing = [name for name in names if name not in listed.custom_attributes]
        if missing:
            keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword)
                )
            )
            await _until_known(client, missing)
    except (RPCError, TimeoutError) as error:
        made = " ".join(f"--name {name} --type Keyword" for name in names)
        logger.warning(
            "runs cannot be found in Temporal by organization, workflow, execution or phase: the search attributes "
            "could not be made ({}); make them with: temporal operator search-attribute create {}",
            error,
            made,
        )
        return False
    return True


async def _until_known(client: Client, names: list[str]) -> None:
    query = " OR ".join(f'{name} = "-"' for name in names)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(RPCError):
                await client.count_workflows(query)
                break
            await asyncio.sleep(_PAUSE_SECONDS)
    await asyncio.sleep(_SETTLE_SECONDS)
