"""What a runner answers to servers that know the contract only."""

from typing import Any

from stigmer_protos import descriptors
from stigmer_runner.contract import answer_of, message_of

STATUS = "ai.stigmer.agentic.agentexecution.v1.AgentExecutionStatus"


def test_an_answer_has_nothing_that_was_added_to_the_contract_and_changes_nothing() -> None:
    status: Any = descriptors.message_type(STATUS)()
    status.status_reason = "added"
    status.todos["1"].content = "look"
    status.messages.add(content="hello").metadata.update({"deep": {"1000": True}})
    answer = message_of(answer_of(status, most_bytes=10_000), STATUS)

    assert status.status_reason == "added"
    assert not answer.status_reason
    assert answer.todos["1"].content == "look"
    assert answer.messages[0].metadata["deep"]["1000"] is True


def test_values_of_enums_go_as_numbers_so_that_unknown_ones_can_be_read() -> None:
    status: Any = descriptors.message_type(STATUS)()
    status.phase = 6
    assert answer_of(status, most_bytes=10_000).payload.data == b'{"phase":6}'


def test_an_answer_that_is_too_large_leaves_fields_out_in_their_order() -> None:
    status: Any = descriptors.message_type(STATUS)()
    status.tool_calls.add(result="x" * 1000)
    status.messages.add(content="hello")
    answer = message_of(answer_of(status, most_bytes=500, less=("tool_calls", "messages")), STATUS)

    assert not answer.tool_calls
    assert answer.messages[0].content == "hello"
