"""Archives in parts, past what one message holds, and what becomes of those that nothing needs any more."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError, NotFoundError, ResourceExhaustedError, RpcError

from stigmer_server.artifacts import MAX_BYTES
from stigmer_server.testing import Api, serve, unchanged

MEBIBYTE = 2**20
HEADER = {"name": "House Style", "scope": "organization", "org": "local", "tag": "stable"}


def archive(*, size: int = 0, text: str = "# House style\n") -> bytes:
    """An archive with about that many bytes that cannot be packed any further."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(zipfile.ZipInfo("SKILL.md"), text)
        made.writestr(zipfile.ZipInfo("data.bin"), random.Random(7).randbytes(size))
    return buffer.getvalue()


def parts(content: bytes, *, size: int = MEBIBYTE, **header: Any) -> Iterator[dict[str, Any]]:
    yield {"header": {**HEADER, **header}}
    for start in range(0, len(content), size):
        yield {"chunk": base64.b64encode(content[start : start + size]).decode()}


async def push(api: Api, content: bytes, **header: Any) -> Any:
    return await api.upload("skill", "pushParts", parts(content, **header))


async def fetch(api: Api, skill: Any) -> bytes:
    key = {"artifactStorageKey": skill.status.artifact_storage_key}
    return b"".join([part.chunk async for part in api.stream("skill", "getArtifactParts", key)])


def stored(home: Path) -> set[str]:
    storage = home / "storage"
    return {path.name for path in storage.rglob("*") if path.is_file()}


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nobody tells when a file is gone
            await asyncio.sleep(0.01)


async def test_an_archive_too_large_for_one_message_comes_back_to_the_byte(api: Api) -> None:
    content = archive(size=12 * MEBIBYTE)
    skill = await push(api, content, sha256=hashlib.sha256(content).hexdigest())
    assert skill.status.version_hash == hashlib.sha256(content).hexdigest()
    assert (skill.metadata.slug, skill.spec.tag, skill.spec.skill_md) == ("house-style", "stable", "# House style\n")
    assert await fetch(api, skill) == content
    with pytest.raises(ResourceExhaustedError):
        await api("skill", "getArtifact", {"artifactStorageKey": skill.status.artifact_storage_key})


async def test_parts_and_one_message_make_the_same_skill(local: Api) -> None:
    content = archive()
    first = await push(local, content)
    request = {**HEADER, "artifact": base64.b64encode(content).decode()}
    assert await local("skill", "push", request) == unchanged(first)
    assert await push(local, content) == unchanged(first)
    found = await local("skill", "getByReference", {"slug": "house-style"})
    assert found.metadata.version.id == "1"


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([], "skill.parts.header"),
    ([{"chunk": "eA=="}], "skill.parts.order"),
    ([{"header": HEADER}, {"chunk": "eA=="}, {"header": HEADER}], "skill.parts.order"),
    ([{"header": HEADER}], "skill.artifact.zip"),
    ([{"header": HEADER}, {"chunk": "eA=="}], "skill.artifact.zip"),
    (list(parts(archive(), sha256="0" * 64)), "skill.parts.sha256"),
    (list(parts(archive(), name="")), "required"),
    (list(parts(archive(), tag="a b")), "string.pattern"),
    (list(parts(archive(), scope="identity_account")), "skill.owner_scope.platform_or_org_only"),
    ([{}], "required"),
]


@pytest.mark.parametrize(("sent", "rule"), REFUSED)
async def test_parts_that_make_no_skill_are_refused_and_leave_nothing(
    local: Api, tmp_path: Path, sent: list[dict[str, Any]], rule: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await local.upload("skill", "pushParts", sent)
    assert rule in {violation.rule_id for violation in caught.value.violations}
    assert stored(tmp_path) == set()


async def test_an_archive_past_the_limit_is_refused_with_its_reason(api: Api, tmp_path: Path) -> None:
    def too_much() -> Iterator[Any]:
        header, chunk = parts(bytes(8 * MEBIBYTE), size=8 * MEBIBYTE)
        yield header
        for _ in range(2 * MAX_BYTES // (8 * MEBIBYTE)):
            yield chunk

    with pytest.raises(InvalidArgumentError, match="larger than"):
        await api.upload("skill", "pushParts", too_much(), timeout=60)
    assert stored(tmp_path) == set()


async def test_an_archive_without_end_is_given_up(api: Api, tmp_path: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[Any]:
        nonlocal taken
        header, chunk = parts(bytes(8 * MEBIBYTE), size=8 * MEBIBYTE)
        yield header
        while True:
            taken += 8 * MEBIBYTE
            yield chunk

    with pytest.raises(RpcError):
        await api.upload("skill", "pushParts", endless(), timeout=60)
    assert taken < 5 * MAX_BYTES
    assert stored(tmp_path) == set()


async def test_a_caller_that_gives_up_leaves_nothing(api: Api, tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[Any]:
        header, chunk, *_ = parts(archive(size=MEBIBYTE), size=MEBIBYTE // 2)
        yield header
        yield chunk
        await asyncio.Event().wait()

    call = asyncio.create_task(api.upload("skill", "pushParts", stalls(), timeout=60))
    await until(lambda: bool(stored(tmp_path)))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: not stored(tmp_path))


async def test_what_a_killed_server_had_half_received_is_gone_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "storage" / "incoming").mkdir(parents=True)
    (tmp_path / "storage" / "incoming" / "tmpabc.zip").write_bytes(b"half")
    (tmp_path / "storage" / "skills").mkdir()
    (tmp_path / "storage" / "skills" / f"{'0' * 64}.zip").write_bytes(b"never committed")
    async with serve(tmp_path):
        await until(lambda: not stored(tmp_path))


async def test_a_dry_run_keeps_neither_skill_nor_archive(local: Api, tmp_path: Path) -> None:
    dry = {"x-stigmer-dry-run": "true"}
    skill = await local.upload("skill", "pushParts", parts(archive()), metadata=dry)
    assert skill.spec.skill_md == "# House style\n"
    assert stored(tmp_path) == set()
    with pytest.raises(NotFoundError):
        await local("skill", "getByReference", {"slug": "house-style"})


async def test_archives_stay_as_long_as_any_version_of_any_skill_names_them(local: Api, tmp_path: Path) -> None:
    old, new = archive(text="old"), archive(text="new")
    first = await push(local, old)
    await push(local, new)
    other = await push(local, old, name="Other")
    await local("skill", "delete", {"value": first.metadata.id})
    await until(lambda: stored(tmp_path) == {f"{hashlib.sha256(old).hexdigest()}.zip"})
    assert await fetch(local, other) == old
    await local("skill", "delete", {"value": other.metadata.id})
    await until(lambda: not stored(tmp_path))
    with pytest.raises(NotFoundError):
        await fetch(local, other)


async def test_pushes_and_deletions_at_once_lose_no_archive(local: Api) -> None:
    """Every skill that exists at the end has its archive, however the sweeps fell between the pushes."""
    contents = [archive(text=f"version {number}") for number in range(3)]

    async def churn(name: str, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            skill = await push(local, chance.choice(contents), name=name)
            assert await fetch(local, skill) in contents
            if chance.random() < 0.6:
                await local("skill", "delete", {"value": skill.metadata.id})

    await asyncio.gather(*(churn(f"skill {number}", number) for number in range(6)))
    for number in range(6):
        try:
            left = await local("skill", "getByReference", {"slug": f"skill-{number}"})
        except NotFoundError:
            continue
        assert await fetch(local, left) in contents
