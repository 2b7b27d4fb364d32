"""What is counted of calls, however they end, over sockets and in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stigmer_grpc import (
    BOUNDS,
    CallContext,
    CallMetrics,
    MethodMetrics,
    NotFoundError,
    Outcome,
    RpcError,
    StatusCode,
    default_interceptors,
)


def of(metrics: CallMetrics, name: str) -> MethodMetrics:
    (found,) = (method for path, method in metrics.methods.items() if path.endswith(f"/{name}"))
    return found


def ends(method: MethodMetrics) -> dict[StatusCode, int]:
    return {code: sum(found.counts) for code, found in method.codes.items()}


async def test_calls_are_counted_by_method_and_code(lab: Any, note: Any) -> None:
    async def echo(request: Any, context: CallContext) -> Any:
        match request.text:
            case "missing":
                raise NotFoundError("no such note")
            case "mapped":
                raise LookupError("nothing there")
            case "broken":
                raise RuntimeError("a fault")
            case _:
                return request

    metrics = CallMetrics()
    chain = default_interceptors({LookupError: lambda error: NotFoundError(str(error))}, metrics=metrics)
    async with lab.serve(echo=echo, interceptors=chain) as stub:
        assert metrics.methods == {}
        for text in ("well", "well", "missing", "mapped", "broken"):
            try:
                await stub.unary("echo", note(text=text))
            except RpcError:
                assert text != "well"
    found = of(metrics, "echo")
    assert ends(found) == {StatusCode.OK: 2, StatusCode.NOT_FOUND: 2, StatusCode.INTERNAL: 1}
    assert (found.in_flight, found.streams) == (0, False)
    assert all(code.seconds > 0 for code in found.codes.values())


async def test_a_call_counts_in_the_range_of_its_duration(lab: Any, note: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.0 + BOUNDS[3], 20.0, 20.0 + BOUNDS[-1] + 1])
    monkeypatch.setattr("stigmer_grpc.interceptors.outcome.perf_counter", lambda: next(times))

    async def echo(request: Any, context: CallContext) -> Any:
        return request

    metrics = CallMetrics()
    async with lab.serve(echo=echo, interceptors=[Outcome(metrics=metrics)]) as stub:
        await stub.unary("echo", note(text="x"))
        await stub.unary("echo", note(text="x"))
    (code,) = of(metrics, "echo").codes.values()
    assert [index for index, count in enumerate(code.counts) if count] == [3, len(BOUNDS)]
    assert code.seconds == pytest.approx(BOUNDS[3] + BOUNDS[-1] + 1)


async def test_a_stream_is_in_flight_until_its_reader_leaves(lab: Any, note: Any) -> None:
    ended = asyncio.Event()

    async def count(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield request
        finally:
            ended.set()

    metrics = CallMetrics()
    async with lab.serve(count=count, interceptors=[Outcome(metrics=metrics)]) as stub:
        stream = stub.stream("count", note(text="x"))
        for _ in range(3):
            await anext(stream)
        found = of(metrics, "count")
        assert (found.in_flight, found.streams, ends(found)) == (1, True, {})
        assert found.sent >= 3
        stream.cancel()
        async with asyncio.timeout(10):
            await ended.wait()
            while found.in_flight:  # noqa: ASYNC110 - the interceptor offers no event to wait for
                await asyncio.sleep(0)
    assert ends(found) == {StatusCode.CANCELLED: 1}
