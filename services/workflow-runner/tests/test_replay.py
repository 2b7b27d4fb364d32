"""Recorded histories do the same thing again with today's code: no run in flight breaks by an update."""

import atexit
import runpy
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from stigmer_dsl import parse
from stigmer_dsl.model import SetTask, TaskBase
from stigmer_runner.claims import Owner, claim_converter, stores_of
from temporalio.client import WorkflowHistory
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.worker import Interceptor, Replayer
from temporalio.workflow import NondeterminismError
from workflow_runner import names
from workflow_runner.firing import FireWorkflow
from workflow_runner.flow import Outcome
from workflow_runner.settings import Settings
from workflow_runner.tasks import kinds
from workflow_runner.tasks.port import Step
from workflow_runner.testing import HEADER
from workflow_runner.workflow import InvokeWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
CONSTRUCTS = {
    *("set", "do-and-end", "switch", "jumps", "for", "many", "raise", "try", "wait", "timeouts", "workflow-timeout"),
    *(
        "http",
        "http-auth",
        "openapi",
        "grpc",
        "asyncapi",
        "mcp",
        "a2a",
        "call-activity",
        "call-agent",
        "call-agent-files",
        *("head", "over", "over-again"),
        "function",
    ),
    *("human-input", "own-calls", "models", "guarded"),
    *("run-shell", "run-script", "run-container", *("run-workflow", "run-workflow-told"), "large", "invalid"),
    *("fork", "fork-compete", "fork-continued", "fork-local", "ended", "ended-once", "extensions"),
    *("emit", "listen", "listen-events", "listen-until", "listen-foreach", "schedule-fire"),
    *("continued", "continued-kept", "cancelled", "driven", "paused", "paused-continued", "recovered"),
}


@cache
def _blobs() -> Path:
    """Return a copy of the large values: a replay writes there what a run would."""
    folder = Path(tempfile.mkdtemp(prefix="stigmer-histories-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "histories" / "blobs", folder, dirs_exist_ok=True)
    return folder


def replayer(interceptors: Sequence[Interceptor] = ()) -> Replayer:
    """Replays, with the large values that histories refer to at hand."""
    settings = Settings.model_validate({"blob_folder": _blobs()})

    async def lost(_: Owner, detail: str) -> None:
        raise AssertionError(detail)

    converter = claim_converter(settings, stores_of(settings), on_lost=lost)
    return Replayer(workflows=[FireWorkflow, InvokeWorkflow], data_converter=converter, interceptors=interceptors)


def history_of(file: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json("stigmer/workflow-execution/invoke/replayed", file.read_text())


@pytest.mark.requirement("durable.replayed")
@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_a_recorded_history_is_replayed(file: Path) -> None:
    await replayer().replay_workflow(history_of(file))


async def test_traces_change_nothing_of_what_is_replayed() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    interceptors = [TracingInterceptor(provider.get_tracer("test"), always_create_workflow_spans=True)]

    async def all_of_them() -> AsyncIterator[WorkflowHistory]:
        for file in HISTORIES:
            yield history_of(file)

    done = await replayer(interceptors).replay_workflows(all_of_them(), raise_on_replay_failure=False)
    assert done.replay_failures == {}


@pytest.mark.requirement("durable.replayed")
def test_there_is_a_history_of_every_construct() -> None:
    assert {file.stem for file in HISTORIES} >= CONSTRUCTS
    assert len([file for file in HISTORIES if file.stem.startswith("continued")]) > 1


def test_each_kind_of_task_is_in_a_document_that_was_recorded() -> None:
    recorder = runpy.run_path(str(HISTORIES[0].parent / "record.py"))
    found: set[type[TaskBase]] = set()
    recorder["DOCUMENTS"].pop("invalid")
    for document in recorder["DOCUMENTS"].values():
        text = document.replace("SITE", "http://site").replace("ONCE", "{}").replace("PROTO", "{endpoint: http://site}")
        text = text.replace("SHOP", "{name: shop, host: localhost}").replace("MESSAGES", "{endpoint: http://site}")
        found |= set(_kinds(parse(HEADER + text).do))
    assert found >= set(kinds())


def _kinds(value: Any) -> Iterator[type[TaskBase]]:
    """Yield the class of each task in a model, at any depth."""
    if isinstance(value, TaskBase):
        yield type(value)
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _kinds(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in cast("Mapping[Any, Any]", value).values():
            yield from _kinds(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in cast("Sequence[Any]", value):
            yield from _kinds(item)


async def test_a_change_of_what_a_task_does_breaks_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(task: SetTask, step: Step) -> Outcome:
        await step.sleep(timedelta(seconds=1))
        return Outcome(output=step.evaluate(task.set))

    monkeypatch.setattr(kinds()[SetTask], "run", run)
    file = next(file for file in HISTORIES if file.stem == "set")
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(history_of(file))


async def test_a_change_of_an_activity_name_breaks_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(names, "CALL_HTTP", "renamed")
    file = next(file for file in HISTORIES if file.stem == "http")
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(history_of(file))
