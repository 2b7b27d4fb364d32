"""ResourceController: resources of any kind in one list, for people's tools."""

from __future__ import annotations

from stigmer_grpc import CallContext, Service, bind
from stigmer_protos import descriptors

from stigmer_server.calls import call_of
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, fill_struct, to_plain
from stigmer_server.queries.list_ import Listing, list_
from stigmer_server.resources import Resources


def resource_service(resources: Resources) -> Service:
    """Return the service, bound."""
    answer = descriptors.message_type("ai.stigmer.resources.v1.ResourceList")

    async def handle(request: Message, context: CallContext) -> Message:
        kind = _kind(resources, request.kind)
        listing = Listing(
            org=request.org or None,
            labels=dict(request.labels),
            text=request.text,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        listed = await list_(resources.on_behalf_of(call_of(context)), kind, listing)
        response: Message = answer(next_page_token=listed.next_page_token, total_count=listed.total)
        for entry in listed.entries:
            fill_struct(response.entries.add(), to_plain(kind.parse(entry)))
        return response

    return bind(descriptors.pool(), "ai.stigmer.resources.v1.ResourceController", {"list": handle})


def _kind(resources: Resources, number: int) -> Kind:
    name = descriptors.kind_by_number(number).enum_name
    if name not in resources.kinds:
        raise InvalidError.of("kind", "kind.served", f"this server has no resources of kind {name}")
    return resources.kinds[name]
