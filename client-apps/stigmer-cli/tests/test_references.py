from __future__ import annotations

import pytest
from stigmer_cli import kinds
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.references import Reference, parse, to_slug

WORKFLOW, AGENT = kinds.require("workflow"), kinds.require("agent")
ID = "wfl-01m82ppd1agwe9asnjzgcwzz0s"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("notes", Reference(kind=WORKFLOW, org="local", slug="notes")),
        ("My Notes", Reference(kind=WORKFLOW, org="local", slug="my-notes")),
        ("acme/notes", Reference(kind=WORKFLOW, org="acme", slug="notes")),
        ("agent/notes", Reference(kind=AGENT, org="local", slug="notes")),
        ("agents/acme/notes", Reference(kind=AGENT, org="acme", slug="notes")),
        (ID, Reference(kind=WORKFLOW, id=ID)),
        (f"workflow/{ID}", Reference(kind=WORKFLOW, id=ID)),
        ("wfl-notes", Reference(kind=WORKFLOW, org="local", slug="wfl-notes")),
    ],
)
def test_every_way_of_pointing_at_a_resource_is_read(text: str, expected: Reference) -> None:
    assert parse(text, kind=WORKFLOW) == expected


def test_the_organization_of_the_command_is_used_where_none_is_named() -> None:
    assert parse("notes", kind=WORKFLOW, org="acme").org == "acme"
    assert parse("mine/notes", kind=WORKFLOW, org="acme").org == "mine"


@pytest.mark.parametrize("text", ["", "/", "a/", "a/b/c/d"])
def test_what_points_at_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse(text, kind=WORKFLOW)


def test_an_id_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="kind workflow, not agent"):
        parse(ID, kind=AGENT)


def test_a_name_without_a_kind_is_refused_and_the_way_out_is_told() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse("notes", kind=None)
    assert "workflow/notes" in caught.value.hint


@pytest.mark.parametrize(("name", "slug"), [("A  B", "a-b"), ("my_agent", "myagent"), ("-x-", "x"), ("é", "")])
def test_a_name_becomes_the_slug_that_the_server_derives(name: str, slug: str) -> None:
    assert to_slug(name) == slug


@pytest.mark.parametrize("spelling", ["wf", "wfs", "Workflow", "workflows", "WORKFLOW", "wfl"])
def test_a_kind_has_many_names(spelling: str) -> None:
    assert kinds.find(spelling) == WORKFLOW


@pytest.mark.parametrize("spelling", ["runs", "workflow-executions", "workflow_execution", "wex", "Workflow Execution"])
def test_runs_are_workflow_executions(spelling: str) -> None:
    assert kinds.require(spelling).enum_name == "workflow_execution"


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInputError) as caught:
        kinds.require("workflwo")
    assert "workflow" in caught.value.hint
