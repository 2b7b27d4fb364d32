"""Callers that begin an upload and fall silent: they are told, and nothing of what they sent stays."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import DeadlineExceededError
from stigmer_protos import descriptors

from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
BYTES = b"half of it"
SKILLS = "ai.stigmer.agentic.skill.v1.SkillTransferController"
FILES = "ai.stigmer.files.v1.FileCommandController"
RUNTIME = "ai.stigmer.runtime.v1.ExecutionRuntimeController"


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncGenerator[Api]:
    async with serve(tmp_path, transport="tcp", upload_idle_seconds=0.2) as client:
        yield client


async def skill(api: Api, make: Make) -> Any:
    return {"name": "House style", "scope": "organization", "org": "local"}


async def file(api: Api, make: Make) -> Any:
    return {"sessionId": (await make(api, "session")).metadata.id, "path": "data.csv"}


async def value(api: Api, make: Make) -> Any:
    key = hashlib.sha256(BYTES).hexdigest()
    execution = await make(api, "workflow_execution")
    return {"executionId": execution.metadata.id, "value": {"key": key, "bytes": "10"}}


UPLOADS = [(SKILLS, "pushParts", skill), (FILES, "put", file), (RUNTIME, "putValue", value)]


def test_every_upload_is_tried_here() -> None:
    services = [descriptors.pool().FindServiceByName(name) for kind in descriptors.KINDS for name in kind.services]
    services += [descriptors.pool().FindServiceByName(name) for name in (FILES, RUNTIME)]
    uploads = {
        (service.full_name, each.name) for service in services for each in service.methods if each.client_streaming
    }
    assert uploads == {(service, method) for service, method, _ in UPLOADS}


@pytest.mark.parametrize("sent", [0, 1, 2], ids=["nothing", "a header", "half of it"])
@pytest.mark.parametrize(("service", "method", "header"), UPLOADS, ids=[method for _, method, _ in UPLOADS])
async def test_who_falls_silent_is_told_so_and_leaves_nothing(
    impatient: Api, make: Make, tmp_path: Path, service: str, method: str, header: Any, sent: int
) -> None:
    part = descriptors.message_type(
        descriptors.pool().FindServiceByName(service).methods_by_name[method].input_type.full_name
    )
    parts = [{"header": await header(impatient, make)}, part(chunk=BYTES)]

    async def stalls() -> AsyncIterator[Any]:
        for each in parts[:sent]:
            yield each
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceededError, match=r"no part of the request came for 0\.2 seconds; send it again"):
        await impatient.channel.service(service).client_stream(method, stalls(), timeout=60)
    assert not [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]


async def test_who_is_slow_but_not_silent_is_waited_for(impatient: Api, make: Make) -> None:
    async def slowly() -> AsyncIterator[Any]:
        yield {"header": await file(impatient, make)}
        for _ in range(5):
            await asyncio.sleep(0.06)  # in all more than may pass between two parts
            yield part(chunk=b"x")

    part = descriptors.message_type("ai.stigmer.files.v1.PutFilePart")
    put = await impatient.channel.service(FILES).client_stream("put", slowly(), timeout=60)
    assert put.bytes == 5
