"""Requests made up from the server's own description: none fails it, and every answer is as described."""

from __future__ import annotations

import asyncio
import sysconfig
from pathlib import Path

import pytest

from stigmer_server.http.testing import Front

CHECKS = (
    "not_a_server_error",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_made_up_requests_find_no_fault(front: Front, tmp_path: Path) -> None:
    await front.agent()
    program = Path(sysconfig.get_path("scripts")) / "schemathesis"
    # Streams that never end are left out: it waits for whole answers.
    process = await asyncio.create_subprocess_exec(
        str(program), "run", f"http://127.0.0.1:{front.port}/openapi.json",
        "--phases", "coverage,fuzzing", "--max-time", "20", "--seed", "7", "--workers", "1",
        "--checks", ",".join(CHECKS), "--exclude-path-regex", "(watch$|/events|subscribe$)",
        "--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    told = (await process.stdout.read()).decode()
    assert await process.wait() == 0, told[-8000:]
    assert (await front.client.get("/healthz")).status_code == 200
