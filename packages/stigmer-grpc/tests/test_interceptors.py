"""Interceptors: order, what they may do, and what the shipped ones log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stigmer_grpc import (
    CallContext,
    CallNext,
    CallNextStream,
    InternalError,
    Logging,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    Server,
    default_interceptors,
)


class Trace:
    """Notes when it is passed, on the way in and on the way out."""

    def __init__(self, name: str, passed: list[str]) -> None:
        self.name = name
        self.passed = passed

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Any:
        self._note("in", context)
        answer = await call_next(request, context)
        self._note("out", context)
        return answer

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Any]:
        self._note("in", context)
        async for answer in call_next(request, context):
            yield answer
        self._note("out", context)

    def _note(self, way: str, context: CallContext) -> None:
        self.passed.append(f"{self.name} {way}")
        context.values["last"] = self.name


async def test_the_first_interceptor_is_the_outermost(lab: Any, note: Any) -> None:
    passed: list[str] = []

    async def echo(request: Any, context: CallContext) -> Any:
        passed.append(f"handler after {context.values['last']}")
        return request

    async def count(request: Any, context: CallContext) -> AsyncIterator[Any]:
        passed.append(f"handler after {context.values['last']}")
        yield request

    expected = ["a in", "b in", "handler after b", "b out", "a out"]
    async with lab.serve(echo=echo, count=count, interceptors=[Trace("a", passed), Trace("b", passed)]) as stub:
        await stub.unary("echo", note(text="x"))
        assert passed == expected
        passed.clear()
        _ = [answer async for answer in stub.stream("count", note(text="x"))]
        assert passed == expected


async def test_an_interceptor_sees_the_method_the_messages_and_may_answer_itself(lab: Any, note: Any) -> None:
    seen: list[Any] = []

    class Gate:
        async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Any:
            seen.append((context.method, context.service, context.method_descriptor.name, request, context.peer != ""))
            if request.text == "stop":
                raise PermissionDeniedError("not you")
            if request.text == "short":
                return note(text="answered by the gate")
            return await call_next(note(text="replaced"), context)

    async with lab.serve(interceptors=[Gate()]) as stub:
        assert (await stub.unary("echo", note(text="go"))).text == "replaced"
        assert (await stub.unary("echo", note(text="short"))).text == "answered by the gate"
        with pytest.raises(PermissionDeniedError, match="not you"):
            await stub.unary("echo", note(text="stop"))
        # A unary interceptor has no say in streams.
        assert [answer.text async for answer in stub.stream("count", note(text="stop", number=1))] == ["stop"]
    assert seen[0] == ("/lab.v1.Lab/echo", "lab.v1.Lab", "echo", note(text="go"), True)


async def test_an_interceptor_may_wrap_the_requests_of_a_client_stream(lab: Any, note: Any) -> None:
    class Shout:
        async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Any:
            assert context.method_descriptor.client_streaming

            async def louder() -> AsyncIterator[Any]:
                async for message in request:
                    yield note(text=message.text.upper())

            return await call_next(louder(), context)

    async with lab.serve(interceptors=[Shout()]) as stub:
        assert (await stub.client_stream("collect", [{"text": "one"}, {"text": "two"}])).text == "ONE TWO"


async def test_a_handler_is_closed_even_if_an_interceptor_forgets_it(lab: Any, note: Any) -> None:
    closed = asyncio.Event()

    async def endless(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield request
        finally:
            closed.set()

    class Forgetful:
        def intercept_stream(self, call_next: CallNextStream, request: Any, context: CallContext) -> AsyncIterator[Any]:
            responses = call_next(request, context)

            class Wrapped:
                def __aiter__(self) -> AsyncIterator[Any]:
                    return self

                async def __anext__(self) -> Any:
                    return await anext(responses)

            kept.append(responses)
            return Wrapped()

    kept: list[Any] = []
    async with lab.serve(count=endless, interceptors=[Forgetful()]) as stub, asyncio.timeout(10):
        stream = stub.stream("count", note(text="x", data=b"x" * 10_000))
        await anext(stream)
        stream.cancel()
        await closed.wait()


async def test_what_is_no_interceptor_is_refused(pool: Any) -> None:
    bad: Any = object()
    with pytest.raises(TypeError, match="neither intercept_unary nor intercept_stream"):
        Server([], pool=pool, interceptors=[bad])


async def test_success_is_logged_at_debug_and_failure_as_a_warning(lab: Any, note: Any, logs: list[Any]) -> None:
    async def fail(request: Any, context: CallContext) -> Any:
        raise NotFoundError("gone\nand more")

    async with lab.serve(echo=fail) as stub:
        with pytest.raises(NotFoundError):
            await stub.unary("echo", note(text="x"))
        assert len([answer async for answer in stub.stream("count", note(text="x", number=3))]) == 3
    lines = {record["level"].name: record["message"] for record in logs if "/lab.v1.Lab/" in record["message"]}
    assert lines["WARNING"].startswith("/lab.v1.Lab/echo NOT_FOUND in ")
    assert lines["WARNING"].endswith(r"ms: 'gone\nand more'")
    assert lines["DEBUG"].startswith("/lab.v1.Lab/count OK in ")
    assert lines["DEBUG"].endswith("after 3 messages")


async def test_a_failure_that_quotes_a_large_request_is_logged_in_short(lab: Any, note: Any, logs: list[Any]) -> None:
    async def fail(request: Any, context: CallContext) -> Any:
        raise NotFoundError(f"not found: {request.text}")

    async with lab.serve(echo=fail) as stub:
        with pytest.raises(NotFoundError):
            await stub.unary("echo", note(text="x" * 500_000))
    (line,) = [record["message"] for record in logs if record["level"].name == "WARNING"]
    assert "'not found: xxx" in line
    assert len(line) < 1100


async def test_a_stream_given_up_by_its_caller_is_no_warning(lab: Any, note: Any, logs: list[Any]) -> None:
    ended = asyncio.Event()

    async def endless(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().call_soon(ended.set)

    async with lab.serve(count=endless) as stub, asyncio.timeout(10):
        stream = stub.stream("count", note(text="x"))
        await anext(stream)
        stream.cancel()
        await ended.wait()
    lines = [record for record in logs if "/lab.v1.Lab/count" in record["message"]]
    assert [record["level"].name for record in lines] == ["DEBUG"]
    assert " CANCELLED in " in lines[0]["message"]


async def test_method_code_and_milliseconds_are_fields_of_the_line(lab: Any, note: Any, logs: list[Any]) -> None:
    async def echo(request: Any, context: CallContext) -> Any:
        if request.text == "gone":
            raise NotFoundError("gone {method}")
        return request

    chain = default_interceptors(log=Logging(describe=lambda context: {"peer": context.peer}))
    async with lab.serve(echo=echo, interceptors=chain) as stub:
        await stub.unary("echo", note(text="x"), metadata={"x-request-id": "one"})
        with pytest.raises(NotFoundError, match=r"gone \{method\}"):
            await stub.unary("echo", note(text="gone"), metadata={"x-request-id": "two"})
    lines = {record["extra"]["request_id"]: record for record in logs if "code" in record["extra"]}
    assert {name: record["extra"]["code"] for name, record in lines.items()} == {"one": "OK", "two": "NOT_FOUND"}
    for record in lines.values():
        assert record["extra"]["method"] == "/lab.v1.Lab/echo"
        assert record["extra"]["ms"] > 0
        assert record["extra"]["peer"]


async def test_a_slow_call_is_a_warning(lab: Any, note: Any, logs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.4, 2.0, 2.6])
    monkeypatch.setattr("stigmer_grpc.interceptors.outcome.perf_counter", lambda: next(times))

    async def echo(request: Any, context: CallContext) -> Any:
        return request

    async with lab.serve(echo=echo, interceptors=[Outcome(log=Logging(slow=0.5))]) as stub:
        await stub.unary("echo", note(text="x"))
        await stub.unary("echo", note(text="x"))
    lines = [(record["level"].name, record["message"]) for record in logs if "code" in record["extra"]]
    assert lines == [
        ("DEBUG", "/lab.v1.Lab/echo OK in 400.0 ms"),
        ("WARNING", "/lab.v1.Lab/echo OK in 600.0 ms, which is slow"),
    ]


async def test_a_fault_is_logged_with_the_id_of_its_request(lab: Any, note: Any, logs: list[Any]) -> None:
    async def echo(request: Any, context: CallContext) -> Any:
        raise RuntimeError("a fault")

    async with lab.serve(echo=echo) as stub:
        with pytest.raises(InternalError):
            await stub.unary("echo", note(text="x"), metadata={"x-request-id": "mine"})
    faults = [record for record in logs if record["level"].name == "ERROR"]
    assert [record["extra"]["request_id"] for record in faults] == ["mine"]
    assert faults[0]["exception"].type is RuntimeError


def test_the_default_chain_is_outcome_and_validation() -> None:
    names = [type(interceptor).__name__ for interceptor in default_interceptors()]
    assert names == ["Outcome", "Validation"]
