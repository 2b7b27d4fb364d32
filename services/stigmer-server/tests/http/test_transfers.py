"""Files over HTTP: an archive as a body or in a form, and back to the byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import random
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from stigmer_grpc import CallContext, InvalidArgumentError, UnavailableError
from stigmer_protos import descriptors

from stigmer_server.http.gateway import Limits
from stigmer_server.http.testing import Front, serve_handlers

TRANSFER = "ai.stigmer.agentic.skill.v1.SkillTransferController"
QUERIES = "ai.stigmer.agentic.skill.v1.SkillQueryController"
SKILL: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.Skill")
PART: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.ArtifactPart")
NAMED = {"name": "House Style", "org": "local", "scope": "organization", "tag": "stable"}
ZIP = {"content-type": "application/zip"}


def archive(size: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr(zipfile.ZipInfo("SKILL.md"), "# House style\n")
        made.writestr(zipfile.ZipInfo("data.bin"), random.Random(7).randbytes(size))
    return buffer.getvalue()


async def test_an_archive_comes_back_to_the_byte(front: Front) -> None:
    content = archive(12 * 2**20)
    pushed = await front.client.post("/v1/skills", params=NAMED, content=content, headers=ZIP)
    assert pushed.status_code == 200, pushed.text
    skill = pushed.json()
    assert skill["status"]["versionHash"] == hashlib.sha256(content).hexdigest()
    for path in (
        f"/v1/skills/{skill['metadata']['id']}/artifact",
        "/v1/orgs/local/skills/house-style/artifact?version=stable",
        f"/v1/skills:download?artifact_storage_key={skill['status']['artifactStorageKey']}",
    ):
        response = await front.client.get(path)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/zip"
        assert "attachment" in response.headers["content-disposition"]
        assert response.content == content


async def test_a_form_says_the_same(front: Front) -> None:
    content = archive(300_000)
    first = await front.client.post("/v1/skills", params=NAMED, content=content, headers=ZIP)
    form = await front.client.post("/v1/skills", data=NAMED, files={"archive": ("x.zip", content, "application/zip")})
    mixed = await front.client.post("/v1/skills", params=NAMED, files={"archive": ("x.zip", content)})
    assert form.status_code == mixed.status_code == 200, form.text
    again = first.json()
    again["status"]["audit"]["specAudit"]["event"] = "unchanged"
    assert form.json() == mixed.json() == again


async def test_lines_of_json_say_the_same(front: Front) -> None:
    content = archive()
    chunks = [{"chunk": base64.b64encode(content[at : at + 100]).decode()} for at in range(0, len(content), 100)]
    lines = "\n".join(map(json.dumps, [{"header": NAMED}, *chunks]))
    for path in (f"/rpc/{TRANSFER}/pushParts", "/v1/skills"):
        response = await front.client.post(path, content=lines, headers={"content-type": "application/x-ndjson"})
        assert response.status_code == 200, response.text
        assert response.json()["status"]["versionHash"] == hashlib.sha256(content).hexdigest()


async def test_one_message_may_hold_a_small_archive(front: Front) -> None:
    body = {**NAMED, "artifact": base64.b64encode(archive()).decode()}
    response = await front.client.post("/v1/skills:push", json=body)
    assert response.json()["metadata"]["slug"] == "house-style"


async def test_an_archive_that_is_known_is_not_sent_again(front: Front) -> None:
    pushed = (await front.client.post("/v1/skills", params=NAMED, content=archive(), headers=ZIP)).json()
    path = f"/v1/skills/{pushed['metadata']['id']}/artifact"
    etag = (await front.client.get(path)).headers["etag"]
    again = await front.client.get(path, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")


async def test_what_is_wrong_with_an_archive_is_told(front: Front) -> None:
    bad = await front.client.post("/v1/skills", params=NAMED, content=b"no zip", headers=ZIP)
    assert bad.status_code == 400
    assert bad.json()["violations"][0]["field"] == "artifact"
    nameless = await front.client.post("/v1/skills", content=archive(), headers=ZIP)
    assert nameless.status_code == 400
    unknown = await front.client.post("/v1/skills", params={"nam": "x"}, content=archive(), headers=ZIP)
    assert unknown.json()["violations"][0]["rule"] == "json.unknown_field"
    other = await front.client.post("/v1/skills", params={**NAMED, "sha256": "0" * 64}, content=archive(), headers=ZIP)
    assert other.status_code == 400
    assert (await front.client.get("/v1/skills/skl-none/artifact")).status_code == 404
    assert (await front.client.get("/v1/skills:download?artifact_storage_key=../../etc/passwd")).status_code in (
        400,
        404,
    )


BOUNDARY = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content_type", "body", "rule"),
    [
        ("multipart/form-data", b"", "form.boundary"),
        (f"multipart/form-data; boundary={'x' * 1000}", b"", "form.boundary"),
        (BOUNDARY, b"", "form.syntax"),
        (BOUNDARY, b"nonsense", "form.syntax"),
        (BOUNDARY, b'--b\r\ncontent-disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n', "form.file"),
        (BOUNDARY, b'--b\r\ncontent-disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--b\r\n'
                   b'content-disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n', "form.order"),
        (BOUNDARY, b'--b\r\ncontent-disposition: form-data; name="name"\r\n\r\n' + b"x" * 70_000, "form.field"),
        (BOUNDARY, b'--b\r\ncontent-disposition: form-data; name="name"\r\n\r\n\xff\r\n--b--\r\n', "form.field"),
        (BOUNDARY, b'--b\r\ncontent-disposition: form-data; name="f"; filename="a"\r\n\r\nx', "form.syntax"),
        (BOUNDARY, b"--b\r\n" + b"x: y\r\n" * 1000, "form.syntax"),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_is_told(front: Front, content_type: str, body: bytes, rule: str) -> None:
    response = await front.client.post("/v1/skills", params=NAMED, content=body, headers={"content-type": content_type})
    assert response.status_code == 400, response.text
    assert response.json()["violations"][0]["rule"] == rule


async def test_other_types_of_body_are_refused(front: Front) -> None:
    for path, content_type in (("/v1/skills", "text/plain"), (f"/rpc/{TRANSFER}/pushParts", "text/plain")):
        response = await front.client.post(path, content=b"x", headers={"content-type": content_type})
        assert response.status_code == 415
        assert "application/zip" in response.headers["accept"]


async def test_a_line_that_is_no_message_is_told_with_its_number(front: Front) -> None:
    lines = json.dumps({"header": NAMED}) + '\n\n{"chunk": "?"}\n'
    response = await front.client.post(
        f"/rpc/{TRANSFER}/pushParts", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert response.status_code == 400
    assert response.json()["violations"][0]["field"] == "line[3].chunk"


async def test_an_upload_is_handed_on_as_it_comes() -> None:
    """The server has a piece in hands while the client has not sent the next."""
    got: list[int] = []
    came = asyncio.Event()

    async def push_parts(requests: AsyncIterator[Any], context: CallContext) -> Any:
        async for part in requests:
            got.append(len(part.chunk))
            came.set()
        return SKILL()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            came.clear()
            yield b"x" * 1000
            async with asyncio.timeout(10):
                await came.wait()

    async with serve_handlers({TRANSFER: {"pushParts": push_parts}}) as stand:
        path = f"/rpc/{TRANSFER}/pushParts?name=x"
        response = await stand.client.post(path, content=pieces(), headers=ZIP)
    assert response.status_code == 200, response.text
    assert got == [0, 1000, 1000, 1000]


async def test_an_upload_that_is_refused_early_hears_why() -> None:
    async def push_parts(requests: AsyncIterator[Any], context: CallContext) -> Any:
        raise InvalidArgumentError("no more of these")

    async with serve_handlers({TRANSFER: {"pushParts": push_parts}}) as stand:
        response = await stand.client.post(f"/rpc/{TRANSFER}/pushParts?name=x", content=b"x" * 200_000, headers=ZIP)
    assert response.status_code == 400
    assert response.json()["detail"] == "no more of these"


async def test_uploads_have_a_limit_too() -> None:
    async def push_parts(requests: AsyncIterator[Any], context: CallContext) -> Any:
        async for _ in requests:
            pass
        return SKILL()

    limits = Limits(upload_bytes=100_000)
    async with serve_handlers({TRANSFER: {"pushParts": push_parts}}, request_limits=limits) as stand:
        path = f"/rpc/{TRANSFER}/pushParts?name=x"
        told = await stand.client.post(path, content=b"x" * 100_001, headers=ZIP)
        fine = await stand.client.post(path, content=b"x" * 100_000, headers=ZIP)
    assert (told.status_code, fine.status_code) == (413, 200)


async def test_an_upload_that_stops_is_given_up() -> None:
    ended = asyncio.Event()

    async def push_parts(requests: AsyncIterator[Any], context: CallContext) -> Any:
        try:
            async for _ in requests:
                pass
        finally:
            ended.set()
        return SKILL()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        async with asyncio.timeout(10):
            await ended.wait()

    limits = Limits(body_seconds=0.2)
    async with serve_handlers({TRANSFER: {"pushParts": push_parts}}, request_limits=limits) as stand:
        response = await stand.client.post(f"/rpc/{TRANSFER}/pushParts?name=x", content=pieces(), headers=ZIP)
    assert response.status_code == 408


async def test_a_file_that_breaks_off_is_no_whole_file() -> None:
    async def get_artifact_parts(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield PART(chunk=b"x" * 1000)
        raise UnavailableError("the disk is gone")

    async def get(request: Any, context: CallContext) -> Any:
        skill = SKILL()
        skill.status.artifact_storage_key = "key"
        return skill

    handlers = {TRANSFER: {"getArtifactParts": get_artifact_parts}, QUERIES: {"get": get, "getByReference": get}}
    async with serve_handlers(handlers) as stand:
        with pytest.raises(httpx2.RemoteProtocolError):
            await stand.client.get("/v1/skills/skl-1/artifact")
