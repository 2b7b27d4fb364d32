"""Resources of any kind: their versions, the way back, deletion and watches."""

from __future__ import annotations

from typing import Any

import pytest

_VERSION = "ResourceController/getRevision"
_VERSIONS = "ResourceController/listRevisions"
_ROLLBACK = "ResourceCommandController/rollback"
_DELETE = "ResourceCommandController/delete"
_WATCH = "ResourceController/watch"


@pytest.mark.rpc(_VERSIONS)
@pytest.mark.rpc(_VERSION)
@pytest.mark.rpc(_ROLLBACK)
def test_a_resource_goes_back_to_what_it_was(client: Any, make: Any) -> None:
    made = make("environment", "Staging", labels={"team": "blue"})
    request = client.plain(made)
    request["metadata"] |= {"labels": {"team": "red"}, "version": {"message": "another team"}}
    client("environment/update", request)
    named = {"kind": "environment", "id": made.metadata.id}
    returned = client(_ROLLBACK, {**named, "version": "1", "message": "the first one after all"})
    assert client.plain(returned)["resource"]["metadata"]["labels"] == {"team": "blue"}
    listed = client(_VERSIONS, named)
    assert [(entry.version, entry.event, entry.message) for entry in listed.entries] == [
        ("3", "rolled_back", "the first one after all"),
        ("2", "updated", "another team"),
        ("1", "created", ""),
    ]
    second = client(_VERSION, {**named, "version": "2"})
    assert client.plain(second)["resource"]["metadata"]["labels"] == {"team": "red"}


@pytest.mark.rpc(_VERSIONS, "NOT_FOUND")
@pytest.mark.rpc(_VERSION, "NOT_FOUND")
@pytest.mark.rpc(_ROLLBACK, "NOT_FOUND")
@pytest.mark.rpc(_DELETE, "NOT_FOUND")
def test_what_is_not_there_is_not_found(client: Any, make: Any) -> None:
    made = make("environment", "Staging")
    nobody = {"kind": "environment", "id": "env-01jb6j0e8m4tz5v9k3w7x2y1qn"}
    client.refused(_VERSIONS, nobody, "NOT_FOUND")
    client.refused(_DELETE, nobody, "NOT_FOUND")
    for name in (_VERSION, _ROLLBACK):
        client.refused(name, {**nobody, "version": "1"}, "NOT_FOUND")
        client.refused(name, {"kind": "environment", "id": made.metadata.id, "version": "2"}, "NOT_FOUND")


@pytest.mark.rpc(_VERSIONS, "INVALID_ARGUMENT")
@pytest.mark.rpc(_VERSION, "INVALID_ARGUMENT")
@pytest.mark.rpc(_ROLLBACK, "INVALID_ARGUMENT")
@pytest.mark.rpc(_DELETE, "INVALID_ARGUMENT")
@pytest.mark.rpc(_WATCH, "INVALID_ARGUMENT")
def test_what_means_nothing_is_invalid(client: Any) -> None:
    named = {"kind": "environment", "id": "env-1"}
    assert set(client.refused(_VERSIONS, {"kind": "environment"}, "INVALID_ARGUMENT").fields) == {"id"}
    for name in (_VERSION, _ROLLBACK):
        assert set(client.refused(name, named, "INVALID_ARGUMENT").fields) == {"version"}
    assert set(client.refused(_DELETE, {"id": "env-1"}, "INVALID_ARGUMENT").fields) == {"kind"}
    assert set(client.refused(_DELETE, {"kind": "platform", "id": "x"}, "INVALID_ARGUMENT").fields) == {"kind"}
    for request, field in (
        ({"resumeToken": "of somebody else"}, "resume_token"),
        ({"selector": "team in blue"}, "selector"),
        ({"kinds": ["environment", "platform"]}, "kinds[1]"),
    ):
        assert set(client.refused(_WATCH, request, "INVALID_ARGUMENT").fields) == {field}


@pytest.mark.rpc(_ROLLBACK, "FAILED_PRECONDITION")
def test_an_execution_does_not_go_back(client: Any, make: Any) -> None:
    made = make("agent_execution", "Turn")
    request = {"kind": "agent_execution", "id": made.metadata.id, "version": "1"}
    assert "not rolled back" in client.refused(_ROLLBACK, request, "FAILED_PRECONDITION").message


@pytest.mark.rpc(_DELETE)
@pytest.mark.rpc(_DELETE, "FAILED_PRECONDITION")
def test_a_deletion_tells_what_went(client: Any, make: Any) -> None:
    agent = make("agent", "One")
    session = make("session", "Talk", spec={"agentInstanceId": agent.status.default_instance_id})
    request = {"kind": "agent", "id": agent.metadata.id}
    assert session.metadata.id in client.refused(_DELETE, request, "FAILED_PRECONDITION").message
    expected = [session.metadata.id, agent.status.default_instance_id, agent.metadata.id]
    for metadata in ({"x-stigmer-dry-run": "true"}, {}):
        told = client(_DELETE, {**request, "force": True}, metadata=metadata)
        assert [entry.id for entry in told.entries] == expected
    client.refused("agent/get", {"value": agent.metadata.id}, "NOT_FOUND")


@pytest.mark.rpc(_WATCH)
def test_a_watch_tells_what_is_there_and_what_happens(client: Any, make: Any) -> None:
    first = make("environment", "First")
    request = {"kinds": ["environment"], "org": client.org, "snapshot": True}
    events = client.stream(_WATCH, request)
    created, synced = next(events), next(events)
    assert (created.type, created.resource.id, created.resume_token) == (1, first.metadata.id, "")
    assert (synced.type, bool(synced.resume_token)) == (4, True)
    second = make("environment", "Second")
    told = next(events)
    assert (told.type, told.resource.id, told.resource.slug) == (1, second.metadata.id, "second")
    events.close()
    client(_DELETE, {"kind": "environment", "id": second.metadata.id})
    resumed = client.stream(_WATCH, {"kinds": ["environment"], "org": client.org, "resumeToken": told.resume_token})
    gone = next(resumed)
    assert (gone.type, gone.resource.id, gone.HasField("state")) == (3, second.metadata.id, False)
    resumed.close()
