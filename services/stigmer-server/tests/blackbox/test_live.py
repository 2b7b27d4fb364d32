"""What agents say, while they say it."""

from __future__ import annotations

from typing import Any

import pytest

_FOLLOW, _TELL = "agent_execution/follow", "agent_execution/tell"
_REPORT = "agent_execution/updateStatus"
_ENDED = {"phase": "EXECUTION_COMPLETED", "messages": [{"type": "MESSAGE_AI", "content": "Good morning, Ada."}]}


def said(offset: int, text: str, **more: Any) -> dict[str, Any]:
    return {"key": "answer", "position": 1, "offset": offset, "text": text, **more}


def tell(client: Any, id: str, *deltas: dict[str, Any]) -> None:
    client(_TELL, {"executionId": id, "deltas": list(deltas)})


@pytest.mark.rpc(_FOLLOW)
@pytest.mark.rpc(_TELL)
def test_words_come_between_the_states_each_once(client: Any, make: Any) -> None:
    made = make("agent_execution")
    id = made.metadata.id
    tell(client, id, said(0, "Good "), said(5, "day"))
    news = client.stream(_FOLLOW, {"value": id})
    assert next(news).execution == made
    first = next(news).delta
    assert (first.key, first.position, first.offset, first.text) == ("answer", 1, 0, "Good day")
    tell(client, id, said(8, ", Ada"))
    more = next(news).delta
    assert (more.offset, more.text) == (8, ", Ada")
    # What was said is taken back from the sixth character on.
    tell(client, id, said(5, "morning, Ada.", finished=True))
    last = next(news).delta
    assert (last.offset, last.text, last.finished) == (5, "morning, Ada.", True)
    late = client.stream(_FOLLOW, {"value": id})
    assert next(late).execution.metadata.id == id
    assert next(late).delta.text == "Good morning, Ada."
    ended = client(_REPORT, {"executionId": id, "status": _ENDED})
    for reader in (news, late):
        assert [each.execution for each in reader] == [ended]
    tell(client, id, said(0, "too late"))
    assert [each.execution for each in client.stream(_FOLLOW, {"value": id})] == [ended]


@pytest.mark.rpc(_TELL)
def test_of_a_text_whose_beginning_nobody_has_the_rest_is_told(client: Any, make: Any) -> None:
    id = make("agent_execution").metadata.id
    tell(client, id, said(7, "Ada"), {"key": "thought", "position": -1, "thinking": True, "text": "Hm."})
    news = client.stream(_FOLLOW, {"value": id})
    next(news)
    told = [next(news).delta, next(news).delta]
    assert [(each.offset, each.text, each.thinking) for each in told] == [(7, "Ada", False), (0, "Hm.", True)]
    client(_REPORT, {"executionId": id, "status": _ENDED})


@pytest.mark.rpc(_FOLLOW, "INVALID_ARGUMENT")
@pytest.mark.rpc(_FOLLOW, "NOT_FOUND")
@pytest.mark.rpc(_TELL, "INVALID_ARGUMENT")
@pytest.mark.rpc(_TELL, "NOT_FOUND")
def test_an_execution_is_named_and_there(client: Any, make: Any) -> None:
    assert client.refused(_FOLLOW, None, "INVALID_ARGUMENT").fields == {"value": "required"}
    client.refused(_FOLLOW, {"value": "nothing"}, "NOT_FOUND")
    assert client.refused(_TELL, None, "INVALID_ARGUMENT").fields == {"execution_id": "required"}
    client.refused(_TELL, {"executionId": "nothing", "deltas": [said(0, "a")]}, "NOT_FOUND")
    id = make("agent_execution").metadata.id
    wrong = {"executionId": id, "deltas": [{"key": "", "offset": -1}]}
    assert set(client.refused(_TELL, wrong, "INVALID_ARGUMENT").fields) == {"deltas[0].key", "deltas[0].offset"}
