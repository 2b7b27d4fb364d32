"""Schedules: what definitions say, listed and controlled."""

from __future__ import annotations

from typing import Any

import pytest

_LIST, _PAUSE, _RESUME = (f"ScheduleController/{verb}" for verb in ("list", "pause", "resume"))
_TRIGGER, _FIRE = "ScheduleController/trigger", "ScheduleController/fire"
_DEFINITION = """
document: {dsl: 1.0.0, namespace: tests, name: daily, version: 0.1.0}
schedule: {cron: 0 8 * * *}
do:
- nothing: {set: {n: 1}}
"""


@pytest.mark.rpc(_LIST)
@pytest.mark.rpc(_PAUSE)
@pytest.mark.rpc(_RESUME)
@pytest.mark.rpc(_TRIGGER)
@pytest.mark.rpc(_FIRE)
def test_a_schedule_is_listed_paused_resumed_and_fired(client: Any, make: Any) -> None:
    workflow = make("workflow", spec={"definition": _DEFINITION})
    id, org = workflow.metadata.id, workflow.metadata.org
    (listed,) = client(_LIST, {"org": org}).entries
    assert (listed.workflow_id, listed.paused, list(listed.triggers)) == (id, False, ["cron 0 8 * * *"])
    assert client(_PAUSE, {"workflowId": id, "reason": "closed"}).reason == "closed"
    moment = {"workflowId": id, "key": "today", "scheduledAt": "2026-01-01T08:00:00Z"}
    assert not client(_FIRE, moment).execution_id
    assert not client(_RESUME, {"workflowId": id}).paused
    fired = client(_FIRE, moment).execution_id
    assert client(_FIRE, moment).execution_id == fired
    assert client(_TRIGGER, {"workflowId": id}).execution_id not in ("", fired)
    assert client(_LIST, {"org": org}).entries[0].started == 2


@pytest.mark.rpc(_LIST, "INVALID_ARGUMENT")
@pytest.mark.rpc(_PAUSE, "NOT_FOUND")
@pytest.mark.rpc(_RESUME, "NOT_FOUND")
@pytest.mark.rpc(_TRIGGER, "NOT_FOUND")
@pytest.mark.rpc(_FIRE, "NOT_FOUND")
def test_a_workflow_without_schedule_has_none(client: Any, make: Any) -> None:
    client.refused(_LIST, {"org": "x", "pageToken": "of somebody else"}, "INVALID_ARGUMENT")
    id = make("workflow").metadata.id
    for method in (_PAUSE, _RESUME, _TRIGGER):
        client.refused(method, {"workflowId": id}, "NOT_FOUND")
    client.refused(_FIRE, {"workflowId": id, "key": "k"}, "NOT_FOUND")


@pytest.mark.rpc(_PAUSE, "INVALID_ARGUMENT")
@pytest.mark.rpc(_RESUME, "INVALID_ARGUMENT")
@pytest.mark.rpc(_TRIGGER, "INVALID_ARGUMENT")
@pytest.mark.rpc(_FIRE, "INVALID_ARGUMENT")
def test_a_schedule_is_named_by_its_workflow(client: Any) -> None:
    for method in (_PAUSE, _RESUME, _TRIGGER, _FIRE):
        refused = client.refused(method, {"key": "k"} if method == _FIRE else {}, "INVALID_ARGUMENT")
        assert "workflow_id" in set(refused.fields)
