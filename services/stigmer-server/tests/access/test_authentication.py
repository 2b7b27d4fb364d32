"""Who is let in: with and without authentication, over sockets and in process."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trustme
from stigmer_grpc import Channel, UnauthenticatedError, UnavailableError, client_credentials, connect
from stigmer_grpc.reflection import own_pool
from stigmer_protos import descriptors

from stigmer_server.errors import SettingsError, StartupError
from stigmer_server.kinds import registry
from stigmer_server.testing import Api, manifest, serve

AGENT = {"instructions": "Answer every question in one sentence."}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncGenerator[Api]:
    """The in-process client of a server that asks for tokens and listens as well."""
    async with serve(tmp_path, auth="token") as api:
        await api.app.serve("127.0.0.1:0")
        yield api


def call_with(token: str | None, app: Any, **options: Any) -> Channel:
    metadata = {} if token is None else {"authorization": f"Bearer {token}"}
    return connect(app.addresses[0], pool=descriptors.pool(), metadata=metadata, **options)


async def test_without_authentication_everybody_is_the_system(tmp_path: Path) -> None:
    async with serve(tmp_path, transport="tcp") as api:
        agent = await api("agent", "create", manifest("agent", "a", AGENT))
        assert agent.status.audit.spec_audit.created_by.id == "system"
    assert not (tmp_path / "token").exists()


async def test_a_call_without_a_token_reaches_nothing(guarded: Api) -> None:
    async with call_with(None, guarded.app) as channel:
        for service in (name for kind in registry().values() for name in kind.described.services):
            for method in descriptors.pool().FindServiceByName(service).methods:
                if method.client_streaming:
                    continue
                with pytest.raises(UnauthenticatedError, match="send a token"):
                    await answer(channel, method)


async def answer(channel: Channel, method: Any) -> Any:
    stub = channel.service(method.containing_service.full_name)
    return await (anext(stub.stream(method.name, {})) if method.server_streaming else stub.unary(method.name, {}))


async def test_a_wrong_token_is_told_as_such(guarded: Api) -> None:
    async with call_with("x" * 43, guarded.app) as channel:
        with pytest.raises(UnauthenticatedError, match="not known here"):
            await Api(channel)("agent", "get", {"value": "agt-1"})


async def test_the_audit_says_whose_token_it_was(guarded: Api, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text().strip()
    async with call_with(token, guarded.app) as channel:
        api = Api(channel)
        agent = await api("agent", "create", manifest("agent", "a", AGENT))
        assert agent.status.audit.spec_audit.created_by.id == "operator"
        assert agent.status.audit.status_audit.updated_by.id == "operator"


async def test_the_servers_own_channel_is_the_system_and_one_for_others_is_not(guarded: Api, tmp_path: Path) -> None:
    agent = await guarded("agent", "create", manifest("agent", "a", AGENT))
    assert agent.status.audit.spec_audit.created_by.id == "system"
    token = (tmp_path / "token").read_text().strip()
    async with guarded.app.channel(trusted=False) as channel:
        api = Api(channel)
        with pytest.raises(UnauthenticatedError):
            await api("agent", "get", {"value": agent.metadata.id})
        metadata = {"authorization": f"Bearer {token}"}
        found = await api("agent", "get", {"value": agent.metadata.id}, metadata=metadata)
        assert found == agent


async def test_tokens_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    found: list[str] = []
    for _ in range(2):
        async with serve(tmp_path, auth="token"):
            for name in ("token", "runner-token"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
                found.append((tmp_path / name).read_text())
    assert found[:2] == found[2:]
    assert len(set(found)) == 2
    assert all(len(token) > 43 for token in found)


@pytest.mark.parametrize(
    ("content", "mode", "what"), [("x" * 43, 0o640, "chmod 600"), ("short", 0o600, "32 characters")]
)
async def test_a_token_file_that_cannot_be_trusted_is_refused(
    tmp_path: Path, content: str, mode: int, what: str
) -> None:
    path = tmp_path / "given"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(StartupError, match=what) as caught:
        async with serve(tmp_path, auth="token", token_file=path):
            pass
    assert content not in str(caught.value)


async def test_a_token_may_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_text("correct-horse-battery-staple-and-more\n")
    path.chmod(0o600)
    async with serve(tmp_path, auth="token", token_file=path) as api:
        await api.app.serve("127.0.0.1:0")
        async with call_with("correct-horse-battery-staple-and-more", api.app) as channel:
            await Api(channel)("agent", "create", manifest("agent", "a", AGENT))


async def test_health_is_open_and_reflection_is_not(guarded: Api, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text().strip()
    async with connect(guarded.app.addresses[0], pool=own_pool()) as channel:
        assert (await channel.service("grpc.health.v1.Health").unary("Check", {})).status == 1
        stub = channel.service("grpc.reflection.v1.ServerReflection")
        with pytest.raises(UnauthenticatedError):
            await anext(stub.bidi("ServerReflectionInfo", [{"listServices": ""}]))
        metadata = {"authorization": f"Bearer {token}"}
        answer = await anext(stub.bidi("ServerReflectionInfo", [{"listServices": ""}], metadata=metadata))
        assert len(answer.list_services_response.service) > 20


async def test_guesses_are_slowed_down_and_the_token_is_not(guarded: Api, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text().strip()
    async with call_with("wrong" * 10, guarded.app) as wrong, call_with(token, guarded.app) as right:
        stub = wrong.service("ai.stigmer.agentic.agent.v1.AgentQueryController")
        guesses = [asyncio.create_task(stub.unary("get", {"value": "agt-1"})) for _ in range(40)]
        async with asyncio.timeout(20):
            for _ in range(20):
                await Api(right).list_all({"kind": "agent"})
        assert not all(guess.done() for guess in guesses)
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({}, "--auth token"),
        ({"insecure": True}, "--auth token"),
        ({"auth": "token"}, "--tls-certificate"),
        ({"auth": "token", "tls_certificate": "missing.pem"}, "--tls-key"),
    ],
)
async def test_nothing_listens_for_other_machines_in_clear_or_for_everybody(
    tmp_path: Path, settings: dict[str, Any], what: str
) -> None:
    async with serve(tmp_path, **settings) as api:
        for address in ("0.0.0.0:0", "[::]:0", ":::0", "192.0.2.1:0"):
            with pytest.raises(SettingsError, match=what):
                await api.app.serve(address)
        assert api.app.addresses == ()


async def test_the_explicit_flag_lets_a_guarded_server_listen_in_clear(tmp_path: Path) -> None:
    async with serve(tmp_path, auth="token", insecure=True) as api:
        (address,) = await api.app.serve("0.0.0.0:0")
        async with connect(address.replace("0.0.0.0", "127.0.0.1"), pool=descriptors.pool()) as channel:
            with pytest.raises(UnauthenticatedError):
                await Api(channel)("agent", "get", {"value": "agt-1"})


async def test_tls_keeps_out_who_does_not_speak_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    given = authority.issue_cert("localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("authority", "certificate", "key")}
    authority.cert_pem.write_to_path(paths["authority"])
    given.cert_chain_pems[0].write_to_path(paths["certificate"])
    given.private_key_pem.write_to_path(paths["key"])
    settings: dict[str, Any] = {"tls_certificate": paths["certificate"], "tls_key": paths["key"], "auth": "token"}
    async with serve(tmp_path, **settings) as api:
        (address,) = await api.app.serve("0.0.0.0:0")
        api_address = address.replace("0.0.0.0", "localhost")
        token = (tmp_path / "token").read_text().strip()
        metadata = {"authorization": f"Bearer {token}"}
        credentials = client_credentials(authority=paths["authority"])
        async with connect(api_address, pool=descriptors.pool(), credentials=credentials, metadata=metadata) as channel:
            await Api(channel)("agent", "create", manifest("agent", "a", AGENT))
        async with connect(api_address, pool=descriptors.pool(), metadata=metadata) as channel:
            with pytest.raises(UnavailableError):
                await Api(channel)("agent", "get", {"value": "agt-1"})


async def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"tls_certificate": tmp_path / "missing.pem", "tls_key": tmp_path / "missing.key"}
    async with serve(tmp_path, **settings) as api:
        with pytest.raises(StartupError, match=r"missing\.pem"):
            await api.app.serve("127.0.0.1:0")
