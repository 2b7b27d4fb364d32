"""Who is let in, what the others are told, and how those who guess are slowed down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.rpc.error_details_pb2 import RetryInfo
from stigmer_grpc import (
    Authentication,
    Backoff,
    CallContext,
    ResourceExhaustedError,
    Server,
    UnauthenticatedError,
    UnavailableError,
    connect,
    default_interceptors,
)
from stigmer_grpc.reflection import own_pool
from stigmer_grpc.testing import channel_to

WHO = "who"


class Guests:
    """Knows one token from the start and another when it looks; tokens that end in `-old` are not good any more."""

    def __init__(self) -> None:
        self.looked_up: list[str] = []
        self.streams: dict[str, set[CallContext]] = {}

    def recall(self, token: str) -> str | None:
        return "ann" if token == "known" else None

    async def look_up(self, token: str) -> str | None:
        self.looked_up.append(token)
        if token.endswith("-old"):
            raise UnauthenticatedError("it expired")
        return "bob" if token == "looked-up" else None

    def attend(self, identity: object, context: CallContext) -> Callable[[], None]:
        streams = self.streams.setdefault(str(identity), set())
        streams.add(context)
        return lambda: streams.discard(context)


async def tell(request: Any, context: CallContext) -> Any:
    return type(request)(text=str(context.values[WHO]))


async def tell_twice(request: Any, context: CallContext) -> AsyncIterator[Any]:
    for _ in range(2):
        yield type(request)(text=str(context.values[WHO]))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)


def guarded(guests: Guests, backoff: Backoff | None = None) -> list[Any]:
    return [*default_interceptors(), Authentication(guests, key=WHO, backoff=backoff)]


@pytest.mark.parametrize(("token", "name"), [("known", "ann"), ("looked-up", "bob")])
async def test_a_good_token_says_who_calls(lab: Any, note: Any, token: str, name: str) -> None:
    async with lab.serve(echo=tell, count=tell_twice, interceptors=guarded(Guests())) as stub:
        assert (await stub.unary("echo", note(text="x"), metadata=bearer(token))).text == name
        told = [answer.text async for answer in stub.stream("count", note(text="x"), metadata=bearer(token))]
        assert told == [name, name]


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ({}, "send a token"),
        ({"authorization": "Basic YTpi"}, "Bearer TOKEN"),
        ({"authorization": "Bearer "}, "Bearer TOKEN"),
        ({"authorization": "known"}, "Bearer TOKEN"),
        (bearer("wrong"), "not known here"),
        (bearer("known, Bearer known"), "not known here"),
        (bearer("long-old"), "expired"),
    ],
)
async def test_everybody_else_is_told_what_is_missing(lab: Any, note: Any, metadata: Any, what: str) -> None:
    reached: list[str] = []

    async def echo(request: Any, context: CallContext) -> Any:
        reached.append("echo")
        return request

    async with lab.serve(echo=echo, interceptors=guarded(Guests())) as stub:
        with pytest.raises(UnauthenticatedError, match=what):
            await stub.unary("echo", note(text="x"), metadata=metadata)
        with pytest.raises(UnauthenticatedError, match=what):
            await anext(stub.stream("count", note(text="x"), metadata=metadata))
    assert reached == []


async def test_a_channel_of_the_process_itself_may_bring_its_identity(tcp_lab: Any, note: Any) -> None:
    server = tcp_lab.server(echo=tell, interceptors=guarded(Guests()))
    async with server.channel(values={WHO: "the process"}) as trusted, server.channel() as untrusted:
        assert (await trusted.service("lab.v1.Lab").unary("echo", note(text="x"))).text == "the process"
        with pytest.raises(UnauthenticatedError):
            await untrusted.service("lab.v1.Lab").unary("echo", note(text="x"))
    await server.stop(0)


async def test_values_of_a_channel_do_not_leak_from_call_to_call(tcp_lab: Any, note: Any) -> None:
    async def remember(request: Any, context: CallContext) -> Any:
        found = context.values.get("seen", "")
        context.values["seen"] = "yes"
        return type(request)(text=f"{found}{context.values[WHO]}")

    server = tcp_lab.server(echo=remember)
    async with server.channel(values={WHO: "me"}) as channel:
        for _ in range(2):
            assert (await channel.service("lab.v1.Lab").unary("echo", note(text="x"))).text == "me"
    await server.stop(0)


async def test_who_guesses_waits_ever_longer_and_good_tokens_do_not(lab: Any, note: Any) -> None:
    backoff = Backoff(free=0, first=30.0, longest=60.0)
    async with lab.serve(echo=tell, interceptors=guarded(Guests(), backoff)) as stub:
        guess = asyncio.create_task(stub.unary("echo", note(text="x"), metadata=bearer("wrong")))
        async with asyncio.timeout(10):
            await until(lambda: len(backoff) > 0)
            assert (await stub.unary("echo", note(text="x"), metadata=bearer("known"))).text == "ann"
            assert (await stub.unary("echo", note(text="x"), metadata=bearer("looked-up"))).text == "bob"
        assert not guess.done()
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)


async def test_a_host_with_too_many_guesses_is_turned_away_unheard(lab: Any, note: Any) -> None:
    guests = Guests()
    backoff = Backoff(free=0, first=30.0, most_waiting=3)
    async with lab.serve(echo=tell, interceptors=guarded(guests, backoff)) as stub:
        guesses = [
            asyncio.create_task(stub.unary("echo", note(text="x"), metadata=bearer(f"wrong {number}")))
            for number in range(20)
        ]
        async with asyncio.timeout(10):
            await until(lambda: sum(guess.done() for guess in guesses) == 17)
            before = len(guests.looked_up)
            with pytest.raises(ResourceExhaustedError) as caught:
                await stub.unary("echo", note(text="x"), metadata=bearer("wrong again"))
            assert len(guests.looked_up) == before
            assert any(isinstance(detail, RetryInfo) for detail in caught.value.details)
            # Whoever is known already is not held up by the others of the host.
            assert (await stub.unary("echo", note(text="x"), metadata=bearer("known"))).text == "ann"
        for guess in guesses:
            guess.cancel()
        ended = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(end, ResourceExhaustedError) for end in ended) == 17


async def test_calls_passed_on_by_the_process_count_for_where_they_come_from(tcp_lab: Any, note: Any) -> None:
    backoff = Backoff(free=0, first=0.001)
    server = tcp_lab.server(echo=tell, interceptors=guarded(Guests(), backoff))
    (address,) = await server.start("127.0.0.1:0")
    async with server.channel() as channel, connect(address, pool=server.pool) as remote:
        for peer in ("ipv4:10.0.0.1:5", "ipv4:10.0.0.2:5"):
            metadata = {**bearer("wrong"), "x-stigmer-peer": peer}
            with pytest.raises(UnauthenticatedError):
                await channel.service("lab.v1.Lab").unary("echo", note(text="x"), metadata=metadata)
        assert len(backoff) == 2
        # A caller over a socket cannot say that it is somewhere else.
        for peer in ("ipv4:10.0.0.3:5", "ipv4:10.0.0.4:5"):
            metadata = {**bearer("wrong"), "x-stigmer-peer": peer}
            with pytest.raises(UnauthenticatedError):
                await remote.service("lab.v1.Lab").unary("echo", note(text="x"), metadata=metadata)
        assert len(backoff) == 3
    await server.stop(0)


async def test_whoever_waits_for_an_answer_gets_it_when_the_server_stops(tcp_lab: Any, note: Any) -> None:
    backoff = Backoff(free=0, first=30.0)
    server = tcp_lab.server(echo=tell, interceptors=guarded(Guests(), backoff))
    async with server.channel() as channel:
        guess = asyncio.create_task(
            channel.service("lab.v1.Lab").unary("echo", note(text="x"), metadata=bearer("wrong"))
        )
        async with asyncio.timeout(10):
            await until(lambda: len(backoff) > 0)
            await server.stop(5)
        with pytest.raises((UnauthenticatedError, UnavailableError)):
            await guess


@pytest.mark.parametrize("reads", [True, False])
async def test_an_open_stream_ends_when_its_token_is_no_longer_good(lab: Any, note: Any, reads: bool) -> None:
    guests = Guests()
    ended = asyncio.Event()

    async def endless(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield type(request)(text="x" * 100_000)
                if reads:
                    await asyncio.Event().wait()
        finally:
            ended.set()

    async with lab.serve(count=endless, interceptors=guarded(guests)) as stub:
        stream = stub.stream("count", note(text="x"), metadata=bearer("known"))
        async with asyncio.timeout(10):
            await anext(stream)
            (context,) = guests.streams["ann"]
            context.abort(UnauthenticatedError("the token was revoked"))
            with pytest.raises(UnauthenticatedError, match="revoked"):
                async for _ in stream:
                    pass
            await ended.wait()
    assert guests.streams["ann"] == set()


async def test_aborting_a_call_that_is_over_touches_nothing_else(lab: Any, note: Any) -> None:
    contexts: list[CallContext] = []

    async def echo(request: Any, context: CallContext) -> Any:
        contexts.append(context)
        return request

    async with lab.serve(echo=echo) as stub:
        for _ in range(3):
            assert (await stub.unary("echo", note(text="x"))).text == "x"
            for context in contexts:
                context.abort(UnauthenticatedError("too late"))


async def test_reflection_may_be_guarded_and_health_stays_open(tcp_lab: Any) -> None:
    guard = Authentication(Guests(), key=WHO)
    server = Server([tcp_lab.service()], pool=tcp_lab.pool, reflection_interceptors=[guard])
    server.pool = own_pool()
    async with channel_to(server, "tcp") as channel:
        assert (await channel.service("grpc.health.v1.Health").unary("Check", {})).status == 1
        reflection = channel.service("grpc.reflection.v1.ServerReflection")
        with pytest.raises(UnauthenticatedError):
            await anext(reflection.bidi("ServerReflectionInfo", [{"listServices": ""}]))
        answers = reflection.bidi("ServerReflectionInfo", [{"listServices": ""}], metadata=bearer("known"))
        assert (await anext(answers)).list_services_response.service
