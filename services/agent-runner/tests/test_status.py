"""Events in, the contract's status out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agent_runner.errors import ExecutionEndedError
from agent_runner.status.builder import StatusBuilder
from agent_runner.status.components import component_type
from agent_runner.status.reporter import StatusReporter
from agent_runner.testing import enum_name, phase
from agent_runner.turn.events import Answered, Planned, Resumed, Said, Todo, ToolFinished, ToolRequest, ToolStarted
from google.protobuf import json_format
from stigmer_protos.descriptors import message_type
from stigmer_runner.redaction import Redactor


def _clock() -> Iterator[str]:
    for second in range(60):
        yield f"2026-01-01T00:00:{second:02d}.000Z"


def builder(status: Any = None, *secrets: str) -> StatusBuilder:
    ticks = _clock()
    made = status or message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionStatus")()
    return StatusBuilder(made, Redactor(secrets), clock=lambda: next(ticks))


def request(name: str = "ls", call_id: str = "call-1", **args: Any) -> ToolRequest:
    return ToolRequest(id=call_id, name=name, args=args)


def test_a_draft_becomes_the_answer_in_its_place() -> None:
    made = builder()
    made.said_by_person("e", "Hello")
    made.observe(Said(draft="model:1", text="Hi "))
    made.notice("n", "A notice")
    made.observe(Said(draft="model:1", text="there"))
    assert [message.content for message in made.status.messages] == ["Hello", "Hi there", "A notice"]
    made.observe(Answered(draft="model:1", message_id="m1", text="Hi there!"))
    assert [message.content for message in made.status.messages] == ["Hello", "Hi there!", "A notice"]


def test_events_that_are_told_twice_change_nothing() -> None:
    made = builder()
    events = [
        Answered(draft="m1", message_id="m1", text="Hi", requests=(request(path="/"),)),
        ToolStarted(request=request(path="/")),
        ToolFinished(request=request(path="/"), text="nothing"),
        Planned(todos=(Todo(content="look", status="completed"),)),
    ]
    for event in events:
        made.observe(event)
    before = made.status.SerializeToString(deterministic=True)
    for event in events:
        made.observe(event)
    assert made.status.SerializeToString(deterministic=True) == before


def test_a_call_is_the_same_in_the_list_and_in_its_message() -> None:
    made = builder()
    made.observe(Answered(draft="d", message_id="m1", text="", requests=(request("execute"), request("ls", "call-2"))))
    made.observe(ToolStarted(request=request("execute")))
    made.observe(ToolFinished(request=request("execute"), text="it broke", failed=True))
    assert list(made.status.tool_calls) == list(made.status.messages[0].tool_calls)
    failed, pending = made.status.tool_calls
    assert (enum_name(failed, "status"), failed.error, failed.result) == ("TOOL_CALL_FAILED", "it broke", "")
    assert (enum_name(pending, "status"), pending.started_at) == ("TOOL_CALL_PENDING", "")


def test_a_secret_is_taken_out_of_everything_even_when_it_comes_in_pieces() -> None:
    made = builder(None, "s3cret-value")
    made.said_by_person("e", "it is s3cret-value")
    made.observe(Said(draft="d", text="s3cret-"))
    made.observe(Said(draft="d", text="value"))
    call = ToolRequest(id="call-1", name="write_file", args={"s3cret-value": {"deep": ["s3cret-value", 1, None]}})
    made.observe(Answered(draft="d", message_id="m", text="s3cret-value", requests=(call,)))
    made.observe(ToolFinished(request=call, text="s3cret-value"))
    made.observe(Planned(todos=(Todo(content="s3cret-value", status="pending"),)))
    made.finish("EXECUTION_FAILED", error="s3cret-value")
    assert "s3cret-value" not in json_format.MessageToJson(made.status)


@pytest.mark.parametrize("text", ["half \ud800 a character", "nul \0 inside", "x" * 1_000_000])
def test_any_text_of_a_model_or_a_tool_fits_into_a_status(text: str) -> None:
    made = builder()
    call = request("t", value=text, number=float("nan"), big=2**70)
    made.observe(Answered(draft="d", message_id="m", text=text, requests=(call,)))
    made.observe(ToolFinished(request=call, text=text))
    assert 0 < made.status.ByteSize() < 300_000


def test_the_end_leaves_nothing_open() -> None:
    made = builder()
    task = request("task", subagent_type="helper", description="Look")
    made.start()
    made.observe(Answered(draft="d", message_id="m", text="", requests=(task, request("ls", "call-2"))))
    made.observe(ToolStarted(request=task))
    made.finish("EXECUTION_CANCELLED")
    assert phase(made.status) == "EXECUTION_CANCELLED"
    assert {enum_name(call, "status") for call in made.status.tool_calls} == {"TOOL_CALL_INTERRUPTED"}
    assert enum_name(made.status.sub_agent_executions[0], "status") == "SUB_AGENT_CANCELLED"
    assert made.status.completed_at


def test_what_a_killed_attempt_told_and_nobody_kept_is_dropped() -> None:
    first = builder()
    first.said_by_person("e", "Hello")
    task = request("task", "call-task", subagent_type="helper", description="Look")
    first.observe(Answered(draft="d1", message_id="kept", text="Kept", requests=(task,)))
    first.observe(ToolStarted(request=task))
    first.observe(ToolFinished(request=request("ls", "call-inner"), text="seen", task="call-task"))
    first.observe(Answered(draft="d2", message_id="lost", text="Lost", requests=(request("ls", "call-lost"),)))
    first.observe(Said(draft="d3", text="half a sen"))
    second = builder(first.status)
    second.keep_answers({"kept"})
    assert [message.content for message in second.status.messages] == ["Hello", "Kept"]
    assert [call.id for call in second.status.tool_calls] == ["call-task", "call-inner"]
    second.observe(ToolFinished(request=task, text="found"))
    assert second.status.messages[1].tool_calls[0].result == second.status.tool_calls[0].result == "found"


def test_what_a_lost_answer_of_a_sub_agent_asked_for_is_dropped_when_it_goes_on() -> None:
    made = builder()
    task, other = request("task", "call-task"), request("task", "call-other")
    made.observe(Answered(draft="d1", message_id="m1", text="", requests=(task, other)))
    made.observe(ToolFinished(request=request("ls", "call-made"), text="seen", task="call-task"))
    made.observe(Answered(draft="d2", message_id="m2", text="", requests=(request("ls", "lost"),), task="call-task"))
    made.observe(Answered(draft="d3", message_id="m3", text="", requests=(request("ls", "open"),), task="call-other"))
    made.observe(Resumed(task="call-task"))
    assert [call.id for call in made.status.tool_calls] == ["call-task", "call-other", "call-made", "open"]
    made.observe(ToolFinished(request=request("ls", "open"), text="seen", task="call-other"))
    assert made.status.tool_calls[3].result == "seen"


def test_a_plan_keeps_its_order_and_loses_what_was_dropped() -> None:
    made = builder()
    made.observe(Planned(todos=tuple(Todo(content=f"step {number}", status="pending") for number in range(12))))
    made.observe(Planned(todos=(Todo(content="step 3", status="in_progress"), Todo(content="new", status="odd"))))
    todos = [made.status.todos[key] for key in sorted(made.status.todos)]
    assert [(todo.content, enum_name(todo, "status")) for todo in todos] == [
        ("step 3", "TODO_IN_PROGRESS"),
        ("new", "TODO_PENDING"),
    ]
    assert todos[0].created_at < todos[0].updated_at


async def test_whoever_settles_hears_that_the_report_under_way_was_refused() -> None:
    under_way, refused = asyncio.Event(), asyncio.Event()

    async def push(_: Any) -> None:
        under_way.set()
        await refused.wait()
        raise ExecutionEndedError("it was deleted")

    reporter = StatusReporter(builder(), push, seconds=1)
    first = asyncio.create_task(reporter.flush())
    await under_way.wait()
    second = asyncio.create_task(reporter.settle())
    refused.set()
    assert [type(each) for each in await asyncio.gather(first, second, return_exceptions=True)] == [
        ExecutionEndedError,
        ExecutionEndedError,
    ]


@pytest.mark.parametrize(
    ("tool", "kind"),
    [("execute", "terminal"), ("write_todos", "todo"), ("edit_file", "editor"), ("k8s_get", "kubernetes"), ("pay", "")],
)
def test_a_tools_name_tells_how_to_show_it(tool: str, kind: str) -> None:
    assert component_type(tool) == kind
