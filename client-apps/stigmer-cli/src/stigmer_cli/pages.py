"""Lists that the server gives in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

    from stigmer_cli.resources import Message


async def entries(channel: Channel, service: str, method: str, request: Mapping[str, Any]) -> AsyncGenerator[Message]:
    """Yield the entries of all pages; a page is asked for when those before it have been taken."""
    token = ""
    while True:
        page: Message = await channel.service(service).unary(method, {**request, "page_token": token})
        for entry in page.entries:
            yield entry
        token = page.next_page_token
        if not token:
            return
