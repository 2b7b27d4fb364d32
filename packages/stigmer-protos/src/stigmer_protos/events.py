# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of events of organizations, as CloudEvents."""

from stigmer_protos._gen.ai.stigmer.events.v1 import (
    CloudEvent as CloudEvent,
    EventDelivery as EventDelivery,
    EventList as EventList,
    EventPattern as EventPattern,
    ListEventsRequest as ListEventsRequest,
    PublishEventsRequest as PublishEventsRequest,
    PublishEventsResponse as PublishEventsResponse,
    ReceiveEventsRequest as ReceiveEventsRequest,
    ReceivedEvent as ReceivedEvent,
    ReceivedEvents as ReceivedEvents,
    SubscribeEventsRequest as SubscribeEventsRequest,
)
