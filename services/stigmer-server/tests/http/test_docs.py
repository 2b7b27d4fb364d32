"""The examples of docs/http.md, run as they stand."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from stigmer_server.http.testing import Front

DOCS = Path(__file__).parents[4] / "docs" / "http.md"
FAIL_LOUDLY = 'set -euo pipefail\ncurl() { command curl --fail-with-body --max-time 30 "$@"; }\n'


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
async def test_the_examples_work_as_written(front: Front, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    script = "".join(blocks)
    assert script.count("curl ") > 15
    script = script.replace("http://127.0.0.1:8081", f"http://127.0.0.1:{front.port}")
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", FAIL_LOUDLY + script,
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-4000:]
    for part in ('"EXECUTION_CANCELLED"', "event: end", '"specversion":"1.0"', "Release notes", '"totalCount":1'):
        assert part in told.decode()
