"""Forks of sessions: where they go on from, and what they cannot."""

from __future__ import annotations

from typing import Any

import pytest

FORK = "session/fork"
ENDED = {"phase": "EXECUTION_COMPLETED"}


def said(client: Any, make: Any, *texts: str, session: str = "") -> tuple[str, list[str]]:
    """Return a session, and its executions, in which a person said these texts and was answered."""
    executions: list[str] = []
    for text in texts:
        spec = {"message": text, **({"sessionId": session, "agentId": ""} if session else {})}
        made = make("agent_execution", spec={**({} if session else {"agentId": make("agent").metadata.id}), **spec})
        session, id = made.spec.session_id, made.metadata.id
        messages = [
            message("MESSAGE_HUMAN", text, id),
            message("MESSAGE_AI", f"answer to {text}", f"answer-{id}"),
            message("MESSAGE_SYSTEM", "by the way", f"notice-{id}"),
        ]
        client("agent_execution/updateStatus", {"executionId": id, "status": {**ENDED, "messages": messages}})
        executions.append(id)
    return session, executions


def message(kind: str, text: str, id: str) -> dict[str, Any]:
    return {"type": kind, "content": text, "metadata": {"message_id": id}}


def place(made: Any) -> tuple[str, str, str]:
    found = made.status.forked_from
    return found.session_id, found.execution_id, found.message_id


@pytest.mark.rpc(FORK)
def test_a_fork_goes_on_from_all_that_was_said(client: Any, make: Any) -> None:
    session, executions = said(client, make, "one", "two")
    original = client("session/get", {"value": session})
    made = client(FORK, {"id": session, "subject": "another way"})
    assert made.metadata.id != session
    assert (made.spec.agent_instance_id, made.spec.subject) == (original.spec.agent_instance_id, "another way")
    assert (made.metadata.org, made.metadata.owner_scope) == (original.metadata.org, original.metadata.owner_scope)
    assert place(made) == (session, executions[1], "")
    assert client("session/get", {"value": made.metadata.id}) == made
    assert client("session/get", {"value": session}) == original


@pytest.mark.rpc(FORK)
def test_a_fork_goes_on_from_an_execution_or_from_a_message(client: Any, make: Any) -> None:
    session, executions = said(client, make, "one", "two")
    first = executions[0]
    assert place(client(FORK, {"id": session, "atExecutionId": first})) == (session, first, "")
    answer = f"answer-{first}"
    assert place(client(FORK, {"id": session, "atMessageId": answer})) == (session, first, answer)
    # The message that an execution begins with is known by the execution's id.
    assert place(client(FORK, {"id": session, "atMessageId": first})) == (session, first, first)


@pytest.mark.rpc(FORK)
def test_a_fork_in_which_nothing_was_said_is_forked_where_it_was(client: Any, make: Any) -> None:
    session, executions = said(client, make, "one", "two")
    fork = client(FORK, {"id": session, "atExecutionId": executions[0]})
    again = client(FORK, {"id": fork.metadata.id})
    assert again.status.forked_from == fork.status.forked_from
    _, own = said(client, make, "three", session=fork.metadata.id)
    assert place(client(FORK, {"id": fork.metadata.id})) == (fork.metadata.id, own[0], "")


@pytest.mark.rpc(FORK)
def test_what_a_session_was_forked_from_is_the_servers_to_say(client: Any, make: Any) -> None:
    session, _ = said(client, make, "one")
    fork = client(FORK, {"id": session, "name": "Another way"})
    assert fork.metadata.slug == "another-way"
    changed = {"forkedFrom": {"sessionId": "ses-other"}}
    sent = make.manifest("session", spec={"agentInstanceId": fork.spec.agent_instance_id})
    assert not client("session/create", {**sent, "status": changed}).status.HasField("forked_from")
    fork.spec.subject = "changed"
    fork.status.forked_from.session_id = "ses-other"
    updated = client("session/update", fork)
    assert (updated.spec.subject, updated.status.forked_from.session_id) == ("changed", session)


@pytest.mark.rpc(FORK, "INVALID_ARGUMENT")
def test_a_fork_says_of_what_and_where(client: Any, make: Any) -> None:
    assert client.refused(FORK, None, "INVALID_ARGUMENT").fields == {"id": "required"}
    session, executions = said(client, make, "one")
    _, others = said(client, make, "other")
    request = {"id": session, "atExecutionId": others[0]}
    assert client.refused(FORK, request, "INVALID_ARGUMENT").fields == {"at_execution_id": "session.fork.execution"}
    for wrong in (
        {"atMessageId": "nothing"},
        {"atExecutionId": executions[0], "atMessageId": f"notice-{executions[0]}"},
    ):
        error = client.refused(FORK, {"id": session, **wrong}, "INVALID_ARGUMENT")
        assert error.fields == {"at_message_id": "session.fork.message"}


@pytest.mark.rpc(FORK, "NOT_FOUND")
def test_there_is_no_fork_of_nothing(client: Any, make: Any) -> None:
    client.refused(FORK, {"id": "ses-nothing"}, "NOT_FOUND")
    client.refused(FORK, {"id": make("session").metadata.id, "atExecutionId": "aex-nothing"}, "NOT_FOUND")


@pytest.mark.rpc(FORK, "ALREADY_EXISTS")
def test_the_name_of_a_fork_is_its_own(client: Any, make: Any) -> None:
    session, _ = said(client, make, "one")
    client(FORK, {"id": session, "name": "Another way"})
    client.refused(FORK, {"id": session, "name": "Another way"}, "ALREADY_EXISTS")


@pytest.mark.rpc(FORK, "FAILED_PRECONDITION")
def test_what_is_not_settled_is_not_forked(client: Any, make: Any) -> None:
    client.refused(FORK, {"id": make("session").metadata.id}, "FAILED_PRECONDITION")
    session, executions = said(client, make, "one")
    running = make("agent_execution", spec={"sessionId": session, "agentId": "", "message": "two"}).metadata.id
    reported = {"phase": "EXECUTION_IN_PROGRESS", "messages": [message("MESSAGE_HUMAN", "two", running)]}
    client("agent_execution/updateStatus", {"executionId": running, "status": reported})
    for where in ({}, {"atExecutionId": running}, {"atMessageId": running}):
        error = client.refused(FORK, {"id": session, **where}, "FAILED_PRECONDITION")
        assert running in error.message
    assert place(client(FORK, {"id": session, "atExecutionId": executions[0]})) == (session, executions[0], "")


@pytest.mark.rpc(FORK)
def test_a_fork_that_is_asked_for_again_by_its_key_is_made_once(client: Any, make: Any) -> None:
    session, _ = said(client, make, "one")
    key = {"x-stigmer-idempotency-key": f"fork-{session}"}
    made = client(FORK, {"id": session}, metadata=key)
    assert client(FORK, {"id": session}, metadata=key) == made
    client.refused(FORK, {"id": session, "name": "other"}, "FAILED_PRECONDITION", metadata=key)
    tried = client(FORK, {"id": session}, metadata={"x-stigmer-dry-run": "true"})
    client.refused("session/get", {"value": tried.metadata.id}, "NOT_FOUND")
