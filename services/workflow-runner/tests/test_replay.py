"""Recorded histories do the same thing again with today's code: no run in flight breaks by an update."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from stigmer_dsl.model import SetTask
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
from workflow_runner.workflow import InvokeWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
CONSTRUCTS = {
    *("set", "do-and-end", "switch", "for", "raise", "try", "wait", "http", "http-auth", "openapi", "listen"),
    *(
        "call-activity",
        "grpc",
        "asyncapi",
        "mcp",
        "a2a",
        "function",
        "run-shell",
        "run-script",
        "run-container",
        "large",
    ),
    *("fork", "fork-compete", "fork-continued", "fork-local", "extensions"),
    *("human-input",),
    *("emit", "listen-events", "listen-until", "listen-foreach", "schedule-fire"),
    *("continued", "continued-kept", "cancelled", "paused", "paused-continued", "recovered"),
}


def replayer(interceptors: Sequence[Interceptor] = ()) -> Replayer:
    """Replays, with the large values that histories refer to at hand."""
    settings = Settings.model_validate({"blob_folder": Path(__file__).parent / "histories" / "blobs"})

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


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_traces_change_nothing_of_what_is_replayed(file: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    interceptors = [TracingInterceptor(provider.get_tracer("test"), always_create_workflow_spans=True)]
    await replayer(interceptors).replay_workflow(history_of(file))


@pytest.mark.requirement("durable.replayed")
def test_there_is_a_history_of_every_construct() -> None:
    assert {file.stem for file in HISTORIES} >= CONSTRUCTS
    assert len([file for file in HISTORIES if file.stem.startswith("continued")]) > 1


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
