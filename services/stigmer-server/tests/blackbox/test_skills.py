"""Skills: pushed, found by version, and given back byte for byte."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

INVALID = "INVALID_ARGUMENT"


def archive(text: str = "# Style\nWrite short sentences.", name: str = "SKILL.md") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def push(client: Any, name: str = "House Style", text: str = "# Style", **more: Any) -> Any:
    message = client.message("skill/push", {"name": name, "scope": "organization", "org": client.org, **more})
    message.artifact = archive(text)
    return client("skill/push", message)


@pytest.mark.rpc("skill/push")
@pytest.mark.rpc("skill/get")
@pytest.mark.rpc("skill/getArtifact")
@pytest.mark.rpc("skill/getByReference")
def test_a_skill_is_pushed_and_found(client: Any) -> None:
    first = push(client, text="# One", tag="stable")
    second = push(client, text="# Two")
    assert (first.metadata.slug, first.metadata.id) == ("house-style", second.metadata.id)
    assert client("skill/get", {"value": first.metadata.id}) == second
    reference = {"slug": "house-style", "org": client.org}
    assert client("skill/getByReference", reference) == second
    for version in ("stable", first.status.version_hash):
        assert client("skill/getByReference", {**reference, "version": version}).spec.skill_md == "# One"
    key = {"artifactStorageKey": first.status.artifact_storage_key}
    assert client("skill/getArtifact", key).artifact == archive("# One")


@pytest.mark.rpc("skill/push", INVALID)
def test_a_push_needs_a_name_and_a_skill(client: Any) -> None:
    assert set(client.refused("skill/push", None, INVALID).fields) >= {"name", "artifact"}
    message = client.message("skill/push", {"name": "x", "scope": "organization", "org": client.org})
    message.artifact = b"no archive"
    assert list(client.refused("skill/push", message, INVALID).fields) == ["artifact"]
    message.artifact = archive(name="README.md")
    assert list(client.refused("skill/push", message, INVALID).fields) == ["artifact"]
    message.artifact, message.name = archive(), "___"
    assert client.refused("skill/push", message, INVALID).fields == {"metadata.name": "metadata.name.sluggable"}
    message.name = "x" * 300
    assert client.refused("skill/push", message, INVALID).fields == {"metadata.name": "metadata.name.length"}
    message.name, message.tag = "x", "a/b"
    assert list(client.refused("skill/push", message, INVALID).fields) == ["tag"]


@pytest.mark.rpc("skill/pushParts")
@pytest.mark.rpc("skill/getArtifactParts")
def test_a_skill_is_moved_in_parts(client: Any) -> None:
    content = archive("# In parts")
    header = client.message("skill/pushParts", {"header": {"name": "In Parts", "scope": 2, "org": client.org}})
    chunks = [client.message("skill/pushParts", {}) for _ in range(2)]
    chunks[0].chunk, chunks[1].chunk = content[:50], content[50:]
    skill = client("skill/pushParts", [header, *chunks])
    key = {"artifactStorageKey": skill.status.artifact_storage_key}
    assert b"".join(part.chunk for part in client.stream("skill/getArtifactParts", key)) == content


@pytest.mark.rpc("skill/pushParts", INVALID)
@pytest.mark.rpc("skill/getArtifactParts", INVALID)
@pytest.mark.rpc("skill/getArtifactParts", "NOT_FOUND")
def test_parts_of_nothing_are_refused(client: Any) -> None:
    client.refused("skill/pushParts", [], INVALID)
    client.refused("skill/pushParts", [{}], INVALID)
    client.refused("skill/pushParts", [{"header": {"name": "In Parts", "scope": 2}}], INVALID)
    error = client.refused("skill/getArtifactParts", None, INVALID)
    assert error.fields == {"artifact_storage_key": "required"}
    client.refused("skill/getArtifactParts", {"artifactStorageKey": "skills/nothing.zip"}, "NOT_FOUND")


@pytest.mark.rpc("skill/getArtifact", INVALID)
@pytest.mark.rpc("skill/getArtifact", "NOT_FOUND")
def test_only_archives_are_given(client: Any) -> None:
    assert client.refused("skill/getArtifact", None, INVALID).fields == {"artifact_storage_key": "required"}
    for key in ("skills/nothing.zip", "../stigmer.db", "/etc/passwd", "skills/../../stigmer.db"):
        client.refused("skill/getArtifact", {"artifactStorageKey": key}, "NOT_FOUND")


@pytest.mark.rpc("skill/getByReference", "NOT_FOUND")
def test_a_version_that_was_never_pushed_is_not_found(client: Any) -> None:
    push(client)
    for version in ("beta", "0" * 64):
        reference = {"slug": "house-style", "org": client.org, "version": version}
        assert version in client.refused("skill/getByReference", reference, "NOT_FOUND").message


@pytest.mark.rpc("skill/delete")
@pytest.mark.rpc("skill/delete", "FAILED_PRECONDITION")
def test_a_skill_in_use_is_deleted_only_by_force(client: Any, make: Any) -> None:
    skill = push(client)
    reference = {"kind": "skill", "slug": "house-style", "org": client.org}
    agent = make("agent", spec={"skillRefs": [reference]})
    request = {"value": skill.metadata.id}
    assert agent.metadata.id in client.refused("skill/delete", request, "FAILED_PRECONDITION").message
    assert client("skill/delete", request, metadata={"x-stigmer-force": "true"}) == skill
    client.refused("skill/get", request, "NOT_FOUND")
