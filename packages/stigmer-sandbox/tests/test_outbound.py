"""Real exchanges with a server on loopback."""

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from stigmer_sandbox import (
    EncodingError,
    Fetched,
    OutboundPolicy,
    OutboundTimeoutError,
    RefusedAddressError,
    ResolutionError,
    ResponseTooLargeError,
    TargetError,
    TooManyRedirectsError,
    fetch,
    guarded_client,
    resolve,
)


@dataclass
class Seen:
    """One request as the server read it."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class LoopbackServer:
    """Answers every request with what `answers` holds for its path."""

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    seen: list[Seen] = field(default_factory=list[Seen])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (field_line := (await reader.readline()).decode().strip()) != "":
                    name, _, value = field_line.partition(":")
                    headers[name.strip().lower()] = value.strip()
                await reader.readexactly(int(headers.get("content-length", "0")))
                self.seen.append(Seen(method=method, target=target, headers=headers))
                answer = self.answers.get(target.partition("?")[0])
                if answer is None:
                    await asyncio.Event().wait()  # a path without an answer hangs
                    return
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()


def http(status: str, body: bytes = b"", **headers: str) -> bytes:
    """Return a whole response as bytes."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def server() -> AsyncIterator[LoopbackServer]:
    """A server with no answers yet."""
    loopback = LoopbackServer()
    listening = await asyncio.start_server(loopback.serve, "127.0.0.1", 0)
    loopback.port = listening.sockets[0].getsockname()[1]
    yield loopback
    listening.close()


LOCAL = OutboundPolicy(connect_timeout=2, total_timeout=10)
SHARED = OutboundPolicy(allow_loopback=False, allow_private=False, connect_timeout=2, total_timeout=10)


class Names:
    """A resolver whose answers change from one question to the next."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(turns) for name, turns in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        turns = self.answers[host]
        return turns.pop(0) if len(turns) > 1 else turns[0]


async def get(url: str, policy: OutboundPolicy = LOCAL, *, names: Names | None = None, **options: Any) -> Fetched:
    async with guarded_client(policy, resolver=names or resolve) as client:
        return await fetch(client, policy, method="GET", url=url, **options)


async def test_a_local_stack_reaches_its_own_machine(server: LoopbackServer) -> None:
    server.answers["/x"] = http("200 OK", b"here", content_type="text/plain")
    answer = await get(server.url("/x"))
    assert (answer.status, answer.body) == (200, b"here")
    assert ("content-type", "text/plain") in answer.headers


async def test_the_host_header_is_the_name_and_the_connection_goes_to_the_checked_address(
    server: LoopbackServer,
) -> None:
    server.answers["/x"] = http("200 OK")
    names = Names(service_test=[["127.0.0.1"]])
    await get(server.url("/x", host="service.test"), names=names)
    assert server.seen[0].headers["host"] == f"service.test:{server.port}"
    assert names.asked == ["service.test"]


async def test_a_name_that_answers_differently_the_second_time_is_asked_once(server: LoopbackServer) -> None:
    server.answers["/x"] = http("200 OK")
    names = Names(rebind_test=[["127.0.0.1"], ["169.254.169.254"]])
    assert (await get(server.url("/x", host="rebind.test"), names=names)).status == 200
    assert names.asked == ["rebind.test"]


async def test_a_name_is_refused_when_one_of_its_addresses_is(server: LoopbackServer) -> None:
    names = Names(mixed_test=[["127.0.0.1", "169.254.169.254"]])
    with pytest.raises(RefusedAddressError, match=r"mixed\.test leads to 169\.254\.169\.254"):
        await get(server.url("/x", host="mixed.test"), names=names)
    assert server.seen == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0"])
async def test_a_name_that_leads_inside_is_refused_on_a_shared_stack(address: str) -> None:
    with pytest.raises(RefusedAddressError):
        await get("http://innocent.test/", SHARED, names=Names(innocent_test=[[address]]))


async def test_the_next_address_is_tried_when_one_does_not_answer(server: LoopbackServer) -> None:
    server.answers["/x"] = http("200 OK")
    names = Names(twice_test=[["127.0.0.2", "127.0.0.1"]])
    assert (await get(server.url("/x", host="twice.test"), names=names)).status == 200


async def test_a_name_without_an_address_is_a_clear_error() -> None:
    with pytest.raises(ResolutionError, match=r"empty\.test has no address"):
        await get("http://empty.test/", names=Names(empty_test=[[]]))
    with pytest.raises(ResolutionError, match=r"nowhere\.invalid cannot be resolved"):
        await get("http://nowhere.invalid/")


async def test_a_redirect_is_an_answer_unless_it_is_to_be_followed(server: LoopbackServer) -> None:
    server.answers["/from"] = http("302 Found", location="/to")
    server.answers["/to"] = http("200 OK", b"there")
    assert (await get(server.url("/from"))).status == 302
    followed = await get(server.url("/from"), follow_redirects=True)
    assert (followed.body, followed.url) == (b"there", server.url("/to"))


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/latest/meta-data/", RefusedAddressError),
        ("http://[::ffff:127.0.0.1]/", RefusedAddressError),
        ("http://2130706433/", TargetError),
        ("http://user@127.0.0.1/", TargetError),
        ("file:///etc/passwd", TargetError),
    ],
)
async def test_every_redirect_is_checked_again(server: LoopbackServer, location: str, error: type[Exception]) -> None:
    server.answers["/from"] = http("302 Found", location=location)
    with pytest.raises(error):
        await get(server.url("/from"), follow_redirects=True)


async def test_redirects_end(server: LoopbackServer) -> None:
    server.answers["/round"] = http("302 Found", location="/round")
    with pytest.raises(TooManyRedirectsError):
        await get(server.url("/round"), follow_redirects=True)
    assert len(server.seen) == LOCAL.max_redirects + 1


async def test_headers_that_may_hold_credentials_stay_with_their_origin(server: LoopbackServer) -> None:
    headers = {"Authorization": "Bearer x", "X-Api-Key": "y", "Accept": "text/plain"}
    names = Names(other_test=[["127.0.0.1"]])
    server.answers["/away"] = http("302 Found", location=server.url("/end", host="other.test"))
    server.answers["/stay"] = http("302 Found", location="/end")
    server.answers["/end"] = http("200 OK")
    await get(server.url("/away"), headers=headers, follow_redirects=True, names=names)
    await get(server.url("/stay"), headers=headers, follow_redirects=True, names=names)
    away, stayed = server.seen[1], server.seen[3]
    assert away.headers.get("accept") == stayed.headers.get("accept") == "text/plain"
    assert "authorization" not in away.headers
    assert "x-api-key" not in away.headers
    assert (stayed.headers["authorization"], stayed.headers["x-api-key"]) == ("Bearer x", "y")


async def test_a_body_is_decompressed(server: LoopbackServer) -> None:
    server.answers["/gzip"] = http("200 OK", gzip.compress(b"text" * 100), content_encoding="gzip")
    server.answers["/deflate"] = http("200 OK", zlib.compress(b"text" * 100), content_encoding="deflate")
    assert (await get(server.url("/gzip"))).body == b"text" * 100
    assert (await get(server.url("/deflate"))).body == b"text" * 100


async def test_a_body_over_the_cap_is_refused_declared_or_not(server: LoopbackServer) -> None:
    server.answers["/big"] = http("200 OK", b"x" * 2000)
    server.answers["/bomb"] = http("200 OK", gzip.compress(b"\0" * 50_000_000), content_encoding="gzip")
    server.answers["/endless"] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 5000
    for path in ("/big", "/bomb", "/endless"):
        with pytest.raises(ResponseTooLargeError):
            await get(server.url(path), max_bytes=1000)


async def test_stacked_unknown_and_broken_encodings_are_refused(server: LoopbackServer) -> None:
    twice = gzip.compress(gzip.compress(b"x"))
    server.answers["/stacked"] = http("200 OK", twice, content_encoding="gzip, gzip")
    server.answers["/br"] = http("200 OK", b"x", content_encoding="br")
    server.answers["/broken"] = http("200 OK", b"not gzip", content_encoding="gzip")
    for path in ("/stacked", "/br", "/broken"):
        with pytest.raises(EncodingError):
            await get(server.url(path))


async def test_an_exchange_that_takes_too_long_ends(server: LoopbackServer) -> None:
    with pytest.raises(OutboundTimeoutError):
        await get(server.url("/hangs"), seconds=0.2)


async def test_proxies_of_the_environment_are_not_used(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/x"] = http("200 OK")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert (await get(server.url("/x"))).status == 200


async def test_the_tls_server_name_is_the_name_while_the_address_is_pinned(tmp_path: Path) -> None:
    certificate, key = certificate_for("secure.test", tmp_path)
    asked: list[str | None] = []

    def remember(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        asked.append(name)

    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    serving.sni_callback = remember
    loopback = LoopbackServer(answers={"/": http("200 OK", json.dumps({"ok": True}).encode())})
    listening = await asyncio.start_server(loopback.serve, "127.0.0.1", 0, ssl=serving)
    port = listening.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(certificate))
    names = Names(secure_test=[["127.0.0.1"]])
    async with guarded_client(LOCAL, resolver=names, ssl_context=trusting) as client:
        answer = await fetch(client, LOCAL, method="GET", url=f"https://secure.test:{port}/")
    listening.close()
    assert answer.status == 200
    assert asked == ["secure.test"]


def certificate_for(name: str, folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
