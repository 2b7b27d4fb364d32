"""Containers on a real Docker or Podman, where STIGMER_TEST_CONTAINER_SOCKET names its socket, which has `alpine`."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import httpx2
import pytest
from workflow_runner.testing import Runs, StartRunner

SOCKET = os.environ.get("STIGMER_TEST_CONTAINER_SOCKET", "")
pytestmark = pytest.mark.skipif(not SOCKET, reason="STIGMER_TEST_CONTAINER_SOCKET names no socket")


@pytest.fixture
async def runs(start_runner: StartRunner) -> Runs:
    return await start_runner(container_socket=Path(SOCKET))


def run(script: str, more: str = "", rest: str = "", before: str = "") -> str:
    container = f"{{image: alpine, command: sh -c, arguments: ['{script}'{more}}}"
    return f"do:\n- it: {{{before}run: {{container: {container}{rest}}}}}"


async def test_a_container_is_given_all_that_it_is_to_have(runs: Runs) -> None:
    script = 'cat; echo "[$1][$WORD]"; echo aside >&2'
    more = ", sh, '${ .word }'], stdin: '${ .word }', environment: {WORD: '${ .word }'}"
    output = await runs.output(run(script, more, ", return: all"), {"word": "wort"})
    assert output == {"code": 0, "stdout": "wort[wort][wort]", "stderr": "aside"}


async def test_a_container_has_no_network_few_rights_and_bounded_memory(runs: Runs) -> None:
    script = "cat /sys/class/net/*/operstate | grep -c up; grep NoNewPrivs /proc/self/status"
    assert (await runs.output(run(script, "]", ", return: all")))["stdout"].split() == ["0", "NoNewPrivs:", "1"]
    greedy = "dd if=/dev/zero of=/dev/null bs=1G count=1"
    detail = (await runs.error(run(greedy, "]")))["detail"]
    assert "too much memory" in detail or "exit code 137" in detail  # Podman does not tell of what it kills for it


async def test_a_container_that_fails_tells_its_code(runs: Runs) -> None:
    assert await runs.output(run("exit 3", "]", ", return: code")) == 3
    error = await runs.error(run("echo broken >&2; exit 3", "]"))
    assert "broken" in error["detail"]
    assert error["type"].endswith("/runtime")


async def test_a_container_ends_with_the_time_of_its_task(runs: Runs) -> None:
    error = await runs.error(run("sleep 60", "]", before="timeout: {after: PT1S}, "))
    assert error["type"].endswith("/timeout")


async def test_an_image_that_is_nowhere_is_told(runs: Runs) -> None:
    document = "do:\n- it: {run: {container: {image: 'localhost:1/none/such:1'}}}"
    error = await runs.error(document)
    assert "localhost:1/none/such:1" in error["detail"]


async def test_nothing_is_left_of_a_container(runs: Runs) -> None:
    named = "do:\n- it: {run: {container: {name: '${ .name }', image: alpine, command: 'true'}}}"
    name = f"stigmer-test-{uuid.uuid4().hex}"
    await runs.output(named, {"name": name})
    transport = httpx2.AsyncHTTPTransport(uds=SOCKET)
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as engine:
        assert (await engine.get(f"/containers/{name}/json")).status_code == 404
