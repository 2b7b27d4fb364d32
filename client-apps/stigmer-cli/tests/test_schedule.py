"""`stigmer schedule`, over a server inside this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DEFINITION = """\
document: {dsl: 1.0.0, namespace: tests, name: daily, version: 0.1.0}
schedule: {cron: 0 8 * * *}
do:
- nothing: {set: {n: 1}}
"""


@pytest.mark.requirement("control.command")
def test_schedules_are_listed_paused_resumed_and_triggered(stigmer: Any, tmp_path: Path) -> None:
    assert stigmer("schedule", "list", "-o", "name").out.strip() == ""
    (tmp_path / "daily.yaml").write_text(DEFINITION)
    applied = stigmer("apply", "-f", tmp_path / "daily.yaml")
    assert applied.code == 0, applied.err
    assert stigmer("schedule", "pause", "daily", "--reason", "closed").out == "workflow/daily paused\n"
    (row,) = stigmer("schedule", "list").out.splitlines()[1:]
    assert row.split() == ["daily", "cron", "0", "8", "*", "*", "*", "paused:", "closed", "0"]
    assert stigmer("schedule", "resume", "workflow/daily", "-o", "name").out == "workflow/daily\n"
    triggered = json.loads(stigmer("schedule", "trigger", "daily", "-o", "json").out)
    (listed,) = json.loads(stigmer("schedule", "list", "-o", "json").out)["items"]
    assert (listed["started"], listed["last_execution_id"]) == (1, triggered["execution_id"])
    assert (listed["paused"], listed["triggers"]) == (False, ["cron 0 8 * * *"])


def test_a_workflow_that_is_not_there_has_no_schedule(stigmer: Any) -> None:
    refused = stigmer("schedule", "trigger", "nobody")
    assert refused.code == 3, refused.err
    assert "nobody" in refused.err
