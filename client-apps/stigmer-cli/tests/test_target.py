"""How a server elsewhere is named, and what goes there."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from stigmer_cli.connection import connect, dial
from stigmer_cli.environment import Environment, Home
from stigmer_cli.errors import InvalidInputError, UnavailableError
from stigmer_cli.options import Globals
from stigmer_cli.stack.tokens import make_tokens
from stigmer_cli.target import read_token, resolve
from stigmer_cli.testing import Cli
from stigmer_grpc.errors import UnauthenticatedError
from stigmer_server.app import App
from stigmer_server.settings import Settings

TOKEN = "sto_0123456789012345678901234567890123456789"


def environment(home: Home, **variables: str) -> Environment:
    return replace(Environment.read(variables), home=home)


@pytest.mark.parametrize(
    ("given", "address", "tls"),
    [
        ("localhost:7234", "localhost:7234", False),
        ("[::1]:7234", "[::1]:7234", False),
        ("https://stigmer.example:8443", "stigmer.example:8443", True),
        ("https://stigmer.example/", "stigmer.example:443", True),
        ("GRPCS://stigmer.example", "stigmer.example:443", True),
        ("http://stigmer.example:80", "stigmer.example:80", False),
    ],
)
def test_an_address_says_where_and_how(home: Home, given: str, address: str, tls: bool) -> None:
    found = resolve(given, environment(home))
    assert (found.address, found.tls) == (address, tls)


@pytest.mark.parametrize("given", ["", "localhost", "ftp://localhost:1", "http://localhost", "a:b:c", "a b:1", "x:1/p"])
def test_what_is_no_address_is_told_so(home: Home, given: str) -> None:
    with pytest.raises(InvalidInputError):
        resolve(given, environment(home))


def test_an_option_or_an_authority_asks_for_tls_too(home: Home) -> None:
    assert resolve("stigmer.example:1", environment(home, STIGMER_TLS="true")).tls
    assert resolve("stigmer.example:1", environment(home, STIGMER_CA="ca.pem")).tls


def test_a_token_goes_to_another_machine_sealed_or_on_purpose(home: Home) -> None:
    given = environment(home, STIGMER_TOKEN=TOKEN)
    for address in ("localhost:1", "127.0.0.1:1", "[::1]:1", "https://stigmer.example", "http://stigmer.example:1"):
        assert resolve(address, given).metadata == {"authorization": f"Bearer {TOKEN}"}
    with pytest.raises(InvalidInputError, match="in clear") as caught:
        resolve("stigmer.example:1", given)
    assert "https://stigmer.example:1" in caught.value.hint
    assert TOKEN not in str(caught.value)
    assert resolve("stigmer.example:1", environment(home)).metadata == {}


def test_a_token_is_given_or_in_a_file(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    assert read_token(environment(home, STIGMER_TOKEN_FILE=str(file))) == TOKEN
    assert read_token(environment(home, STIGMER_TOKEN="other", STIGMER_TOKEN_FILE=str(file))) == "other"
    both = environment(home, STIGMER_TOKEN="other")
    assert read_token(Globals(token_file=str(file)).over(both)) == TOKEN
    assert read_token(Globals(token="third").over(both)) == "third"
    for content in (b"two words", b"\xff\xfe", b"line\nline"):
        file.write_bytes(content)
        with pytest.raises(InvalidInputError):
            read_token(environment(home, STIGMER_TOKEN_FILE=str(file)))
    with pytest.raises(InvalidInputError, match="absent"):
        read_token(environment(home, STIGMER_TOKEN_FILE=str(tmp_path / "absent")))


def test_the_tokens_of_a_stack_are_made_once_and_for_their_owner(home: Home) -> None:
    make_tokens(home)
    before = home.token.read_text(), home.runner_token.read_text()
    make_tokens(home)
    assert (home.token.read_text(), home.runner_token.read_text()) == before
    assert before[0] != before[1]
    for path in (home.token, home.runner_token):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(path.name for path in home.root.glob("*token*")) == ["runner-token", "token"]


@asynccontextmanager
async def server(folder: Path, **settings: Any) -> AsyncGenerator[str]:
    places = {"db_path": folder / "server" / "stigmer.db", "storage_path": folder / "server" / "storage"}
    async with App(Settings.model_validate({**places, **settings}), engine=False) as app:
        yield (await app.serve("localhost:0"))[0]


async def count(environment: Environment, address: str) -> int:
    async with connect(environment, server=address) as channel:
        stub = channel.service("ai.stigmer.resources.v1.ResourceController")
        return (await stub.unary("list", {"kind": "agent"})).total_count


async def test_a_server_with_tls_and_tokens_is_reached(home: Home, tmp_path: Path) -> None:
    authority = trustme.CA()
    given = authority.issue_cert("localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("authority", "certificate", "key")}
    authority.cert_pem.write_to_path(paths["authority"])
    given.cert_chain_pems[0].write_to_path(paths["certificate"])
    given.private_key_pem.write_to_path(paths["key"])
    settings = {"auth": "token", "tls_certificate": paths["certificate"], "tls_key": paths["key"]}
    async with server(tmp_path, **settings) as address:
        token = str(tmp_path / "server" / "token")
        trusting = environment(home, STIGMER_CA=str(paths["authority"]), STIGMER_TOKEN_FILE=token)
        assert await count(trusting, f"https://{address}") == 0
        assert await count(trusting, address) == 0
        with pytest.raises(UnauthenticatedError):
            await count(environment(home, STIGMER_CA=str(paths["authority"])), address)


async def test_a_certificate_of_nobody_is_not_trusted(home: Home, tmp_path: Path) -> None:
    given = trustme.CA().issue_cert("localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key")}
    given.cert_chain_pems[0].write_to_path(paths["certificate"])
    given.private_key_pem.write_to_path(paths["key"])
    async with server(tmp_path, tls_certificate=paths["certificate"], tls_key=paths["key"]) as address:
        with pytest.raises(UnavailableError, match="certificate") as caught:
            await count(environment(home), f"https://{address}")
        assert "--ca" in caught.value.hint
        with pytest.raises(UnavailableError) as caught:
            await count(environment(home), address)
        assert "https://" in caught.value.hint


async def test_an_authority_that_is_none_is_told(home: Home, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"absent\.pem") as caught:
        async with dial("https://localhost:1", environment(home, STIGMER_CA=str(tmp_path / "absent.pem"))):
            pass
    assert "--ca" in caught.value.hint


async def test_a_command_that_may_not_is_told_what_to_do(home: Home, tmp_path: Path) -> None:
    stigmer = Cli(home=home.root).run
    async with server(tmp_path, auth="token") as address:
        denied = await asyncio.to_thread(stigmer, "--server", address, "get", "agents")
        assert denied.code == 5
        assert "--token-file" in denied.err
        token = str(tmp_path / "server" / "token")
        let_in = await asyncio.to_thread(
            stigmer, "--server", address, "--token-file", token, "-o", "json", "get", "agents"
        )
        assert let_in.code == 0, let_in.err
