"""EventController: events of organizations, published and followed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors

from stigmer_server.calls import call_of
from stigmer_server.cloud_events import Selection
from stigmer_server.commands.publish import publish
from stigmer_server.encoding import delimited
from stigmer_server.messages import Message
from stigmer_server.queries.list_events import list_events
from stigmer_server.queries.subscribe_events import subscribe_events
from stigmer_server.resources import Resources
from stigmer_server.watches import Watches

_PACKAGE = "ai.stigmer.events.v1"


def event_service(resources: Resources, watches: Watches) -> Service:
    """Return the service, bound."""
    handlers = {
        "publish": _publish(resources),
        "subscribe": _subscribe(resources, watches),
        "list": _list(resources),
    }
    return bind(descriptors.pool(), f"{_PACKAGE}.EventController", handlers)


def _publish(resources: Resources) -> Handler:
    answer = descriptors.message_type(f"{_PACKAGE}.PublishEventsResponse")

    async def handle(request: Message, context: CallContext) -> Message:
        own = resources.on_behalf_of(call_of(context))
        # The contract's rules were held against the request before it came here.
        published = await publish(own, request.org, request.events, checked=True)
        return answer(accepted=published.accepted, duplicates=published.duplicates, resume_token=published.resume_token)

    return handle


def _subscribe(resources: Resources, watches: Watches) -> Handler:
    answer = descriptors.message_type(f"{_PACKAGE}.EventDelivery")
    number = answer.DESCRIPTOR.fields_by_name["event"].number

    async def handle(request: Message, context: CallContext) -> AsyncIterator[bytes]:
        own = resources.on_behalf_of(call_of(context))
        selection = Selection(
            org=request.org, types=tuple(request.types), source=request.source, subject=request.subject
        )
        deliveries = subscribe_events(
            own, watches, selection, resume_token=request.resume_token, from_start=request.from_start
        )
        async for delivery in deliveries:
            token: bytes = answer(resume_token=delivery.resume_token).SerializeToString()
            yield token if delivery.event is None else delimited(number, delivery.event) + token

    return handle


def _list(resources: Resources) -> Handler:
    answer = descriptors.message_type(f"{_PACKAGE}.EventList")
    number = answer.DESCRIPTOR.fields_by_name["entries"].number

    async def handle(request: Message, context: CallContext) -> bytes:
        listed = await list_events(
            resources.on_behalf_of(call_of(context)),
            request.org,
            of_type=request.type,
            source=request.source,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        rest: bytes = answer(next_page_token=listed.next_page_token).SerializeToString()
        return b"".join([*(delimited(number, entry) for entry in listed.entries), rest])

    return handle
