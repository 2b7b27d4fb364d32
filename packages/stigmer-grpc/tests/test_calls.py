"""The contract of a call, over TCP, a Unix socket and in process: what is asked, what is answered, what is left."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stigmer_grpc import BindingError, CallContext, InvalidArgumentError, Server, UnimplementedError, bind


async def test_a_unary_call_is_answered(lab: Any, note: Any) -> None:
    async with lab.serve() as stub:
        answer = await stub.unary("echo", note(text="hello", number=7))
    assert answer == note(text="hello", number=7)


@pytest.mark.parametrize("form", ["message", "mapping", "bytes"])
async def test_a_request_is_a_message_a_mapping_or_bytes(lab: Any, note: Any, form: str) -> None:
    message = note(text="hello", children=[note(text="inner")])
    request = {
        "message": message,
        "mapping": {"text": "hello", "children": [{"text": "inner"}]},
        "bytes": message.SerializeToString(),
    }[form]
    async with lab.serve() as stub:
        assert await stub.unary("echo", request) == message


async def test_a_mapping_that_does_not_fit_is_refused_before_the_call(lab: Any) -> None:
    async with lab.serve() as stub:
        with pytest.raises(InvalidArgumentError, match="nonsense"):
            await stub.unary("echo", {"nonsense": 1})


async def test_bytes_that_are_no_message_are_an_invalid_argument(lab: Any) -> None:
    async with lab.serve() as stub:
        with pytest.raises(InvalidArgumentError, match=r"not a valid lab\.v1\.Note"):
            await stub.unary("echo", b"\xff\xff\xff")


async def test_a_handler_may_answer_with_serialized_bytes(lab: Any, note: Any) -> None:
    async def stored(request: Any, context: CallContext) -> bytes:
        return note(text="stored").SerializeToString()

    async def stream_stored(request: Any, context: CallContext) -> AsyncIterator[bytes]:
        yield note(text="stored").SerializeToString()

    async with lab.serve(echo=stored, count=stream_stored) as stub:
        assert await stub.unary("echo", note(text="x")) == note(text="stored")
        assert [answer.text async for answer in stub.stream("count", note(text="x"))] == ["stored"]


async def test_neither_side_can_change_a_message_of_the_other(lab: Any, note: Any) -> None:
    kept: list[Any] = []

    async def meddle(request: Any, context: CallContext) -> Any:
        request.text = "changed"
        kept.append(request)
        return request

    async with lab.serve(echo=meddle) as stub:
        request = note(text="mine")
        answer = await stub.unary("echo", request)
        answer.text = "changed again"
    assert request.text == "mine"
    assert kept[0].text == "changed"


async def test_a_server_stream_arrives_in_order_and_ends(lab: Any, note: Any) -> None:
    async with lab.serve() as stub:
        stream = stub.stream("count", note(text="x", number=100))
        assert [answer.number async for answer in stream] == list(range(100))
        assert [answer async for answer in stream] == []


async def test_a_client_stream_is_collected(lab: Any, note: Any) -> None:
    async def words() -> AsyncIterator[Any]:
        for word in ("one", "two", "three"):
            yield note(text=word)

    async with lab.serve() as stub:
        assert await stub.client_stream("collect", words()) == note(text="one two three", number=3)
        assert await stub.client_stream("collect", [{"text": "one"}]) == note(text="one", number=1)


async def test_a_bidi_call_talks_back_and_forth(lab: Any, note: Any) -> None:
    said: asyncio.Queue[Any] = asyncio.Queue()

    async def talk() -> AsyncIterator[Any]:
        while (message := await said.get()) is not None:
            yield message

    async with lab.serve() as stub, asyncio.timeout(10):
        stream = stub.bidi("relay", talk())
        for word in ("one", "two", "three"):
            said.put_nowait(note(text=word))
            assert (await anext(stream)).text == word
        said.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_what_the_requests_raise_is_raised_to_the_caller_and_cancels_the_handler(lab: Any, note: Any) -> None:
    received = asyncio.Event()
    cancelled = asyncio.Event()

    async def broken() -> AsyncIterator[Any]:
        yield note(text="one")
        await received.wait()
        raise LookupError("no more words")

    async def collect(requests: AsyncIterator[Any], context: CallContext) -> Any:
        try:
            async for _ in requests:
                received.set()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with lab.serve(collect=collect) as stub, asyncio.timeout(10):
        with pytest.raises(LookupError, match="no more words"):
            await stub.client_stream("collect", broken())
        await cancelled.wait()
        with pytest.raises(LookupError, match="no more words"):
            _ = [answer async for answer in stub.bidi("relay", broken())]


async def test_methods_left_out_are_unimplemented_whatever_is_asked(lab: Any, note: Any) -> None:
    async with lab.serve() as stub:
        with pytest.raises(UnimplementedError) as caught:
            await stub.unary("missing", note())
        assert caught.value.message == "Lab.missing is not implemented by this server"
        with pytest.raises(UnimplementedError, match=r"Lab\.missingStream is not implemented"):
            await anext(stub.stream("missingStream", note()))


async def test_a_service_can_say_why_it_has_no_methods(pool: Any) -> None:
    service = bind(pool, "lab.v1.Lab", {}, unimplemented="it is elsewhere")
    async with Server([service], pool=pool).channel() as channel:
        with pytest.raises(UnimplementedError, match=r"^Lab\.echo is not implemented by this server: it is elsewhere$"):
            await channel.service(service.name).unary("echo", {})


async def test_a_service_nobody_bound_is_unimplemented(lab: Any, pool: Any) -> None:
    from stigmer_grpc import Server

    async with lab.connected(Server([], pool=pool)) as channel:
        with pytest.raises(UnimplementedError, match=r"no method /lab\.v1\.Lab/echo"):
            await channel.service("lab.v1.Lab").unary("echo", {"text": "x"})


async def test_a_stub_names_what_it_does_not_have(lab: Any, note: Any) -> None:
    async with lab.connected(lab.server()) as channel:
        with pytest.raises(BindingError, match="no service 'lab"):
            channel.service("lab.v1.Nothing")
        stub = channel.service("lab.v1.Lab")
        assert channel.service("lab.v1.Lab") is stub
        with pytest.raises(BindingError, match="no method 'nothing'"):
            await stub.unary("nothing", note(text="x"))
        with pytest.raises(BindingError, match="called with stream, not with unary"):
            await stub.unary("count", note(text="x"))
        with pytest.raises(BindingError, match="called with unary, not with stream"):
            stub.stream("echo", note(text="x"))
        with pytest.raises(BindingError, match="called with bidi, not with client_stream"):
            await stub.client_stream("relay", [])
        with pytest.raises(BindingError, match="called with client_stream, not with bidi"):
            stub.bidi("collect", [])
        with pytest.raises(TypeError, match="not int"):
            await stub.unary("echo", 7)


async def test_a_handler_does_not_see_its_callers_context_variables(lab: Any, note: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def look(request: Any, context: CallContext) -> Any:
        seen = variable.get()
        variable.set("by the handler")
        return type(request)(text=seen)

    async with lab.serve(echo=look) as stub:
        variable.set("by the caller")
        assert (await stub.unary("echo", note(text="x"))).text == "unset"
        assert variable.get() == "by the caller"


async def test_many_calls_at_once_each_get_their_own_answer(lab: Any, note: Any) -> None:
    async with lab.serve() as stub:
        answers = await asyncio.gather(*(stub.unary("echo", note(text="x", number=n)) for n in range(200)))
    assert [answer.number for answer in answers] == list(range(200))
