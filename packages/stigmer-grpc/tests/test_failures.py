"""How calls fail, the same over every transport: typed errors, faults of handlers, invalid requests, sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from stigmer_grpc import (
    CallContext,
    ErrorTable,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    Outcome,
    ResourceExhaustedError,
    RpcError,
    StatusCode,
    error_for,
)

CODES = [code for code in StatusCode if code is not StatusCode.OK]


async def test_every_code_arrives_as_its_own_class_with_message_and_details(lab: Any, note: Any) -> None:
    async def fail(request: Any, context: CallContext) -> Any:
        code = StatusCode(request.number)
        info = error_details_pb2.ErrorInfo(reason=code.name, domain="lab", metadata={"key": "välue"})
        raise error_for(code, f"ended with {code.name}: ünïcode, 100 %", [info])

    async def fail_late(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        await fail(request, context)

    async with lab.serve(echo=fail, count=fail_late) as stub:
        for code in CODES:
            with pytest.raises(RpcError) as unary:
                await stub.unary("echo", note(text="x", number=code))
            stream = stub.stream("count", note(text="x", number=code))
            assert (await anext(stream)).number == code
            with pytest.raises(RpcError) as streamed:
                await anext(stream)
            for error in (unary.value, streamed.value):
                assert type(error) is type(error_for(code, ""))
                assert error.code is code
                assert error.message == f"ended with {code.name}: ünïcode, 100 %"
                assert error.details == (
                    error_details_pb2.ErrorInfo(reason=code.name, domain="lab", metadata={"key": "välue"}),
                )
                assert error.request_id


async def test_a_detail_of_an_unknown_type_stays_packed(lab: Any, note: Any) -> None:
    packed = AnyMessage(type_url="type.googleapis.com/lab.v1.Unheard", value=b"\x08\x01")

    async def fail(request: Any, context: CallContext) -> Any:
        raise NotFoundError("gone", details=[packed])

    async with lab.serve(echo=fail) as stub:
        with pytest.raises(NotFoundError) as caught:
            await stub.unary("echo", note(text="x"))
    assert caught.value.details == (packed,)


class _Panic(BaseException):
    """Like those that Rust extensions raise."""


@pytest.mark.parametrize("fault", [ValueError("secret cause"), SystemExit("secret cause"), _Panic("secret cause")])
async def test_a_crash_is_internal_with_the_request_id_and_the_cause_in_the_log(
    lab: Any, note: Any, logs: list[Any], fault: BaseException
) -> None:
    async def crash(request: Any, context: CallContext) -> Any:
        raise fault

    async def crash_late(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        raise fault

    async with lab.serve(echo=crash, count=crash_late) as stub:
        stream = stub.stream("count", note(text="x"))
        await anext(stream)
        for failing in (stub.unary("echo", note(text="x")), anext(stream)):
            with pytest.raises(InternalError) as caught:
                await failing
            error = caught.value
            assert error.message == f"internal error, request id {error.request_id}"
            assert error.__cause__ is None
            (logged,) = [record for record in logs if error.request_id in record["message"] and record["exception"]]
            assert logged["exception"].value is fault
        assert await stub.client_stream("collect", [note(text="still there")]) == note(text="still there", number=1)


async def test_a_cancellation_from_inside_a_handler_is_its_fault_and_not_the_callers(lab: Any, note: Any) -> None:
    async def spurious(request: Any, context: CallContext) -> Any:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        return await inner

    async with lab.serve(echo=spurious) as stub, asyncio.timeout(10):
        with pytest.raises(InternalError):
            await stub.unary("echo", note(text="x"))


@pytest.mark.parametrize("answer", [None, "text", error_details_pb2.ErrorInfo(reason="other")])
async def test_an_answer_of_the_wrong_type_is_internal(lab: Any, note: Any, answer: Any, logs: list[Any]) -> None:
    async def wrong(request: Any, context: CallContext) -> Any:
        return answer

    async with lab.serve(echo=wrong) as stub:
        with pytest.raises(InternalError):
            await stub.unary("echo", note(text="x"))
    assert any("not lab.v1.Note" in str(record["exception"].value) for record in logs if record["exception"])


async def test_a_failure_while_a_stream_closes_is_logged(lab: Any, note: Any, logs: list[Any]) -> None:
    closed = asyncio.Event()

    async def stubborn(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield request
        finally:
            closed.set()
            raise LookupError("while closing")

    async with lab.serve(count=stubborn) as stub, asyncio.timeout(10):
        async with stub.stream("count", note(text="x", data=b"x" * 10_000)) as stream:
            await anext(stream)
        await closed.wait()
    assert any(isinstance(record["exception"].value, LookupError) for record in logs if record["exception"])


async def test_an_invalid_request_names_every_field_and_rule(lab: Any, note: Any) -> None:
    request = note(text="", number=1001, children=[note(text="ok"), note(text="")])
    request.named['a "key"'].text = "forbidden"
    async with lab.serve() as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await stub.unary("echo", request)
    assert set(caught.value.violations) == {
        FieldViolation("text", "string.min_len", "must be at least 1 characters"),
        FieldViolation("number", "int32.lte", "must be less than or equal to 1000"),
        FieldViolation("children[1].text", "string.min_len", "must be at least 1 characters"),
        FieldViolation('named["a \\"key\\""]', "note.not_forbidden", "a note is never forbidden"),
    }
    (bad_request,) = caught.value.details
    assert isinstance(bad_request, error_details_pb2.BadRequest)
    assert "number: must be less than or equal to 1000" in caught.value.message


async def test_requests_of_every_shape_are_validated_one_by_one(lab: Any, note: Any) -> None:
    async with lab.serve() as stub:
        with pytest.raises(InvalidArgumentError):
            await anext(stub.stream("count", note()))
        with pytest.raises(InvalidArgumentError):
            await stub.client_stream("collect", [note(text="fine"), note()])
        stream = stub.bidi("relay", [note(text="fine"), note()])
        assert (await anext(stream)).text == "fine"
        with pytest.raises(InvalidArgumentError) as caught:
            await anext(stream)
    assert caught.value.violations == (FieldViolation("text", "string.min_len", "must be at least 1 characters"),)


async def test_so_many_violations_that_they_do_not_fit_are_cut_and_still_arrive(tcp_lab: Any, note: Any) -> None:
    request = note(text="x", children=[note() for _ in range(5000)])
    async with tcp_lab.serve() as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await stub.unary("echo", request)
    assert 20 < len(caught.value.violations) < 5000
    assert "and 4995 more" in caught.value.message


async def test_a_very_long_message_is_cut_and_still_arrives(tcp_lab: Any, note: Any) -> None:
    async def fail(request: Any, context: CallContext) -> Any:
        raise NotFoundError("ü" * 100_000)

    async with tcp_lab.serve(echo=fail) as stub:
        with pytest.raises(NotFoundError, match=r"ü…$"):
            await stub.unary("echo", note(text="x"))


async def test_the_errors_of_a_program_are_mapped_by_one_table(lab: Any, note: Any) -> None:
    async def fail(request: Any, context: CallContext) -> Any:
        raise FileNotFoundError("note.txt")

    async def fail_late(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        raise FileNotFoundError("note.txt")

    def not_found(error: FileNotFoundError) -> NotFoundError:
        return NotFoundError(f"no {error}")

    table: ErrorTable = {OSError: InternalError, FileNotFoundError: not_found}
    seen = _Causes()
    async with lab.serve(echo=fail, count=fail_late, interceptors=[seen, Outcome(table)]) as stub:
        with pytest.raises(NotFoundError, match=r"no note\.txt"):
            await stub.unary("echo", note(text="x"))
        with pytest.raises(NotFoundError, match=r"no note\.txt"):
            _ = [answer async for answer in stub.stream("count", note(text="x"))]
    assert [type(cause) for cause in seen.causes] == [FileNotFoundError] * 2


class _Causes:
    """Collects what was behind the errors of calls."""

    def __init__(self) -> None:
        self.causes: list[BaseException | None] = []

    async def intercept_unary(self, call_next: Any, request: Any, context: CallContext) -> Any:
        try:
            return await call_next(request, context)
        except RpcError as error:
            self.causes.append(error.__cause__)
            raise

    async def intercept_stream(self, call_next: Any, request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            async for response in call_next(request, context):
                yield response
        except RpcError as error:
            self.causes.append(error.__cause__)
            raise


LIMIT = 100_000


async def test_a_request_over_the_limit_says_its_size_and_the_limit(lab: Any, note: Any) -> None:
    async with lab.serve(max_message_bytes=LIMIT) as stub:
        large = note(text="x", data=b"x" * LIMIT)
        with pytest.raises(ResourceExhaustedError) as caught:
            await stub.unary("echo", large)
        assert (
            caught.value.message == f"the request of {large.ByteSize()} bytes is larger than the limit of {LIMIT} bytes"
        )
        with pytest.raises(ResourceExhaustedError, match="larger than the limit"):
            await stub.client_stream("collect", [note(text="fine"), large])


async def test_a_response_over_the_limit_says_its_size_and_the_limit(lab: Any, note: Any) -> None:
    async def large(request: Any, context: CallContext) -> Any:
        return note(text="x", data=b"x" * LIMIT)

    async def large_late(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        yield note(text="x", data=b"x" * LIMIT)

    size = note(text="x", data=b"x" * LIMIT).ByteSize()
    async with lab.serve(max_message_bytes=LIMIT, echo=large, count=large_late) as stub:
        with pytest.raises(ResourceExhaustedError) as caught:
            await stub.unary("echo", note(text="x"))
        assert caught.value.message == f"the response of {size} bytes is larger than the limit of {LIMIT} bytes"
        stream = stub.stream("count", note(text="x"))
        await anext(stream)
        with pytest.raises(ResourceExhaustedError, match=f"the response of {size} bytes"):
            await anext(stream)


async def test_a_message_of_exactly_the_limit_passes_both_ways(lab: Any, note: Any) -> None:
    request = note(text="x", data=b"x" * (LIMIT - 7))
    assert request.ByteSize() == LIMIT
    async with lab.serve(max_message_bytes=LIMIT) as stub:
        assert await stub.unary("echo", request) == request


async def test_other_clients_are_told_the_size_and_the_limit_too(tcp_lab: Any, note: Any) -> None:
    server = tcp_lab.server(max_message_bytes=LIMIT)
    (address,) = await server.start()
    channel: Any
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/lab.v1.Lab/echo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"x" * (LIMIT + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{LIMIT + 1} vs. {LIMIT}" in (caught.value.details() or "")
    await server.stop(0)


async def test_other_clients_read_the_details_the_standard_way(tcp_lab: Any) -> None:
    server = tcp_lab.server()
    (address,) = await server.start()
    channel: Any
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/lab.v1.Lab/echo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    reader: Any = rpc_status
    # It wants the methods of a synchronous call, and this error has them.
    status = reader.from_call(caught.value)
    violations = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(violations)
    assert violations.field_violations[0].reason == "string.min_len"
    await server.stop(0)


async def test_errors_of_other_servers_are_read_the_same(pool: Any, note: Any) -> None:
    from stigmer_grpc import connect

    async def handle(request: bytes, call: Any) -> bytes:
        if request == note(text="large").SerializeToString():
            return b"x" * (LIMIT + 1)
        await call.abort(grpc.StatusCode.DATA_LOSS, "no details", (("grpc-status-details-bin", b"\xffgarbage"),))
        return b""

    class Handlers(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            untyped: Any = grpc
            return untyped.unary_unary_rpc_method_handler(handle)

    server: Any = grpc.aio.server(handlers=(Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}", pool=pool, max_message_bytes=LIMIT) as channel:
        stub = channel.service("lab.v1.Lab")
        with pytest.raises(RpcError) as caught:
            await stub.unary("echo", note(text="x"))
        assert (caught.value.code, caught.value.message, caught.value.details) == (
            StatusCode.DATA_LOSS,
            "no details",
            (),
        )
        with pytest.raises(ResourceExhaustedError, match=f"of {LIMIT + 1} bytes is larger than the limit of {LIMIT}"):
            await stub.unary("echo", note(text="large"))
    await server.stop(None)


async def test_a_caller_in_the_middle_of_a_stream_learns_why_it_is_refused(lab: Any, note: Any) -> None:
    async def refuse(requests: Any, context: Any) -> Any:
        await anext(requests)
        raise InvalidArgumentError("the first part is wrong")

    parts = [note(text="x" * 500_000)] * 40
    async with lab.serve(collect=refuse) as stub:
        for _ in range(3):
            with pytest.raises(InvalidArgumentError, match="the first part is wrong"):
                await stub.client_stream("collect", parts)
