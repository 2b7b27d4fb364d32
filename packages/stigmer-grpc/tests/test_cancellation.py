"""Deadlines, cancellation and slow readers, the same over every transport."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stigmer_grpc import CallContext, CancelledError, DeadlineExceededError, ResponseStream


class Watched:
    """Handlers that never answer and say what becomes of them."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()
        self.deadlines: list[float | None] = []
        self.context: CallContext | None = None

    async def unary(self, request: Any, context: CallContext) -> Any:
        self._note(context)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def stream(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        self._note(context)
        try:
            yield request
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.closed.set()

    def _note(self, context: CallContext) -> None:
        self.context = context
        self.deadlines.append(context.deadline)
        self.entered.set()


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_deadline_ends_the_call_and_its_handler(lab: Any, note: Any, watched: Watched) -> None:
    async with lab.serve(echo=watched.unary) as stub, asyncio.timeout(10):
        with pytest.raises(DeadlineExceededError):
            # Long enough for the first call of a process, which loads what checks requests.
            await stub.unary("echo", note(text="x"), timeout=0.5)
        await watched.cancelled.wait()
    (left,) = watched.deadlines
    assert left is not None
    assert 0 < left < 1


async def test_a_deadline_ends_a_stream_and_its_handler(lab: Any, note: Any, watched: Watched) -> None:
    async with lab.serve(count=watched.stream) as stub, asyncio.timeout(10):
        stream = stub.stream("count", note(text="x"), timeout=0.1)
        await anext(stream)
        with pytest.raises(DeadlineExceededError):
            await anext(stream)
        await watched.closed.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_the_channels_timeout_counts_for_calls_that_give_none(lab: Any, note: Any, watched: Watched) -> None:
    async with lab.connected(lab.server(echo=watched.unary), timeout=0.1) as channel, asyncio.timeout(10):
        with pytest.raises(DeadlineExceededError):
            await channel.service("lab.v1.Lab").unary("echo", note(text="x"))
        await watched.cancelled.wait()


async def test_a_call_may_go_without_a_deadline_and_streams_do(lab: Any, note: Any, watched: Watched) -> None:
    async with lab.serve(echo=watched.unary, count=watched.stream) as stub, asyncio.timeout(10):
        call = asyncio.ensure_future(stub.unary("echo", note(text="x"), timeout=math.inf))
        await watched.entered.wait()
        call.cancel()
        await anext(stub.stream("count", note(text="x")))
    assert watched.deadlines == [None, None]


async def test_a_deadline_that_has_passed_is_not_even_tried(lab: Any, note: Any) -> None:
    async with lab.serve() as stub:
        with pytest.raises(DeadlineExceededError):
            await stub.unary("echo", note(text="x"), timeout=0)
        with pytest.raises(DeadlineExceededError):
            stub.stream("count", note(text="x"), timeout=-1)


async def test_cancelling_the_callers_task_cancels_the_handler(lab: Any, note: Any, watched: Watched) -> None:
    async with lab.serve(echo=watched.unary) as stub, asyncio.timeout(10):
        call = asyncio.ensure_future(stub.unary("echo", note(text="x")))
        await watched.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await watched.cancelled.wait()


async def test_the_event_of_a_cancelled_call_is_set_for_what_the_handler_started(
    lab: Any, note: Any, watched: Watched
) -> None:
    async with lab.serve(echo=watched.unary) as stub, asyncio.timeout(10):
        call = asyncio.ensure_future(stub.unary("echo", note(text="x")))
        await watched.entered.wait()
        assert watched.context is not None
        event = watched.context.cancelled
        assert not event.is_set()
        call.cancel()
        await event.wait()


@pytest.mark.parametrize("way", ["cancel", "close", "leave", "drop", "cancel the reader"])
async def test_a_stream_that_is_given_up_closes_its_handler(lab: Any, note: Any, watched: Watched, way: str) -> None:
    async with lab.serve(count=watched.stream) as stub, asyncio.timeout(10):
        stream = stub.stream("count", note(text="x"))
        await anext(stream)
        if way == "cancel":
            stream.cancel()
            with pytest.raises(CancelledError):
                await anext(stream)
        elif way == "close":
            await stream.aclose()
        elif way == "leave":
            async with stream:
                pass
        elif way == "drop":
            del stream
            gc.collect()
        else:
            await _cancel_reader(stream)
        await watched.closed.wait()


async def _cancel_reader(stream: ResponseStream) -> None:
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.wait([reader], timeout=0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_a_caller_does_not_wait_for_a_handler_that_is_slow_to_give_up(lab: Any, note: Any) -> None:
    release = asyncio.Event()
    ended = asyncio.Event()

    async def slow(request: Any, context: CallContext) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
            ended.set()

    async with lab.serve(echo=slow) as stub, asyncio.timeout(10):
        with pytest.raises(DeadlineExceededError):
            await stub.unary("echo", note(text="x"), timeout=0.1)
        assert not ended.is_set()
        release.set()
        await ended.wait()


async def test_a_slow_reader_holds_its_stream_back(lab: Any, note: Any) -> None:
    size, total = 50_000, 600
    sent = 0

    async def flood(request: Any, context: CallContext) -> AsyncIterator[Any]:
        nonlocal sent
        for number in range(total):
            yield type(request)(text="x", number=number, data=b"x" * size)
            sent += 1

    async with lab.serve(count=flood) as stub, asyncio.timeout(60):
        stream = stub.stream("count", note(text="x"))
        assert (await anext(stream)).number == 0
        # Every one of these calls gives the flood its chance to go on.
        for _ in range(200):
            await stub.unary("echo", note(text="x"))
        assert sent * size < 12 << 20
        assert [answer.number async for answer in stream] == list(range(1, total))
    assert sent == total


async def test_a_reader_that_reads_does_not_stop_for_one_that_does_not(lab: Any, note: Any) -> None:
    async def flood(request: Any, context: CallContext) -> AsyncIterator[Any]:
        for number in range(300):
            yield type(request)(text="x", number=number, data=b"x" * 20_000)

    async with lab.serve(count=flood) as stub, asyncio.timeout(30):
        idle = stub.stream("count", note(text="x"))
        await anext(idle)
        busy = stub.stream("count", note(text="x"))
        assert [answer.number async for answer in busy] == list(range(300))
        idle.cancel()


async def test_half_an_upload_never_looks_like_a_whole_one(lab: Any, note: Any) -> None:
    outcomes: list[str] = []

    async def upload(requests: AsyncIterator[Any], context: CallContext) -> Any:
        try:
            async for _ in requests:
                received.set()
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise
        else:
            outcomes.append("complete")
            return note(text="stored")
        finally:
            ended.set()

    async def store(requests: AsyncIterator[Any], context: CallContext) -> AsyncIterator[Any]:
        yield await upload(requests, context)

    async def half() -> AsyncIterator[Any]:
        yield note(text="x")
        await asyncio.Event().wait()

    async def consume(stream: ResponseStream) -> None:
        async for _ in stream:
            pass

    async with lab.serve(collect=upload, relay=store) as stub, asyncio.timeout(60):
        for attempt in range(100):
            received, ended = asyncio.Event(), asyncio.Event()
            call = stub.client_stream("collect", half()) if attempt % 2 else consume(stub.bidi("relay", half()))
            task = asyncio.ensure_future(call)
            await received.wait()
            task.cancel()
            await ended.wait()
    assert outcomes == ["cancelled"] * 100


async def test_a_caller_that_stops_sending_is_told_so_and_its_handler_ends(tcp_lab: Any, note: Any) -> None:
    closed = asyncio.Event()

    async def collect(requests: AsyncIterator[Any], context: CallContext) -> Any:
        try:
            *_, last = [request async for request in requests]
            return last
        finally:
            closed.set()

    async def stalls() -> AsyncIterator[Any]:
        yield note(text="x")
        await asyncio.Event().wait()

    async with tcp_lab.serve(collect=collect, upload_idle_seconds=0.1) as stub, asyncio.timeout(10):
        with pytest.raises(DeadlineExceededError, match=r"no part of the request came for 0\.1 seconds"):
            await stub.client_stream("collect", stalls())
        await closed.wait()


async def test_a_conversation_may_rest_for_as_long_as_it_likes(tcp_lab: Any, note: Any) -> None:
    answered = asyncio.Event()

    async def rests() -> AsyncIterator[Any]:
        yield note(text="x")
        await answered.wait()
        await asyncio.sleep(0.3)  # longer than a caller with an upload may say nothing
        yield note(text="y")

    async with tcp_lab.serve(upload_idle_seconds=0.1) as stub, asyncio.timeout(10):
        heard: list[str] = []
        async for answer in stub.bidi("relay", rests()):
            heard.append(answer.text)
            answered.set()
        assert heard == ["x", "y"]
