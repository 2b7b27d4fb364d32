"""Skills: pushed as archives, kept in every version, and safe to take from anybody."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, InvalidArgumentError, NotFoundError

from stigmer_server.testing import Api, manifest

READY = 2


def packed(text: str = "# House style\n", **others: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("SKILL.md"), text)
        for name, content in others.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def files(home: Path) -> list[str]:
    """What is stored, and what is left of archives that are not."""
    storage = home / "storage"
    return sorted(str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file())


async def push(api: Api, artifact: bytes, name: str = "House Style", tag: str = "", org: str = "local") -> Any:
    from stigmer_protos import descriptors

    request: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.PushSkillRequest")
    return await api("skill", "push", request(name=name, scope=2, org=org, artifact=artifact, tag=tag))


async def test_a_pushed_skill_can_be_read_back_to_the_byte(api: Api) -> None:
    artifact = packed("# House style\n", **{"scripts/run.py": b"print(1)"})
    skill = await push(api, artifact, tag="stable")
    digest = hashlib.sha256(artifact).hexdigest()
    assert (skill.metadata.slug, skill.metadata.org) == ("house-style", "local")
    assert (skill.spec.skill_md, skill.spec.tag) == ("# House style\n", "stable")
    assert (skill.status.version_hash, skill.status.state) == (digest, READY)
    assert skill.status.artifact_storage_key == f"skills/{digest}.zip"
    assert skill.status.audit.spec_audit.event == "created"
    got = await api("skill", "getArtifact", {"artifactStorageKey": skill.status.artifact_storage_key})
    assert got.artifact == artifact
    assert await api("skill", "get", {"value": skill.metadata.id}) == skill
    assert await api("skill", "getByReference", {"slug": "house-style"}) == skill


async def test_every_version_is_found_by_hash_and_by_its_newest_tag(local: Api) -> None:
    first = await push(local, packed("one"), tag="stable")
    second = await push(local, packed("two"), tag="beta")
    third = await push(local, packed("three"), tag="stable")
    assert first.metadata.id == second.metadata.id == third.metadata.id
    assert third.status.audit.spec_audit.created_at == first.status.audit.spec_audit.created_at
    wanted = {
        first.status.version_hash: "one",
        second.status.version_hash: "two",
        "beta": "two",
        "stable": "three",
        "latest": "three",
        "": "three",
    }
    for version, text in wanted.items():
        found = await local("skill", "getByReference", {"slug": "house-style", "version": version})
        assert found.spec.skill_md == text
    for version in ("none", "0" * 64):
        with pytest.raises(NotFoundError):
            await local("skill", "getByReference", {"slug": "house-style", "version": version})


async def test_equal_archives_are_stored_once(local: Api, tmp_path: Path) -> None:
    await push(local, packed("same"), name="one")
    await push(local, packed("same"), name="two")
    (file,) = (tmp_path / "storage" / "skills").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_skills_of_two_organizations_share_a_name(local: Api) -> None:
    first, second = await push(local, packed("a")), await push(local, packed("b"), org="acme")
    assert first.metadata.id != second.metadata.id


@pytest.mark.parametrize(
    "key", ["../stigmer.db", "skills/../../stigmer.db", "/etc/passwd", "skills/", "x", "skills/a.zip"]
)
async def test_an_artifact_key_leads_nowhere_else(local: Api, key: str) -> None:
    with pytest.raises(NotFoundError):
        await local("skill", "getArtifact", {"artifactStorageKey": key})


def further_name(name: str, other: str) -> bytes:
    """Say in an entry's extra part what it is called for who reads that."""
    said = struct.pack("<BL", 1, zlib.crc32(name.encode())) + other.encode()
    return struct.pack("<HH", 0x7075, len(said)) + said


def zipped(
    name: str, content: bytes = b"x", *, mode: int = 0, packing: int = zipfile.ZIP_DEFLATED, extra: bytes = b""
) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SKILL.md", "# Fine")
        entry = zipfile.ZipInfo(name)
        entry.compress_type = packing
        entry.external_attr = mode << 16
        entry.extra = extra
        archive.writestr(entry, content)
    return buffer.getvalue()


def understated(content: bytes, *, says: int) -> bytes:
    """An archive whose second file is larger than it says, with the checksum of what it says."""
    made = zipped("grows", content)
    return made.replace(
        struct.pack("<L", len(content)),
        struct.pack("<L", says),
    ).replace(struct.pack("<L", zlib.crc32(content)), struct.pack("<L", zlib.crc32(content[:says])))


def overlapping() -> bytes:
    """An archive whose directory names the same bytes many times over, under the name that they carry."""
    content = zipped("twice", b"x" * 50_000)
    start = content.index(b"PK\x01\x02")
    end = content.rindex(b"PK\x05\x06")
    directory = bytes(content[start:end])
    copies = directory * 20
    tail = bytearray(content[end:])
    struct.pack_into("<HHL", tail, 8, 40, 40, len(copies))
    return bytes(content[:start]) + copies + bytes(tail)


@pytest.mark.parametrize(
    "artifact",
    [
        b"no zip at all",
        packed("   "),
        packed("x" * (2**20 + 1)),
        zipped("../up.md"),
        zipped("/absolute.md"),
        zipped("a\\..\\b"),
        zipped("C:evil"),
        zipped("bell\x07"),
        zipped("link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
        zipped("pipe", mode=stat.S_IFIFO | 0o600),
        zipped("bomb", bytes(10 * 2**20)),
        zipped("SKILL.md"),
        zipped("skill.MD"),
        zipped("SKILL.md/below"),
        zipped("line\nbreak"),
        zipped("hidden\u202efile"),
        zipped("n" * 1025),
        zipped("nul.md").replace(b"nul.md", b"nu\0.md"),
        zipped("aa/aa/evil", extra=further_name("aa/aa/evil", "../../evil")),
        zipped("squeezed", b"y" * 100, packing=zipfile.ZIP_LZMA),
        zipped("wrong", b"one thing", packing=zipfile.ZIP_STORED).replace(b"one thing", b"two thing"),
        understated(b"z" * 60_000, says=10),
        overlapping(),
        packed()[:-10],
        packed()[10:],
    ],
)
async def test_an_archive_that_breaks_a_rule_is_refused(local: Api, artifact: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await push(local, artifact)
    assert caught.value.violations[0].field == "artifact"
    assert files(tmp_path) == []


async def test_a_name_may_be_said_twice_if_it_is_the_same(local: Api) -> None:
    await push(local, zipped("größe", extra=further_name("größe", "größe")))


async def test_an_archive_needs_its_text_at_the_root(local: Api) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder/SKILL.md", "# Deep")
    with pytest.raises(InvalidArgumentError, match=r"SKILL\.md"):
        await push(local, buffer.getvalue())


async def test_a_skill_needs_a_name_and_a_scope(local: Api) -> None:
    with pytest.raises(InvalidArgumentError):
        await push(local, packed(), name="___")
    with pytest.raises(InvalidArgumentError):
        await local("skill", "push", {"name": "x", "artifact": "eA=="})


async def test_a_skill_that_agents_name_is_not_deleted(local: Api) -> None:
    skill = await push(local, packed())
    reference = {"kind": "skill", "slug": "house-style", "org": "local"}
    spec = {"instructions": "Answer every question in one sentence."}
    helper = {"name": "helper", "instructions": "Check every single claim.", "skillRefs": [reference]}
    agent = manifest("agent", "Writer", {**spec, "subAgents": [helper]})
    made = await local("agent", "create", agent)
    with pytest.raises(FailedPreconditionError, match="Agent writer"):
        await local("skill", "delete", {"value": skill.metadata.id})
    await local("agent", "delete", {"value": made.metadata.id})
    assert await local("skill", "delete", {"value": skill.metadata.id}) == skill
    with pytest.raises(NotFoundError):
        await local("skill", "getByReference", {"slug": "house-style", "version": skill.status.version_hash})
