"""Files of workspaces: put by people and by executions, kept once by content, and gone with whose they are."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from stigmer_grpc import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from stigmer_protos import descriptors

from stigmer_server import artifacts, drafts, files
from stigmer_server.access.testing import ACME, OTHER, House, opened
from stigmer_server.artifacts import FILES
from stigmer_server.commands import put_file
from stigmer_server.http.testing import serve_http
from stigmer_server.kinds import registry
from stigmer_server.operations.backup import artifacts_named
from stigmer_server.testing import Api, manifest, serve

COMMANDS, QUERIES = "ai.stigmer.files.v1.FileCommandController", "ai.stigmer.files.v1.FileQueryController"
PART: Any = descriptors.message_type("ai.stigmer.files.v1.PutFilePart")
CSV = b"city,people\nParis,2100000\n"
BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    async with opened(tmp_path) as made:
        yield made


async def execution_of(api: Api, *, org: str = "local") -> Any:
    agent = await api("agent", "apply", manifest("agent", "analyst", {"instructions": "Look into data."}, org=org))
    given = {"agentId": agent.metadata.id, "message": "go"}
    return await api("agent_execution", "create", manifest("agent_execution", "run", given, org=org))


def parts(content: bytes, **header: Any) -> Iterator[Any]:
    yield PART(header=header)
    for start in range(0, len(content), 2**20):
        yield PART(chunk=content[start : start + 2**20])


async def put(api: Api, session: str, path: str, content: bytes = CSV, **header: Any) -> Any:
    sent = list(parts(content, session_id=session, path=path, **header))
    return await api.channel.service(COMMANDS).client_stream("put", sent)


async def get(api: Api, owner: str, path: str) -> bytes:
    request = {"resourceId": owner, "path": path}
    return b"".join([part.chunk async for part in api.channel.service(QUERIES).stream("get", request)])


async def listed(api: Api, owner: str, **more: Any) -> Any:
    return await api.channel.service(QUERIES).unary("list", {"resourceId": owner, **more})


async def paths(api: Api, owner: str) -> list[str]:
    return [entry.path for entry in (await listed(api, owner)).entries]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def until_kept(folder: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while len(list((folder / "storage" / "files").glob("*"))) != count:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0.01)


async def test_a_file_too_large_for_one_message_comes_back_to_the_byte(api: Api) -> None:
    session = (await execution_of(api)).spec.session_id
    content = random.Random(7).randbytes(12 * 2**20)
    made = await put(api, session, "data/large.bin", content, sha256=sha256(content), executable=True)
    assert (made.path, made.bytes, made.sha256, made.executable) == (
        "data/large.bin",
        len(content),
        sha256(content),
        True,
    )
    assert await get(api, session, "data/large.bin") == content
    assert list((await listed(api, session)).entries) == [made]


async def test_a_file_is_replaced_and_listed_in_pages_and_deleted(local: Api, tmp_path: Path) -> None:
    session = (await execution_of(local)).spec.session_id
    for name in ("a", "b", "c"):
        await put(local, session, name)
    await put(local, session, "b", b"other")
    assert await get(local, session, "b") == b"other"
    first = await listed(local, session, pageSize=2)
    rest = await listed(local, session, pageSize=2, pageToken=first.next_page_token)
    assert sorted(entry.path for page in (first, rest) for entry in page.entries) == ["a", "b", "c"]
    await until_kept(tmp_path, 2)
    commands = local.channel.service(COMMANDS)
    await commands.unary("delete", {"sessionId": session, "path": "b", "sha256": sha256(CSV)})
    assert sorted(await paths(local, session)) == ["a", "b", "c"]
    for _ in range(2):
        await commands.unary("delete", {"sessionId": session, "path": "b"})
    assert sorted(await paths(local, session)) == ["a", "c"]
    await until_kept(tmp_path, 1)


async def test_what_an_execution_has_made_stays_its_own_whatever_comes_later(local: Api) -> None:
    execution = await execution_of(local)
    session, id = execution.spec.session_id, execution.metadata.id
    await put(local, session, "report.md", b"first", execution_id=id)
    made = (await listed(local, session)).entries[0]
    assert (made.execution_id, made.bytes) == (id, 5)
    await put(local, session, "report.md", b"a person's")
    assert (await get(local, session, "report.md"), await get(local, id, "report.md")) == (b"a person's", b"first")
    await put(local, session, "report.md", b"of the agent", execution_id=id, replaces=sha256(b"first"))
    assert (await get(local, session, "report.md"), await get(local, id, "report.md")) == (
        b"a person's",
        b"of the agent",
    )
    await put(local, session, "report.md", b"again", execution_id=id, replaces=sha256(b"a person's"))
    assert await get(local, session, "report.md") == b"again"


async def test_files_go_with_the_execution_and_with_the_session(local: Api, tmp_path: Path) -> None:
    execution = await execution_of(local)
    session, id = execution.spec.session_id, execution.metadata.id
    await put(local, session, "in.csv")
    await put(local, session, "out.csv", b"made", execution_id=id)
    await local("agent_execution", "updateStatus", {"executionId": id, "status": {"phase": "EXECUTION_COMPLETED"}})
    await local("agent_execution", "delete", {"value": id})
    assert sorted(await paths(local, session)) == ["in.csv", "out.csv"]
    with pytest.raises(NotFoundError):
        await paths(local, id)
    await local("session", "delete", {"value": session})
    await until_kept(tmp_path, 0)


async def test_an_execution_that_has_ended_takes_no_file(local: Api) -> None:
    execution = await execution_of(local)
    session, id = execution.spec.session_id, execution.metadata.id
    await local("agent_execution", "updateStatus", {"executionId": id, "status": {"phase": "EXECUTION_COMPLETED"}})
    with pytest.raises(FailedPreconditionError, match="takes no file any more"):
        await put(local, session, "late", execution_id=id)
    other = await execution_of(local)
    with pytest.raises(InvalidArgumentError, match="no execution of session"):
        await put(local, session, "x", execution_id=other.metadata.id)


async def test_a_status_tells_what_was_made(local: Api) -> None:
    id = (await execution_of(local)).metadata.id
    made = [{"path": "out.csv", "bytes": "4", "sha256": sha256(b"made")}]
    status = {"phase": "EXECUTION_IN_PROGRESS", "artifacts": made}
    await local("agent_execution", "updateStatus", {"executionId": id, "status": status})
    done = {"phase": "EXECUTION_COMPLETED"}
    after = await local("agent_execution", "updateStatus", {"executionId": id, "status": done})
    assert [(each.path, each.bytes) for each in after.status.artifacts] == [("out.csv", 4)]


UNSAFE = [
    *("/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\\b", "a\nb", "a\x1b[31m", "a\u202eb", "a\u2028"),
    *(".stigmer/files.json", ".Stigmer/x", "a" * 256, "/".join("a" * 40), "é" * 200),
]


@pytest.mark.parametrize("path", UNSAFE)
async def test_a_path_that_leads_elsewhere_is_refused(local: Api, path: str, tmp_path: Path) -> None:
    session = (await execution_of(local)).spec.session_id
    with pytest.raises(InvalidArgumentError):
        await put(local, session, path)
    assert not list((tmp_path / "storage").rglob("*.bin"))


async def test_names_of_people_are_taken(local: Api) -> None:
    session = (await execution_of(local)).spec.session_id
    wanted = ["Übersicht Juni.csv", "報告/五月.txt", "shot at 5.03\u202fPM.png", "👩\u200d🔬.txt", "-rf", "..a"]
    for path in wanted:
        await put(local, session, path)
    assert await paths(local, session) == wanted


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([], "file.parts.header"),
    ([{"chunk": b"x"}], "file.parts.header"),
    ([{"header": {"path": "a"}}], "required"),
    (
        [{"header": {"session_id": "SES", "path": "a"}}, {"header": {"session_id": "SES", "path": "a"}}],
        "file.parts.order",
    ),
    ([{"header": {"session_id": "SES", "path": "a", "sha256": "0" * 64}}, {"chunk": b"x"}], "file.sha256"),
]


@pytest.mark.parametrize(("sent", "rule"), REFUSED)
async def test_parts_that_make_no_file_are_refused(local: Api, sent: list[dict[str, Any]], rule: str) -> None:
    session = (await execution_of(local)).spec.session_id
    messages = [PART(**each) for each in sent]
    for message in messages:
        if message.header.session_id:
            message.header.session_id = session
    with pytest.raises(InvalidArgumentError) as caught:
        await local.channel.service(COMMANDS).client_stream("put", messages)
    assert rule in {violation.rule_id for violation in caught.value.violations}
    assert await paths(local, session) == []


async def test_too_large_and_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_file, "MOST_FILES", 2)
    async with serve(tmp_path, max_file_bytes=2048) as api:
        session = (await execution_of(api)).spec.session_id
        with pytest.raises(InvalidArgumentError, match="larger than 2048 bytes"):
            await put(api, session, "large", b"x" * 2049)
        for name in ("a", "b", "a"):
            await put(api, session, name)
        with pytest.raises(ResourceExhaustedError, match="has 2 files"):
            await put(api, session, "c")


async def test_a_full_disk_is_told_and_leaves_nothing(local: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    session = (await execution_of(local)).spec.session_id

    def full(source: Path, target: Path, file: IO[bytes]) -> None:
        del source, target, file
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "_place", full)
        with pytest.raises(ResourceExhaustedError, match="disk is full"):
            await put(local, session, "a")
    assert await paths(local, session) == []
    await put(local, session, "a")


async def test_what_is_not_there_is_not_found(local: Api) -> None:
    session = (await execution_of(local)).spec.session_id
    for owner in (session, "ses-none", "aex-none"):
        with pytest.raises(NotFoundError):
            await get(local, owner, "nothing")
    with pytest.raises(NotFoundError):
        await put(local, "ses-none", "a")
    with pytest.raises(InvalidArgumentError, match="no session and no agent execution"):
        await paths(local, "wex-1")


async def test_files_are_of_their_organization(house: House) -> None:
    execution = await execution_of(house.api, org=ACME)
    session, id = execution.spec.session_id, execution.metadata.id
    editor, viewer, runner = [await house.as_(role) for role in ("editor", "viewer", "runner")]
    await put(editor, session, "in.csv")
    await put(runner, session, "out.csv", execution_id=id)
    assert await get(viewer, session, "in.csv") == await get(viewer, id, "out.csv") == CSV
    with pytest.raises(PermissionDeniedError):
        await put(viewer, session, "in.csv")
    foreign = await execution_of(house.api, org=OTHER)
    for owner in (foreign.spec.session_id, foreign.metadata.id):
        with pytest.raises(NotFoundError):
            await paths(editor, owner)
    with pytest.raises(NotFoundError):
        await put(editor, foreign.spec.session_id, "in.csv")
    with pytest.raises(NotFoundError):
        await editor.channel.service(COMMANDS).unary("delete", {"sessionId": foreign.spec.session_id, "path": "x"})


async def test_files_go_in_and_out_over_http(tmp_path: Path) -> None:
    async with serve_http(tmp_path) as front:
        session = (await execution_of(front.api)).spec.session_id
        path = f"/v1/sessions/{session}/files/reports%2FJune%20%C3%BC.csv"
        made = await front.client.put(path, content=CSV, headers=BYTES, params={"executable": "true"})
        assert (made.status_code, made.json()["path"]) == (200, "reports/June ü.csv"), made.text
        assert (await front.client.get(f"/v1/sessions/{session}/files")).json()["entries"] == [made.json()]
        got = await front.client.get(path)
        assert (got.content, got.headers["content-type"]) == (CSV, "application/octet-stream")
        told = got.headers["content-disposition"]
        assert told == "attachment; filename=\"June--.csv\"; filename*=UTF-8''June%20%C3%BC.csv"
        assert (await front.client.put(f"/v1/sessions/{session}/files/..%2Fx", content=CSV, headers=BYTES)).is_error
        assert (await front.client.delete(path)).json() == {}
        assert (await front.client.get(path)).status_code == 404


async def test_a_backup_names_the_content_of_files(local: Api) -> None:
    session = (await execution_of(local)).spec.session_id
    await put(local, session, "a")
    (record,) = (await local.app.resources.store.list(files.of(session))).records
    assert list(artifacts_named(registry(), record)) == [FILES.key_of(sha256(CSV))]


async def test_a_fork_of_a_session_has_its_files_and_keeps_them(api: Api) -> None:
    made = await execution_of(api)
    session = made.spec.session_id
    await put(api, session, "in/cities.csv")
    report = {"executionId": made.metadata.id, "status": {"phase": "EXECUTION_COMPLETED"}}
    await api("agent_execution", "updateStatus", report)
    forks = api.channel.service("ai.stigmer.agentic.session.v1.SessionForkController")
    fork = (await forks.unary("fork", {"id": session})).metadata.id
    await put(api, session, "in/cities.csv", b"changed")
    await put(api, session, "in/more.csv")
    assert (await paths(api, fork), await get(api, fork, "in/cities.csv")) == (["in/cities.csv"], CSV)
    await api("session", "delete", {"value": session})
    assert await get(api, fork, "in/cities.csv") == CSV


FORKS = "ai.stigmer.agentic.session.v1.SessionForkController"


async def ended_session(api: Api) -> str:
    made = await execution_of(api)
    report = {"executionId": made.metadata.id, "status": {"phase": "EXECUTION_COMPLETED"}}
    await api("agent_execution", "updateStatus", report)
    return str(made.spec.session_id)


async def test_a_fork_of_a_fork_in_which_nothing_was_said_has_the_files_of_that_fork(local: Api) -> None:
    session = await ended_session(local)
    await put(local, session, "first.csv")
    forks = local.channel.service(FORKS)
    fork = (await forks.unary("fork", {"id": session})).metadata.id
    await put(local, fork, "second.csv")
    await local("session", "delete", {"value": session})
    again = await forks.unary("fork", {"id": fork})
    assert await paths(local, again.metadata.id) == ["first.csv", "second.csv"]


async def test_a_session_that_is_deleted_while_it_is_forked_has_no_fork(
    local: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, draft = await ended_session(local), drafts.draft

    async def drafted(*given: Any) -> Any:
        await local("session", "delete", {"value": session})
        return await draft(*given)

    monkeypatch.setattr(drafts, "draft", drafted)
    with pytest.raises(NotFoundError, match=session):
        await local.channel.service(FORKS).unary("fork", {"id": session})
    assert not (await local("session", "list", {})).entries


async def test_a_fork_that_is_asked_for_again_is_the_one_that_was_made(local: Api) -> None:
    session, forks = await ended_session(local), local.channel.service(FORKS)
    key = {"x-stigmer-idempotency-key": "once"}
    made = await forks.unary("fork", {"id": session}, metadata=key)
    await local("session", "delete", {"value": session})
    assert await forks.unary("fork", {"id": session}, metadata=key) == made
