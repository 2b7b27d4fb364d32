"""The client of the server, over a real connection."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from stigmer_grpc import CallContext, NotFoundError, Server, UnauthenticatedError, UnavailableError, bind, connect
from stigmer_protos import descriptors
from stigmer_runner import RUNTIME, Environments, StigmerServer


class Peer:
    """Gives environments for tokens of its own, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.requests: list[str] = []
        self.issued: list[str] = []
        self.lifetime = 900
        self.unwell = 0
        """How many calls are yet to fail."""
        self.address = ""
        self._server: Server | None = None

    async def token(self, request: Any, context: CallContext) -> Any:
        self.requests.append(context.request_id)
        if self.unwell:
            self.unwell -= 1
            raise UnavailableError("just a moment")
        if request.execution_id == "absent":
            raise NotFoundError("there is no such execution")
        self.issued.append(request.execution_id)
        made: Any = descriptors.message_type("ai.stigmer.runtime.v1.ExecutionToken")()
        made.token = f"{request.execution_id}:{len(self.issued)}"
        made.expires_at.FromSeconds(int(time.time()) + self.lifetime)
        return made

    async def environment(self, request: Any, context: CallContext) -> Any:
        self.asked += 1
        if context.metadata.get("x-stigmer-execution-token") != f"{request.execution_id}:{len(self.issued)}":
            raise UnauthenticatedError("that is not the newest token")
        if request.execution_id == "absent":
            raise NotFoundError("there is no such execution")
        made: Any = descriptors.message_type("ai.stigmer.runtime.v1.ExecutionEnvironment")()
        made.values["REGION"].value = "north"
        made.values["TOKEN"].value = "tok-1234"
        made.values["TOKEN"].is_secret = True
        return made

    async def start(self, address: str = "127.0.0.1:0") -> None:
        pool = descriptors.pool()
        self._server = Server(
            [bind(pool, RUNTIME, {"issueToken": self.token, "getEnvironment": self.environment})], pool=pool
        )
        (self.address,) = await self._server.start(address)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=0)
            self._server = None


@pytest.fixture
async def peer() -> AsyncGenerator[Peer]:
    made = Peer()
    await made.start()
    yield made
    await made.stop()


async def test_an_environment_is_split_into_variables_and_secrets_and_kept_for_a_while(peer: Peer) -> None:
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        environments = Environments(StigmerServer(channel))
        found = await environments.get("wex-1")
        assert (dict(found.variables), dict(found.secrets)) == ({"REGION": "north"}, {"TOKEN": "tok-1234"})
        assert "tok-1234" not in repr(found)
        await environments.get("wex-1")
        assert peer.asked == 1
        environments.forget("wex-1")
        await environments.get("wex-1")
        assert peer.asked == 2


async def test_kept_environments_are_bounded_and_grow_old(peer: Peer) -> None:
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        bounded = Environments(StigmerServer(channel), most=1)
        for name in ("wex-1", "wex-2", "wex-1"):
            await bounded.get(name)
        assert peer.asked == 3
        aging = Environments(StigmerServer(channel), seconds=0)
        await aging.get("wex-1")
        await aging.get("wex-1")
        assert peer.asked == 5


async def test_a_call_waits_for_a_server_that_is_away_for_a_moment(peer: Peer) -> None:
    await peer.stop()
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        asking = asyncio.create_task(Environments(StigmerServer(channel, patience=20)).get("wex-1"))
        await asyncio.sleep(0.3)
        await peer.start(peer.address)
        assert (await asking).variables == {"REGION": "north"}


async def test_a_call_gives_up_on_a_server_that_stays_away(peer: Peer) -> None:
    await peer.stop()
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        with pytest.raises(UnavailableError):
            await StigmerServer(channel, patience=0.2).call(RUNTIME, "getEnvironment", {"executionId": "wex-1"})


async def test_a_refusal_is_not_repeated(peer: Peer) -> None:
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        with pytest.raises(NotFoundError):
            await Environments(StigmerServer(channel)).get("absent")
        assert peer.issued == []


async def test_a_token_is_got_once_and_replaced_before_it_expires(peer: Peer) -> None:
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        environments = Environments(StigmerServer(channel), seconds=0)
        await environments.get("wex-1")
        await environments.get("wex-1")
        assert peer.issued == ["wex-1"]
        peer.lifetime = 30
        environments.forget("wex-1")
        await environments.get("wex-1")
        await environments.get("wex-1")
        assert peer.issued == ["wex-1"] * 3


async def test_a_token_that_is_no_longer_good_is_replaced_once(peer: Peer) -> None:
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        environments = Environments(StigmerServer(channel), seconds=0)
        await environments.get("wex-1")
        peer.issued.append("another server's")
        assert (await environments.get("wex-1")).variables == {"REGION": "north"}
        assert peer.issued == ["wex-1", "another server's", "wex-1"]


async def test_each_execution_has_a_token_of_its_own(peer: Peer) -> None:
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        environments = Environments(StigmerServer(channel))
        await environments.get("wex-1")
        await environments.get("wex-2")
        assert peer.issued == ["wex-1", "wex-2"]


async def test_a_repeated_call_keeps_the_id_that_the_server_logs(peer: Peer) -> None:
    peer.unwell = 2
    async with connect(peer.address, pool=descriptors.pool()) as channel:
        server = StigmerServer(channel)
        await server.call(RUNTIME, "issueToken", {"executionId": "wex-1"})
        await server.call(RUNTIME, "issueToken", {"executionId": "wex-1"})
    first, second, third, other = peer.requests
    assert first == second == third != other
