"""The event service of the peer: events in memory, in one order, and who waits for them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import json_format
from stigmer_grpc import CallContext, Service, UnavailableError, bind
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors
from stigmer_runner import read_value

_PACKAGE = "ai.stigmer.events.v1"
_PAGE = 50
_NAMES = {"data_content_type": "datacontenttype", "data_schema": "dataschema"}

Wake = Callable[[str, str], Awaitable[None]]
"""Wakes a listener of an execution."""


class PeerEvents:
    """Events of one organization. It keeps to what stigmer-server promises: an event is kept once, in order."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        """In their JSON form; the place of each is its index, counted from 1."""
        self.attempts = 0
        """How often events were published, again or not."""
        self.lost_answers = 0
        """How many more publications are done, and not answered."""
        self.looks = 0
        """How often a run looked for events."""
        self.waiting: dict[tuple[str, str], tuple[Mapping[str, str], ...]] = {}
        """Execution and name of each listener, and its patterns."""
        self.begun: dict[str, int] = {}
        """Execution to the place at which it was created."""
        self.wake: Wake | None = None
        self.fired: list[tuple[str, str, str]] = []
        """Workflow, key and moment of each time that it was time for a schedule."""
        self._changed = asyncio.Condition()

    def services(self) -> list[Service]:
        """Return the services, bound."""
        pool = descriptors.pool()
        return [
            bind(pool, f"{_PACKAGE}.EventController", {"publish": self._publish}),
            bind(pool, f"{_PACKAGE}.EventListenerController", {"receive": self._receive}),
            bind(pool, "ai.stigmer.schedules.v1.ScheduleController", {"fire": self._fire}),
        ]

    async def until_waiting(self, execution_id: str, number: int = 1) -> None:
        """Return once so many listeners of an execution wait."""
        async with self._changed:
            await self._changed.wait_for(lambda: sum(key[0] == execution_id for key in self.waiting) >= number)

    async def add(self, *events: dict[str, Any]) -> None:
        """Keep events, each once, and wake who waits for one."""
        for event in events:
            if any((event["source"], event["id"]) == (one["source"], one["id"]) for one in self.kept):
                continue
            self.kept.append(event)
            for key, patterns in [*self.waiting.items()]:
                if _fits(event, patterns):
                    del self.waiting[key]
                    if self.wake is not None:
                        await self.wake(*key)

    async def _publish(self, request: Message, _: CallContext) -> Message:
        self.attempts += 1
        await self.add(*(_json(event) for event in request.events))
        if self.lost_answers:
            self.lost_answers -= 1
            raise UnavailableError("the answer is lost")
        return descriptors.message_type(f"{_PACKAGE}.PublishEventsResponse")()

    async def _fire(self, request: Message, _: CallContext) -> Message:
        self.fired.append((request.workflow_id, request.key, request.scheduled_at))
        return descriptors.message_type("ai.stigmer.schedules.v1.StartedExecution")(execution_id="wex-1")

    async def _receive(self, request: Message, _: CallContext) -> Message:
        self.looks += 1
        patterns = tuple({"type": item.type, "source": item.source} for item in request.patterns)
        after = max(request.after, self.begun.get(request.execution_id, 0))
        answer: Message = descriptors.message_type(f"{_PACKAGE}.ReceivedEvents")(position=len(self.kept))
        for place, event in enumerate(self.kept, start=1):
            if place > after and _fits(event, patterns) and len(answer.events) < _PAGE:
                answer.events.add(json=json.dumps(event), position=place)
                answer.position = place
        answer.waiting = not answer.events
        if answer.waiting:
            self.waiting[request.execution_id, request.listener] = patterns
            async with self._changed:
                self._changed.notify_all()
        return answer


def _fits(event: Mapping[str, Any], patterns: tuple[Mapping[str, str], ...]) -> bool:
    return not patterns or any(
        (
            event["type"].startswith(item["type"][:-1])
            if item["type"].endswith("*")
            else item["type"] in ("", event["type"])
        )
        and item["source"] in ("", event["source"])
        for item in patterns
    )


def _json(event: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    if event.HasField("time"):
        found["time"] = json_format.MessageToDict(event, descriptor_pool=descriptors.pool())["time"]
    found |= {_NAMES.get(name, name): getattr(event, name) for name in ("subject", *_NAMES) if getattr(event, name)}
    found |= dict(event.extensions)
    match event.WhichOneof("data"):
        case "json_data":
            found["data"] = read_value(event.json_data)
        case "text_data":
            found["data"] = event.text_data
        case _:
            pass
    return found
