"""Tasks that wait for a person, answered as the server passes answers on."""

import asyncio
import uuid
from typing import Any

import pytest
from stigmer_runner import read_value
from temporalio.client import Client, WorkflowHandle
from workflow_runner import names
from workflow_runner.testing import Execution, Runs, StartRunner

WAITING, COMPLETED = 1000, 3
FORM = "{document: {type: object, properties: {amount: {type: integer}}, required: [amount]}}"
Handle = WorkflowHandle[Any, Any]


async def answer(handle: Handle, outcome: str, task: str = "/do/0/ask", **more: Any) -> None:
    """Answer as the server does."""
    given = {"form_data": None, "comment": "", "by": "ada", "at": "2026-01-01T00:00:00Z", **more}
    await handle.signal(names.ANSWER, {"id": uuid.uuid4().hex, "task_id": task, "outcome": outcome, **given})


async def waits(runs: Runs, execution: Execution, task: str = "/do/0/ask") -> Any:
    """Wait until the task is shown to wait, and return what it asks."""
    await runs.peer.until(execution, lambda seen: task in seen.reported and seen.reported[task].status == WAITING)
    return read_value(execution.reported[task].input_value)


async def ended(handle: Handle) -> Any:
    async with asyncio.timeout(30):
        return await handle.result()


@pytest.mark.requirement("call.human-input")
async def test_what_is_asked_is_shown_and_the_answer_is_the_output(runs: Runs) -> None:
    execution = runs.add(
        f"""
do:
- ask:
    call: human_input
    with:
      message: '${{ "Refund " + (.n | tostring) + "?" }}'
      outcomes: [refund, keep]
      form: {FORM}
      assignees: [ada]
      deadline: P30D
- next: {{set: {{answer: '${{ . }}'}}}}
""",
        {"n": 3},
    )
    handle = await runs.start(execution)
    asked = await waits(runs, execution)
    assert asked.pop("deadline").endswith("Z")
    assert asked == {
        "message": "Refund 3?",
        "outcomes": ["refund", "keep"],
        "form": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
        "assignees": ["ada"],
    }
    await answer(handle, "refund", form_data={"amount": 2}, comment="fine")
    assert await ended(handle) == {
        "answer": {
            "outcome": "refund",
            "data": {"amount": 2},
            "comment": "fine",
            "by": "ada",
            "at": "2026-01-01T00:00:00Z",
        }
    }
    assert execution.reported["/do/0/ask"].status == COMPLETED


async def test_an_answer_that_was_not_offered_is_an_error_that_can_be_caught(runs: Runs) -> None:
    execution = runs.add(
        f"""
do:
- t:
    try: [{{ask: {{call: human_input, with: {{message: Go?, form: {FORM}}}}}}}]
    catch: {{errors: {{with: {{status: 400}}}}, do: [{{told: {{set: {{said: '${{ $error.detail }}'}}}}}}]}}
- ask: {{call: human_input, with: {{message: Really?}}}}
"""
    )
    handle = await runs.start(execution)
    inner = "/do/0/t/try/0/ask"
    await waits(runs, execution, inner)
    await answer(handle, "approve", inner, form_data={"amount": "much"})
    await waits(runs, execution, "/do/1/ask")
    assert "amount" in execution.reported[inner].error
    await answer(handle, "perhaps", "/do/1/ask")
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert "'perhaps' is none of the outcomes that are offered: approve, reject" in execution.error["detail"]
    assert execution.error["instance"] == "/do/1/ask"


@pytest.mark.requirement("call.human-input")
async def test_without_an_answer_in_time_the_default_stands_or_the_task_times_out(runs: Runs) -> None:
    output = await runs.output(
        "do:\n- ask: {call: human_input, with: {message: Go?, deadline: PT0.2S, default: reject}}"
    )
    assert (output["outcome"], output["by"], output["data"]) == ("reject", "deadline", {})
    error = await runs.error("do:\n- ask: {call: human_input, with: {message: Go?, deadline: PT0.2S}}")
    assert (error["status"], "nobody has answered until" in error["detail"]) == (408, True)
    error = await runs.error("do:\n- ask: {timeout: {after: PT0.2S}, call: human_input, with: {message: Go?}}")
    assert (error["status"], error["instance"]) == (408, "/do/0/ask")


async def test_a_question_stays_over_a_pause_and_new_histories_and_an_early_answer_counts(
    start_runner: StartRunner, client: Client
) -> None:
    runs = await start_runner(max_history_events=30)
    execution = runs.add(
        """
do:
- ask: {call: human_input, with: {message: '${ "n is " + (.n | tostring) }', deadline: PT1H}}
- more: {call: human_input, with: {message: And now?}}
""",
        {"n": 1},
    )
    handle = await runs.start(execution)
    before = await waits(runs, execution)
    await handle.signal(names.PAUSE, {"id": "p"})
    for number in range(40):
        await handle.signal(names.SIGNAL, {"id": f"s{number}", "name": "unheard", "payload": number})
    await answer(handle, "approve", "/do/1/more")
    await runs.peer.until(execution, lambda seen: len({update.temporal_workflow_id for update in seen.updates}) >= 1)
    assert await waits(runs, execution) == before
    await handle.signal(names.RESUME, {"id": "r"})
    await answer(handle, "approve", form_data={"a": 1})
    output = await ended(client.get_workflow_handle(handle.id))
    assert output["outcome"] == "approve"
    first = await client.get_workflow_handle(handle.id).describe()
    assert first.raw_description.workflow_execution_info.first_run_id != first.run_id


async def test_branches_ask_side_by_side_and_who_loses_asks_no_more(runs: Runs) -> None:
    execution = runs.add(
        """
do:
- both:
    fork:
      branches:
      - a: {call: human_input, with: {message: A?}}
      - b: {call: human_input, with: {message: B?}}
- first:
    fork:
      compete: true
      branches:
      - c: {call: human_input, with: {message: C?}}
      - d: {call: human_input, with: {message: D?}}
"""
    )
    handle = await runs.start(execution)
    a, b, d = "/do/0/both/fork/branches/0/a", "/do/0/both/fork/branches/1/b", "/do/1/first/fork/branches/1/d"
    for task in (a, b):
        await waits(runs, execution, task)
    await answer(handle, "approve", b, by="bob")
    await answer(handle, "reject", a)
    await waits(runs, execution, d)
    await answer(handle, "approve", d)
    assert (await ended(handle))["outcome"] == "approve"


async def test_a_recovered_run_asks_again(runs: Runs) -> None:
    execution = runs.add("do:\n- ask: {call: human_input, with: {message: Go?, outcomes: ['yes']}}")
    handle = await runs.start(execution)
    await waits(runs, execution)
    await answer(handle, "no")
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    again = await runs.recover(execution)
    await waits(runs, execution)
    await answer(again, "yes")
    assert (await ended(again))["outcome"] == "yes"


async def test_a_deadline_beyond_all_calendars_is_a_clear_error(runs: Runs) -> None:
    error = await runs.error("do:\n- ask: {call: human_input, with: {message: Go?, deadline: {days: 99999999}}}")
    assert "the deadline is later than the year 9999" in error["detail"]
    assert error["instance"] == "/do/0/ask"
