"""What the log says, to people and to programs: a real process's standard error, line by line."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from stigmer_grpc import NotFoundError, UnauthenticatedError

from stigmer_server.logs import configure_logs
from stigmer_server.settings import Settings
from stigmer_server.testing import ServerProcess, manifest


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    root.handlers[:] = handlers
    logger.remove()


def configured(**settings: Any) -> None:
    configure_logs(Settings.model_validate(settings))


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_an_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configured(env="production")
    with logger.contextualize(request_id="r-1"):
        logger.info("{method} {code} in {ms:.1f} ms", method="/a/b", code="OK", ms=1.23456)
    (line,) = json_lines(capsys)
    assert line.pop("time") > 1_700_000_000
    assert line.pop("logger").endswith("test_logs")
    assert line == {
        "level": "info",
        "message": "/a/b OK in 1.2 ms",
        "request_id": "r-1",
        "method": "/a/b",
        "code": "OK",
        "ms": 1.235,
    }


def test_an_error_comes_with_its_traceback_and_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    configured(env="production")
    hidden = "canary-5510"
    try:
        raise ValueError(len(hidden))
    except ValueError:
        logger.exception("it failed")
    (line,) = json_lines(capsys)
    assert (line["error"], line["level"]) == ("ValueError: 11", "error")
    assert "test_logs.py" in line["traceback"]
    assert "canary" not in line["traceback"]


def test_text_for_people_names_the_fields_that_it_does_not_say(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    logger.info("{method} {code}", method="/a/{b}", code="OK", caller="<red>me{x}</red>")
    line = capsys.readouterr().err
    assert line.endswith(" INFO    /a/{b} OK caller=<red>me{x}</red>\n")


@pytest.mark.parametrize(("level", "heard"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_libraries_are_heard_from_the_same_level_on(capsys: pytest.CaptureFixture[str], level: str, heard: int) -> None:
    configured(env="production", log_level=level)
    library = logging.getLogger("a.library")
    library.debug("one %s", "{x}")
    library.info("two")
    library.warning("three")
    lines = json_lines(capsys)
    assert len(lines) == heard
    assert {line["logger"] for line in lines} <= {"a.library"}


def test_warnings_of_python_are_lines_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configured(env="production")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("take care", stacklevel=1)
    (line,) = json_lines(capsys)
    assert (line["level"], "take care" in line["message"]) == ("warning", True)


@pytest.mark.slow
async def test_every_line_of_a_call_has_the_id_of_its_request(tmp_path: Path) -> None:
    variables: Any = {"STIGMER_SLOW_CALL_SECONDS": "0.0000001", "STIGMER_AUTH": "token"}
    server = ServerProcess(tmp_path, ENV="production", LOG_LEVEL="debug", **variables)
    try:
        api = await server.ready()
        signed = {"authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}
        sent = manifest("agent", "Logged", {"instructions": "Answer every question in one sentence."})
        await api("agent", "create", sent, metadata={**signed, "x-request-id": "mine-1"})
        with pytest.raises(NotFoundError):
            await api("agent", "get", {"value": "agt-none"}, metadata={**signed, "x-request-id": "mine-2"})
        with pytest.raises(UnauthenticatedError):
            await api("agent", "get", {"value": "agt-none"}, metadata={"x-request-id": "mine-3"})
        server.process.terminate()
        code, told = await server.ended()
    finally:
        await server.close()
    assert code == 0
    lines = [json.loads(line) for line in told.splitlines()]
    ended = {line.get("request_id"): line for line in lines if "code" in line}
    made, missing = ended["mine-1"], ended["mine-2"]
    assert (made["code"], made["level"]) == ("OK", "warning")
    assert made["caller"] == missing["caller"] != ""
    assert "caller" not in ended["mine-3"]
    assert signed["authorization"].removeprefix("Bearer ") not in told
    assert made["message"].endswith(", which is slow")
    assert made["method"] == "/ai.stigmer.agentic.agent.v1.AgentCommandController/create"
    assert (missing["code"], missing["level"]) == ("NOT_FOUND", "warning")
    assert missing["ms"] > 0
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


@pytest.mark.slow
async def test_http_hands_on_the_id_of_a_request(tmp_path: Path) -> None:
    import httpx2

    server = ServerProcess(tmp_path, "--http-port", "0", ENV="production", LOG_LEVEL="debug")
    try:
        await server.ready()
        async with asyncio.timeout(20):
            while "serving HTTP at " not in server.said():  # noqa: ASYNC110 - a process tells it in its log
                await asyncio.sleep(0.05)
        address = server.said().partition("serving HTTP at ")[2].partition('"')[0]
        async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
            answer = await client.get("/v1/agents/agt-none", headers={"x-request-id": "over-http"})
        assert answer.status_code == 404
        server.process.terminate()
        _, told = await server.ended()
    finally:
        await server.close()
    lines = [json.loads(line) for line in told.splitlines()]
    assert [line["code"] for line in lines if line.get("request_id") == "over-http"] == ["NOT_FOUND"]
