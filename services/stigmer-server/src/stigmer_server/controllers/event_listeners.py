"""EventListenerController: events as runs hear them."""

from __future__ import annotations

from stigmer_grpc import CallContext, Service, bind
from stigmer_protos import descriptors

from stigmer_server.calls import call_of
from stigmer_server.commands.receive_events import receive_events
from stigmer_server.event_listeners import Pattern
from stigmer_server.messages import Message
from stigmer_server.resources import Resources

_PACKAGE = "ai.stigmer.events.v1"


def event_listener_service(resources: Resources) -> Service:
    """Return the service, bound."""
    answer = descriptors.message_type(f"{_PACKAGE}.ReceivedEvents")

    async def receive(request: Message, context: CallContext) -> Message:
        own = resources.on_behalf_of(call_of(context))
        patterns = [Pattern(type=pattern.type, source=pattern.source) for pattern in request.patterns]
        found = await receive_events(own, request.execution_id, request.listener, patterns, request.after)
        message: Message = answer(position=found.position, waiting=found.waiting)
        for json, position in found.events:
            message.events.add(json=json, position=position)
        return message

    return bind(descriptors.pool(), f"{_PACKAGE}.EventListenerController", {"receive": receive})
