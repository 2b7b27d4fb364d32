"""TLS with real certificates, and what is said of files that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from stigmer_grpc import CredentialsError, UnavailableError, client_credentials, connect, server_credentials


class Files:
    """The PEM files of an authority, and of a certificate that it gave."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self.authority = folder / "authority.pem"
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        authority = trustme.CA()
        given = authority.issue_cert(name)
        authority.cert_pem.write_to_path(self.authority)
        for number, blob in enumerate(given.cert_chain_pems):
            blob.write_to_path(self.certificate, append=number > 0)
        given.private_key_pem.write_to_path(self.key)


@pytest.fixture
def server_files(tmp_path: Path) -> Files:
    return Files(tmp_path / "server", "localhost")


@pytest.fixture
def client_files(tmp_path: Path) -> Files:
    return Files(tmp_path / "client", "client.example")


async def test_a_client_that_knows_the_authority_gets_through(tcp_lab: Any, note: Any, server_files: Files) -> None:
    server = tcp_lab.server()
    files = server_files
    (address,) = await server.start("localhost:0", credentials=server_credentials(files.certificate, files.key))
    async with connect(address, pool=server.pool, credentials=client_credentials(authority=files.authority)) as channel:
        assert (await channel.service("lab.v1.Lab").unary("echo", note(text="sealed"))).text == "sealed"
    for credentials in (None, client_credentials()):
        async with connect(address, pool=server.pool, credentials=credentials) as channel:
            with pytest.raises(UnavailableError):
                await channel.service("lab.v1.Lab").unary("echo", note(text="x"))
    await server.stop(0)


async def test_a_server_may_ask_for_a_certificate_of_the_client(
    tcp_lab: Any, note: Any, server_files: Files, client_files: Files
) -> None:
    server = tcp_lab.server()
    wanted = server_credentials(server_files.certificate, server_files.key, client_authority=client_files.authority)
    (address,) = await server.start("localhost:0", credentials=wanted)
    with_one = client_credentials(
        authority=server_files.authority, certificate=client_files.certificate, key=client_files.key
    )
    async with connect(address, pool=server.pool, credentials=with_one) as channel:
        assert (await channel.service("lab.v1.Lab").unary("echo", note(text="x"))).text == "x"
    without = client_credentials(authority=server_files.authority)
    async with connect(address, pool=server.pool, credentials=without) as channel:
        with pytest.raises(UnavailableError):
            await channel.service("lab.v1.Lab").unary("echo", note(text="x"))
    await server.stop(0)


async def test_who_connects_after_the_files_were_replaced_gets_the_new_certificate(
    tcp_lab: Any, note: Any, server_files: Files, tmp_path: Path
) -> None:
    server, files, new = tcp_lab.server(), server_files, Files(tmp_path / "new", "localhost")
    (address,) = await server.start("localhost:0", credentials=server_credentials(files.certificate, files.key))

    async def gets_through(authority: Path) -> bool:
        credentials = client_credentials(authority=authority)
        async with connect(address, pool=server.pool, credentials=credentials) as channel:
            try:
                return bool(await channel.service("lab.v1.Lab").unary("echo", note(text="x")))
            except UnavailableError:
                return False

    assert await gets_through(files.authority)
    new.certificate.replace(files.certificate)
    assert await gets_through(files.authority), "half of a replacement is none"
    new.key.replace(files.key)
    assert await gets_through(new.authority)
    assert not await gets_through(files.authority)
    await server.stop(0)


def test_files_that_cannot_be_used_are_told(server_files: Files, client_files: Files) -> None:
    files, other = server_files, client_files
    with pytest.raises(CredentialsError, match="none"):
        server_credentials(files.certificate, files.key.with_name("none"))
    for certificate, key in ((files.certificate, other.key), (files.key, files.certificate)):
        with pytest.raises(CredentialsError, match="cannot be used together"):
            server_credentials(certificate, key)
    with pytest.raises(CredentialsError, match="authority"):
        server_credentials(files.certificate, files.key, client_authority=files.key)
    with pytest.raises(CredentialsError, match="authority"):
        client_credentials(authority=files.key)
    with pytest.raises(CredentialsError, match="together"):
        client_credentials(certificate=files.certificate)
