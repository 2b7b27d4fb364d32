"""Words between the states of a run, from a server that passes them on and from one that does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from stigmer_cli.resources import Resources
from stigmer_cli.runs.live import live_states
from stigmer_grpc import Server, bind
from stigmer_protos import descriptors

PACKAGE = "ai.stigmer.agentic.agentexecution.v1"
KIND = descriptors.kind_by_name("AgentExecution")


def state(*texts: str, phase: str = "EXECUTION_IN_PROGRESS") -> Any:
    made: Any = descriptors.message_type(f"{PACKAGE}.AgentExecution")()
    made.status.phase = phase
    for text in texts:
        made.status.messages.add(type="MESSAGE_AI", content=text)
    return made


def delta(position: int, offset: int, text: str) -> Any:
    made: Any = descriptors.message_type(f"{PACKAGE}.AgentExecutionDelta")
    return made(key="k", position=position, offset=offset, text=text)


async def seen(*news: Any) -> list[list[str]]:
    """What each state that a client gets has for texts; news in a list are of a server without words."""
    live = descriptors.message_type(f"{PACKAGE}.AgentExecutionLive")

    async def follow(request: Any, context: Any) -> AsyncIterator[Any]:
        for each in news:
            yield live(delta=each) if each.DESCRIPTOR.name == "AgentExecutionDelta" else live(execution=each)

    async def subscribe(request: Any, context: Any) -> AsyncIterator[Any]:
        for each in news[0]:
            yield each

    older = bool(news) and isinstance(news[0], list)
    services = [
        bind(descriptors.pool(), f"{PACKAGE}.AgentExecutionLiveController", {} if older else {"follow": follow}),
        bind(descriptors.pool(), f"{PACKAGE}.AgentExecutionQueryController", {"subscribe": subscribe}),
    ]
    resources = Resources(Server(services, pool=descriptors.pool()).channel(timeout=10))
    return [
        [message.content for message in each.status.messages] async for each in live_states(resources, KIND, "aex-1")
    ]


async def test_words_are_put_where_they_belong_each_once() -> None:
    told = await seen(
        state("Hi."),
        delta(1, 0, "Good "),
        delta(1, 5, "day"),
        state("Hi.", "Good"),
        delta(1, 8, "!"),
        state("Hi.", "Bye."),
    )
    assert told == [
        ["Hi."],
        ["Hi.", "Good "],
        ["Hi.", "Good day"],
        ["Hi.", "Good day"],
        ["Hi.", "Good day!"],
        ["Hi.", "Bye."],
    ]


async def test_words_whose_beginning_is_not_known_wait_for_the_state() -> None:
    told = await seen(state("Good"), delta(0, 7, "Ada"), delta(3, 0, "Later"), delta(-1, 0, "Hm."), state("Good day"))
    assert told == [["Good"], ["Good day"]]


async def test_words_that_are_taken_back_go() -> None:
    assert await seen(state(), delta(0, 0, "Good day"), delta(0, 5, "night")) == [[], ["Good day"], ["Good night"]]


async def test_an_older_server_tells_states_alone() -> None:
    assert await seen([state("Good"), state("Good day")]) == [["Good"], ["Good day"]]
