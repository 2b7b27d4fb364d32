"""HTTP: messages are sent as requests, and come as server-sent events or as answers to repeated requests."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from stigmer_sandbox import Fetched, Streamed

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.requests import described
from workflow_runner.activities.responses import check_status

_EVENTS = "text/event-stream"
_PAUSE_SECONDS = 1.0
_OK, _NOTHING = 200, (204, 304)
_MOST_QUEUED = 256


class _Http:
    schemes: Mapping[str, tuple[bool, int]] = {"http": (False, 80), "https": (True, 443)}
    library = ""
    extra = ""

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        method = str(route.operation.get("method", "POST")).upper()
        url = route.url("http")
        answer = await tools.requests.send(
            method,
            url,
            seconds=seconds,
            headers={"Content-Type": message.content_type, **message.headers, **route.headers},
            content=message.body,
        )
        check_status(described(method, url), answer, redirect=False)

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        return _Answers(route, tools, str(position or ""))


class _Answers:
    """What a path gives: a stream of events, or one answer after the other."""

    settles = False

    def __init__(self, route: Route, tools: Tools, last_id: str) -> None:
        self._route = route
        self._tools = tools
        self._last_id = last_id
        self._count = 0
        self._streams = False
        self._queue: asyncio.Queue[Inbound | None] = asyncio.Queue(_MOST_QUEUED)
        """None stands for the end, which `_failure` explains."""
        self._failure = CallFailedError("communication", f"{route} ended", status=503)
        self._reading = asyncio.create_task(self._read())

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        found: list[Inbound] = []
        try:
            async with asyncio.timeout(seconds):
                item = await self._queue.get()
        except TimeoutError:
            return found
        while item is not None:
            found.append(item)
            if len(found) == most or self._queue.empty():
                return found
            item = self._queue.get_nowait()
        if not found:
            raise self._failure
        await self._queue.put(None)
        return found

    async def settle(self, done: int) -> None:
        """Nothing is kept for us."""

    async def close(self, *, over: bool) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        url = self._route.url("http")
        try:
            while True:
                count = self._count
                try:
                    await self._once(url)
                except CallFailedError:
                    # A stream that gave something may break off, and is asked for again.
                    if self._count == count:
                        raise
                if self._count == count or self._streams:
                    await asyncio.sleep(_PAUSE_SECONDS)
        except CallFailedError as error:
            self._failure = error
        await self._queue.put(None)

    async def _once(self, url: str) -> None:
        """Make one request, and put what it gives."""
        headers = {"Accept": f"{_EVENTS}, application/json;q=0.9, */*;q=0.5", **self._route.headers}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        async with self._tools.requests.stream("GET", url, headers=headers) as answer:
            kind = dict(answer.headers).get("content-type", "").partition(";")[0].strip().lower()
            self._streams = answer.status == _OK and kind == _EVENTS
            if self._streams:
                await self._events(answer)
            elif answer.status not in _NOTHING:
                body = b"".join([part async for part in answer.body])
                whole = Fetched(url=url, status=answer.status, headers=answer.headers, body=body)
                check_status(described("GET", url), whole, redirect=False)
                await self._put(Inbound(body=body, content_type=kind, headers=dict(answer.headers)))

    async def _events(self, answer: Streamed) -> None:
        event = _Event()
        async for text in _lines(answer, self._route.most_bytes):
            if text:
                event.take(text)
                continue
            if event.id is not None:
                self._last_id = event.id
            if event.data:
                await self._put(event.inbound(self._last_id))
            event = _Event()

    async def _put(self, message: Inbound) -> None:
        self._count += 1
        await self._queue.put(message)


class _Event:
    """A server-sent event while it is read."""

    def __init__(self) -> None:
        self.data: list[str] = []
        self.id: str | None = None
        self._type = ""

    def take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self.data.append(value)
            case "id" if "\0" not in value:
                self.id = value
            case "event":
                self._type = value
            case _:
                pass

    def inbound(self, last_id: str) -> Inbound:
        headers = {name: value for name, value in (("event", self._type), ("id", last_id)) if value}
        return Inbound(body="\n".join(self.data).encode(), headers=headers, position=last_id or None)


async def _lines(answer: Streamed, most: int) -> AsyncGenerator[str]:
    rest = b""
    async for part in answer.body:
        rest += part
        *lines, rest = rest.replace(b"\r\n", b"\n").split(b"\n")
        if len(rest) > most:
            raise CallFailedError("communication", f"an event is larger than {most} bytes", status=502)
        for line in lines:
            yield line.decode("utf-8", "replace")


PROTOCOL: MessageProtocol = _Http()
