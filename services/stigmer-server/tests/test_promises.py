"""What clients rely on, and where it is held.

Most of it is held by tests that stand with what they are about. `HELD` names them, and fails when one is gone; what
stands nowhere else is tested here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError, NotFoundError

from stigmer_server.messages import copied
from stigmer_server.testing import Api, manifest

Make = Callable[..., Awaitable[Any]]
AGENT = {"instructions": "Answer every question in one sentence."}
ROOT = "../../.."
GRPC = f"{ROOT}/packages/stigmer-grpc/tests"
HELD = {
    # Answers
    "bad input is INVALID_ARGUMENT, with field and rule": (
        "test_rules.py",
        "test_the_contracts_rules_hold_with_field_and_rule",
    ),
    "a taken slug is ALREADY_EXISTS, and the error has one message": (
        "blackbox/test_kinds.py",
        "test_a_slug_is_taken_once_in_an_organization",
    ),
    "an update of nothing is NOT_FOUND": ("blackbox/test_kinds.py", "test_update_of_nothing"),
    "an empty reference is INVALID_ARGUMENT, as probes expect": (
        "test_surface.py",
        "test_the_probe_of_older_clients_finds_a_living_server",
    ),
    "every RPC of the contract is answered": ("blackbox/test_coverage.py", "test_an_rpc_is_shown"),
    "an old version is ABORTED": ("blackbox/test_kinds.py", "test_an_update_of_an_old_version_is_lost"),
    # Identity
    "ids have a prefix and a ULID": ("test_verbs.py", "test_create_gives_id_slug_and_audit"),
    "slugs are made of names by one rule": ("test_rules.py", "test_slugs_are_made_of_names"),
    "slugs are unique in kind and organization, also in a race": (
        "test_rules.py",
        "test_of_many_creates_at_once_one_wins",
    ),
    "a resource with a name alone is valid": ("blackbox/test_kinds.py", "test_create_makes_a_resource"),
    "the request is not changed": ("test_verbs.py", "test_the_request_is_not_changed"),
    # What is written
    "a client's status is never stored": ("test_verbs.py", "test_create_never_stores_a_status_that_the_client_sent"),
    "apply is atomic": ("test_rules.py", "test_of_many_applies_at_once_one_creates_and_the_others_find_it"),
    "apply of what is there writes nothing, and says so": ("test_verbs.py", "test_applying_twice_writes_once"),
    "the audit tells who created and updated, and when": (
        "test_verbs.py",
        "test_update_replaces_the_spec_and_keeps_identity_and_status",
    ),
    # Default instances
    "an agent and a workflow have a default instance": (
        "test_rules.py",
        "test_a_default_instance_is_made_with_its_owner",
    ),
    "it is made again when it is gone": ("test_rules.py", "test_a_lost_default_instance_is_made_again"),
    "it is found again when its owner forgot it": (
        "test_resolution.py",
        "test_a_default_instance_that_is_there_already_is_taken_up",
    ),
    "it comes with its owner or not at all": ("test_rules.py", "test_a_default_instance_is_not_taken_from_another"),
    "it goes with its owner": ("test_rules.py", "test_a_default_instance_goes_with_its_owner"),
    # Executions
    "an agent runs in a session of its own": (
        "test_resolution.py",
        "test_an_execution_names_session_and_agent_however_it_was_asked_for",
    ),
    "agents of the platform can be run": ("test_resolution.py", "test_an_agent_of_the_platform_can_be_run"),
    "runs at the same moment do not collide": (
        "test_resolution.py",
        "test_many_runs_of_one_agent_at_once_have_sessions_of_their_own",
    ),
    "a workflow runs through its default instance": (
        "test_executions.py",
        "test_a_workflow_execution_names_its_instance_and_workflow",
    ),
    "ids that are given are verified": (
        "test_resolution.py",
        "test_an_instance_that_is_gone_is_not_replaced_by_the_workflow",
    ),
    "environments are named by their old number and the new one": (
        "test_rules.py",
        "test_the_environment_references_of_an_instance_take_both_kind_numbers",
    ),
    "a report replaces what it has, and clears nothing": (
        "test_executions.py",
        "test_a_report_is_merged_and_the_spec_stays",
    ),
    "reports at once lose nothing": ("test_executions.py", "test_twenty_reports_at_once_lose_nothing"),
    "what has ended stays ended": ("test_executions.py", "test_a_finished_execution_stays_finished"),
    "tasks are reported one by one": ("test_executions.py", "test_tasks_are_updated_by_their_id"),
    "an execution waits for Temporal, and is started when it is back": (
        "test_engine.py",
        "test_temporal_may_come_late_and_come_back",
    ),
    "a failed start is told to followers": (
        "test_engine.py",
        "test_a_run_that_temporal_refuses_fails_and_its_followers_are_told",
    ),
    # Streams
    "nothing is missed between snapshot and stream": (
        "test_subscribe.py",
        "test_reports_while_subscribing_are_never_lost",
    ),
    "a late follower gets the end": (
        "test_subscribe.py",
        "test_a_late_follower_of_a_finished_execution_gets_it_and_the_end",
    ),
    "the last state is never left out": ("test_subscribe.py", "test_a_slow_follower_misses_states_but_never_the_last"),
    "streams end with what they follow": ("test_subscribe.py", "test_a_stream_ends_when_its_execution_is_deleted"),
    "streams do not keep a server from stopping": ("test_process.py", "test_a_signal_ends_it_in_order"),
    # Lists and versions
    "lists show everything": ("test_lists.py", "test_a_list_shows_everything_newest_first"),
    "sessions are listed by agent": ("test_lists.py", "test_sessions_and_executions_are_listed_by_their_owners"),
    "pages neither skip nor repeat": ("blackbox/test_lists.py", "test_a_list_is_read_page_by_page"),
    "versions of skills are found by hash and tag": (
        "test_skills.py",
        "test_every_version_is_found_by_hash_and_by_its_newest_tag",
    ),
    "archives come back to the byte": ("test_skills.py", "test_a_pushed_skill_can_be_read_back_to_the_byte"),
    "keys of archives lead nowhere else": ("test_skills.py", "test_an_artifact_key_leads_nowhere_else"),
    # Deleting
    "what is needed is not deleted": ("test_rules.py", "test_what_is_needed_is_not_deleted_and_the_error_says_by_what"),
    "every kind is deleted by whatever its request calls the id": (
        "test_verbs.py",
        "test_delete_returns_the_resource_and_it_is_gone",
    ),
    # Callers that wait
    "who gave a callback token is told the end once": (
        "test_callbacks.py",
        "test_the_caller_gets_the_finished_execution_without_its_secrets",
    ),
    "and told of every other end": (
        "test_callbacks.py",
        "test_however_an_execution_ends_otherwise_the_caller_gets_an_error",
    ),
    "deleting a running execution cancels its run": (
        "test_engine.py",
        "test_deleting_a_running_execution_cancels_its_run",
    ),
    "what was left pending is started": (
        "test_engine.py",
        "test_what_was_left_pending_is_started_when_an_engine_comes",
    ),
    "a run that ends without a word ends its execution": (
        "test_engine_watch.py",
        "test_a_run_that_ended_without_a_word_ends_its_execution_for_everybody",
    ),
    # Names
    "references go by slug, not by name": ("test_verbs.py", "test_get_by_reference_finds_by_slug_and_organization"),
    "ids of clients are refused unless they are unused and well formed": (
        "blackbox/test_kinds.py",
        "test_an_id_is_taken_once",
    ),
    # Secrets
    "secrets are sealed, and shown to nobody": ("test_secrets.py", "test_no_reader_and_no_file_sees_a_secret"),
    "secrets are in no history of Temporal's": ("test_canary.py", "test_a_secret_is_nowhere_but_where_it_was_put"),
    # The process
    "every variable of older set-ups is read": ("test_settings.py", "test_every_variable_of_older_set_ups_is_read"),
    "a bad value is an error": ("test_settings.py", "test_wrong_values_are_reported_together_and_never_replaced"),
    "a server that never reached Temporal ends in order": ("test_process.py", "test_a_signal_ends_it_in_order"),
    "a second signal ends it": ("test_process.py", "test_a_second_signal_ends_it_at_once_and_loses_nothing"),
    "a taken port is told, and ends the process": ("test_process.py", "test_a_port_that_is_taken_is_told"),
    "a handler that crashes ends its call alone": (
        f"{GRPC}/test_failures.py",
        "test_a_crash_is_internal_with_the_request_id_and_the_cause_in_the_log",
    ),
    "a client may come before its server": (
        f"{GRPC}/test_server_life.py",
        "test_a_channel_says_when_nobody_answers_and_connects_late",
    ),
    # The processes around it
    "a dead child is found dead, and started again": (
        f"{ROOT}/client-apps/stigmer-cli/tests/test_children.py",
        "test_a_killed_process_is_started_again",
    ),
    "a crash loop has an end": (
        f"{ROOT}/client-apps/stigmer-cli/tests/test_children.py",
        "test_a_crash_loop_reaches_its_limit_and_stays_down",
    ),
    "the stack starts all that it is made of": (f"{ROOT}/tests/e2e/test_stack.py", "test_up_status_and_down"),
    "runners answer to the names of the contract": (
        f"{ROOT}/services/workflow-runner/tests/test_cloud.py",
        "test_a_server_that_knows_the_contract_only_can_drive_a_run",
    ),
    "and so do those of agents": (
        f"{ROOT}/services/agent-runner/tests/test_cloud.py",
        "test_a_server_that_knows_the_contract_only_can_drive_a_turn",
    ),
    "a workflow that calls an agent gets its answer": (
        f"{ROOT}/tests/e2e/test_agent_calls.py",
        "test_a_workflow_talks_to_an_agent_in_one_session",
    ),
}


@pytest.mark.parametrize("promise", HELD)
def test_what_is_promised_is_held(promise: str) -> None:
    file, name = HELD[promise]
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)


async def test_versions_of_one_moment_are_told_apart(local: Api, make: Make) -> None:
    made = await make(local, "environment", "prod", spec={"description": "1"})
    for number in range(2, 31):
        made.spec.description = str(number)
        made = await local("environment", "update", made)
    for number in range(1, 31):
        found = await local("environment", "getByReference", {"slug": "prod", "version": str(number)})
        assert (found.spec.description, found.metadata.version.id) == (str(number), str(number))
    with pytest.raises(NotFoundError):
        await local("environment", "getByReference", {"slug": "prod", "version": "31"})


async def test_long_names_that_end_differently_are_different(local: Api, make: Make) -> None:
    beginning = "a name that begins like another one and goes on for longer than sixty characters "
    one, other = await make(local, "agent", beginning + "one"), await make(local, "agent", beginning + "two")
    assert one.metadata.slug.endswith("-characters-one")
    assert other.metadata.slug.endswith("-characters-two")
    for made in (one, other):
        assert await local("agent", "getByReference", {"slug": made.metadata.slug}) == made


@pytest.mark.parametrize("kind", ["agent", "workflow", "environment", "mcp_server"])
async def test_applying_again_moves_nothing(local: Api, specs: Any, kind: str) -> None:
    sent = manifest(kind, "Once", await specs[kind](local))
    first = await local(kind, "apply", sent)
    moved = {**sent["metadata"], "id": first.metadata.id, "slug": "elsewhere", "org": "elsewhere", "name": "Renamed"}
    again = await local(kind, "apply", {**sent, "metadata": moved})
    assert (again.metadata.id, again.metadata.slug, again.metadata.org) == (first.metadata.id, "once", "local")
    assert again.metadata.name == "Renamed"
    audit, before = again.status.audit.spec_audit, first.status.audit.spec_audit
    assert (audit.event, audit.created_at, audit.created_by) == ("updated", before.created_at, before.created_by)
    for status in (again.status, first.status):
        status.ClearField("audit")
        if kind == "workflow":
            status.serverless_workflow_validation.ClearField("validated_at")
    assert again.status == first.status
    assert (await local.list_all({"kind": kind})).total_count == 1


@pytest.mark.parametrize(
    ("kind", "report"),
    [
        (
            "agent_execution",
            {
                "phase": "EXECUTION_IN_PROGRESS",
                "messages": [{"type": "MESSAGE_AI", "content": "Working on it"}],
                "toolCalls": [{"id": "1", "name": "search", "status": "TOOL_CALL_RUNNING", "args": {"q": "x"}}],
                "todos": {"1": {"id": "1", "content": "look"}},
            },
        ),
        (
            "workflow_execution",
            {
                "phase": "EXECUTION_IN_PROGRESS",
                "tasks": [{"taskId": "1", "taskName": "greet", "status": "WORKFLOW_TASK_COMPLETED"}],
                "output": {"greeting": "hello"},
            },
        ),
    ],
)
async def test_an_update_keeps_the_whole_status(local: Api, make: Make, kind: str, report: dict[str, Any]) -> None:
    made = await make(local, kind, "run")
    running = await local(kind, "updateStatus", {"executionId": made.metadata.id, "status": report})
    sent = copied(running)
    sent.metadata.labels["team"] = "blue"
    sent.status.Clear()
    changed = await local(kind, "update", sent)
    assert changed.metadata.labels["team"] == "blue"
    for status in (changed.status, running.status):
        status.ClearField("audit")
    assert changed.status == running.status


async def test_a_run_that_is_refused_leaves_nothing_of_what_it_would_have_needed(local: Api, make: Make) -> None:
    declared = {"data": {"REGION": {"description": "needed"}}}
    workflow = await make(local, "workflow", "Flow", spec={"envSpec": declared})
    await local("workflow_instance", "delete", {"value": workflow.status.default_instance_id})
    before = await local.app.resources.store.last_sequence()
    spec = {"workflowId": workflow.metadata.id}
    with pytest.raises(InvalidArgumentError):
        await local("workflow_execution", "create", manifest("workflow_execution", "run", spec))
    assert await local.app.resources.store.last_sequence() == before
    assert (await local.list_all({"kind": "workflow_instance"})).total_count == 0


async def test_a_refused_definition_leaves_the_stored_one(local: Api, make: Make) -> None:
    made = await make(local, "workflow", "Flow")
    for verb in ("update", "apply"):
        sent = copied(made)
        sent.spec.definition = "do: []"
        with pytest.raises(InvalidArgumentError):
            await local("workflow", verb, sent)
    assert await local("workflow", "get", {"value": made.metadata.id}) == made
