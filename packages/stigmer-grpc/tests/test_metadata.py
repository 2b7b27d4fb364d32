"""Metadata and request ids, the same over every transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from loguru import logger
from stigmer_grpc import CallContext, NotFoundError


async def test_metadata_of_the_channel_and_of_the_call_arrive_together(lab: Any, note: Any) -> None:
    seen: dict[str, str | bytes] = {}

    async def look(request: Any, context: CallContext) -> Any:
        seen.update(context.metadata)
        return request

    async with lab.serve(echo=look, metadata={"authorization": "Bearer x"}) as stub:
        sent = [("Accept-Language", "en"), ("raw-bin", b"\x00\xff"), ("twice", "1"), ("twice", "2")]
        await stub.unary("echo", note(text="x"), metadata=sent)
    assert {key: seen[key] for key in ("authorization", "accept-language", "raw-bin", "twice")} == {
        "authorization": "Bearer x",
        "accept-language": "en",
        "raw-bin": b"\x00\xff",
        "twice": "1, 2",
    }


@pytest.mark.parametrize(
    "entry", [("bad key", "x"), ("key", "line\nbreak"), ("key", "ünïcode"), ("key", b"x"), ("key-bin", "x"), ("", "x")]
)
async def test_metadata_that_cannot_be_sent_is_refused(lab: Any, note: Any, entry: Any) -> None:
    async with lab.serve() as stub:
        with pytest.raises(ValueError, match="metadata"):
            await stub.unary("echo", note(text="x"), metadata=[entry])


async def test_trailing_metadata_arrives_in_success_and_in_failure(lab: Any, note: Any) -> None:
    async def trail(request: Any, context: CallContext) -> Any:
        context.set_trailing_metadata({"x-first": "overwritten", "x-raw-bin": b"\x01"})
        context.set_trailing_metadata({"X-First": "1"})
        if request.number:
            raise NotFoundError("gone")
        return request

    async def trail_late(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield await trail(request, context)

    received: list[dict[str, str | bytes]] = [{}, {}, {}, {}]
    async with lab.serve(echo=trail, count=trail_late) as stub:
        await stub.unary("echo", note(text="x"), trailers=received[0])
        _ = [answer async for answer in stub.stream("count", note(text="x"), trailers=received[1])]
        with pytest.raises(NotFoundError) as caught:
            await stub.unary("echo", note(text="x", number=1), trailers=received[2])
        with pytest.raises(NotFoundError):
            await anext(stub.stream("count", note(text="x", number=1), trailers=received[3]))
    assert caught.value.metadata == received[2]
    for trailers in received:
        assert (trailers["x-first"], trailers["x-raw-bin"]) == ("1", b"\x01")


async def refuse(request: Any, context: CallContext) -> Any:
    raise NotFoundError("no such thing")


async def test_a_request_id_is_made_and_returned_with_a_failure(lab: Any, note: Any) -> None:
    ids: set[str] = set()
    async with lab.serve(echo=refuse) as stub:
        for _ in range(50):
            with pytest.raises(NotFoundError) as caught:
                await stub.unary("echo", note(text="x"))
            ids.add(caught.value.request_id)
    assert len(ids) == 50
    assert "" not in ids


async def test_a_stream_returns_its_request_id_however_it_ends(lab: Any, note: Any) -> None:
    trailers: dict[str, str | bytes] = {}
    async with lab.serve() as stub:
        _ = [answer async for answer in stub.stream("count", note(text="x"), trailers=trailers)]
    assert trailers["x-request-id"]


async def test_a_given_request_id_is_taken_over_and_stands_in_every_log_line(
    lab: Any, note: Any, logs: list[Any]
) -> None:
    async def talk(request: Any, context: CallContext) -> Any:
        logger.info("inside {}", context.request_id)
        return request

    async def talk_late(request: Any, context: CallContext) -> AsyncIterator[Any]:
        logger.info("inside {}", context.request_id)
        yield request

    async with lab.serve(echo=talk, count=talk_late) as stub:
        given = {"x-request-id": "mine-1"}
        streamed: dict[str, str | bytes] = {}
        await stub.unary("echo", note(text="x"), metadata=given)
        _ = [answer async for answer in stub.stream("count", note(text="x"), metadata=given, trailers=streamed)]
    assert streamed["x-request-id"] == "mine-1"
    lines = [record for record in logs if record["message"] == "inside mine-1" or "/lab.v1.Lab/" in record["message"]]
    assert len(lines) == 4
    assert {record["extra"]["request_id"] for record in lines} == {"mine-1"}


@pytest.mark.parametrize("given", ["", "with space", "x" * 129])
async def test_a_request_id_unfit_for_logs_is_replaced(lab: Any, note: Any, given: str) -> None:
    async with lab.serve(echo=refuse) as stub:
        with pytest.raises(NotFoundError) as caught:
            await stub.unary("echo", note(text="x"), metadata={"x-request-id": given})
    assert caught.value.request_id not in ("", given)
