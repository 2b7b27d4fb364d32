"""Which resources are meant: what an execution runs, which instance is the default one, what a reference names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loguru import logger
from stigmer_grpc import FailedPreconditionError, InvalidArgumentError, NotFoundError

from stigmer_server.testing import Api, manifest

Make = Callable[..., Awaitable[Any]]
AGENT = {"instructions": "Answer every question in one sentence."}
GONE = {
    "agent": "agt-01jz0000000000000000000000",
    "session": "ses-01jz0000000000000000000000",
    "workflow": "wfl-01jz0000000000000000000000",
    "instance": "win-01jz0000000000000000000000",
}


async def run_agent(api: Api, **spec: Any) -> Any:
    content = {"message": "Hello", **spec}
    return await api("agent_execution", "create", manifest("agent_execution", "run", content, org=""))


async def run_workflow(api: Api, **spec: Any) -> Any:
    return await api("workflow_execution", "create", manifest("workflow_execution", "run", spec, org=""))


# What an agent execution runs


async def test_an_execution_names_session_and_agent_however_it_was_asked_for(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "One")
    by_agent = await run_agent(local, agentId=agent.metadata.id)
    session = await local("session", "get", {"value": by_agent.spec.session_id})
    assert session.spec.agent_instance_id == agent.status.default_instance_id
    by_session = await run_agent(local, sessionId=session.metadata.id)
    assert by_session.spec.agent_id == by_agent.spec.agent_id == agent.metadata.id
    assert by_session.metadata.org == by_agent.metadata.org == "local"


@pytest.mark.parametrize("stale", [False, True])
async def test_a_session_decides_over_an_agent(local: Api, make: Make, stale: bool) -> None:
    session = await make(local, "session", "talk")
    instance = await local("agent_instance", "get", {"value": session.spec.agent_instance_id})
    other = GONE["agent"] if stale else (await make(local, "agent", "Other")).metadata.id
    made = await run_agent(local, sessionId=session.metadata.id, agentId=other)
    assert (made.spec.session_id, made.spec.agent_id) == (session.metadata.id, instance.spec.agent_id)
    assert (await local("session", "list", {})).total_pages == 1


async def test_a_session_that_is_gone_is_not_replaced_by_the_agent(local: Api, make: Make) -> None:
    agent = await make(local, "agent")
    with pytest.raises(NotFoundError, match=f"Session not found: {GONE['session']}"):
        await run_agent(local, sessionId=GONE["session"], agentId=agent.metadata.id)
    with pytest.raises(NotFoundError, match=f"Agent not found: {GONE['agent']}"):
        await run_agent(local, agentId=GONE["agent"])
    assert (await local("session", "list", {})).total_pages == 0


async def test_many_runs_of_one_agent_at_once_have_sessions_of_their_own(local: Api, make: Make) -> None:
    import asyncio

    agent = await make(local, "agent")
    made = await asyncio.gather(*(run_agent(local, agentId=agent.metadata.id) for _ in range(50)))
    assert len({run.spec.session_id for run in made}) == 50
    listed = await local("agent_instance", "getByAgent", {"agentId": agent.metadata.id})
    assert listed.total_count == 1


async def test_an_agent_of_the_platform_can_be_run(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "Everybody's", ownerScope="platform", org="")
    content = {"message": "Hello", "agentId": agent.metadata.id}
    made = await local("agent_execution", "create", manifest("agent_execution", "run", content, org="acme"))
    session = await local("session", "get", {"value": made.spec.session_id})
    assert (session.metadata.org, session.metadata.owner_scope) == ("acme", 2)
    instance = await local("agent_instance", "get", {"value": agent.status.default_instance_id})
    assert (instance.metadata.org, instance.metadata.owner_scope) == ("", 1)


async def test_what_an_agent_calls_secret_is_secret_in_its_runs(local: Api, make: Make) -> None:
    spec = {"envSpec": {"data": {"TOKEN": {"isSecret": True}}}}
    agent = await make(local, "agent", "Keeper", spec=spec)
    made = await run_agent(local, agentId=agent.metadata.id, runtimeEnv={"TOKEN": {"value": "s3cret"}})
    assert made.spec.runtime_env["TOKEN"].value == "***REDACTED***"
    made.spec.runtime_env["TOKEN"].value, made.spec.runtime_env["TOKEN"].is_secret = "another s3cret", False
    changed = await local("agent_execution", "update", made)
    assert changed.spec.runtime_env["TOKEN"].value == "***REDACTED***"
    record = await local.app.resources.store.get("agent_execution", made.metadata.id)
    assert "s3cret" not in record.data


# What a workflow execution runs


async def test_an_instance_decides_over_a_workflow(local: Api, make: Make) -> None:
    one, other = await make(local, "workflow", "One"), await make(local, "workflow", "Other")
    for workflow in (other.metadata.id, GONE["workflow"], ""):
        made = await run_workflow(local, workflowInstanceId=one.status.default_instance_id, workflowId=workflow)
        assert made.spec.workflow_id == one.metadata.id
        assert made.spec.workflow_instance_id == one.status.default_instance_id
        assert made.metadata.org == "local"
        await local("workflow_execution", "delete", {"value": made.metadata.id})


async def test_an_instance_that_is_gone_is_not_replaced_by_the_workflow(local: Api, make: Make) -> None:
    workflow = await make(local, "workflow")
    with pytest.raises(NotFoundError, match=f"WorkflowInstance not found: {GONE['instance']}"):
        await run_workflow(local, workflowInstanceId=GONE["instance"], workflowId=workflow.metadata.id)
    with pytest.raises(NotFoundError, match=f"Workflow not found: {GONE['workflow']}"):
        await run_workflow(local, workflowId=GONE["workflow"])


# Default instances


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_a_default_instance_cannot_be_given_to_another(local: Api, make: Make, kind: str) -> None:
    one, other = await make(local, kind, "One"), await make(local, kind, "Other")
    instance = await local(f"{kind}_instance", "get", {"value": one.status.default_instance_id})
    setattr(instance.spec, f"{kind}_id", other.metadata.id)
    for verb in ("update", "apply"):
        with pytest.raises(FailedPreconditionError, match="default instance of 'one'"):
            await local(f"{kind}_instance", verb, instance)
    own = await make(local, f"{kind}_instance", "own", spec={f"{kind}Id": one.metadata.id})
    setattr(own.spec, f"{kind}_id", other.metadata.id)
    moved = await local(f"{kind}_instance", "update", own)
    assert getattr(moved.spec, f"{kind}_id") == other.metadata.id


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_a_default_instance_of_what_has_no_name_is_called_after_its_slug(
    local: Api, make: Make, kind: str
) -> None:
    owner = await make(local, kind, "", slug="nameless")
    instance = await local(f"{kind}_instance", "get", {"value": owner.status.default_instance_id})
    assert (instance.metadata.name, instance.metadata.slug) == ("nameless-default", "nameless-default")


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_a_default_instance_that_is_there_already_is_taken_up(local: Api, make: Make, kind: str) -> None:
    """As when an owner lost the name of its instance, but not the instance."""
    owner = await make(local, kind, "My Thing")
    resources = local.app.resources

    def forget(unit: Any) -> None:
        stored = unit.require(kind, owner.metadata.id)
        stored.status.default_instance_id = ""
        unit.replace_status(resources.kinds[kind], stored)

    await resources.transact(forget)
    healed = await local(kind, "apply", owner)
    assert healed.status.default_instance_id == owner.status.default_instance_id
    assert healed.status.audit.spec_audit.event == "unchanged"
    assert (await local(kind, "get", {"value": owner.metadata.id})).status.default_instance_id
    assert (await local.list_all({"kind": f"{kind}_instance"})).total_count == 1


async def test_an_instance_stays_in_the_organization_of_its_workflow_when_it_changes(local: Api, make: Make) -> None:
    home, abroad = await make(local, "workflow", "Home"), await make(local, "workflow", "Abroad", org="acme")
    instance = await make(local, "workflow_instance", "mine", spec={"workflowId": home.metadata.id})
    instance.spec.workflow_id = abroad.metadata.id
    with pytest.raises(InvalidArgumentError) as caught:
        await local("workflow_instance", "update", instance)
    assert [violation.rule_id for violation in caught.value.violations] == ["workflow_instance.same_org"]


# What is meant by a slug


async def test_an_update_by_slug_must_mean_one_resource(local: Api, make: Make) -> None:
    for org in ("local", "acme"):
        await make(local, "environment", "prod", org=org)
    sent = manifest("environment", "prod", {"description": "changed"}, org="")
    with pytest.raises(FailedPreconditionError, match=r"'local'.*metadata\.id|'acme'.*metadata\.id"):
        await local("environment", "update", sent)
    changed = await local("environment", "update", {**sent, "metadata": {**sent["metadata"], "org": "acme"}})
    assert (changed.metadata.org, changed.spec.description) == ("acme", "changed")
    for _ in range(2):
        await make(local, "agent_execution", "again")
    twice = manifest("agent_execution", "again", {"message": "Hello"})
    with pytest.raises(FailedPreconditionError, match="several AgentExecution"):
        await local("agent_execution", "update", twice)


async def test_a_reference_finds_by_scope(local: Api, make: Make) -> None:
    platform = await make(local, "agent", "Helper", ownerScope="platform", org="")
    own = await make(local, "agent", "Helper", org="local")
    other = await make(local, "agent", "Helper", org="acme")

    async def found(**reference: Any) -> str:
        return (await local("agent", "getByReference", {"slug": "helper", **reference})).metadata.id

    assert await found() == other.metadata.id
    assert await found(org="local") == own.metadata.id
    assert await found(scope="platform") == platform.metadata.id
    assert await found(scope="organization") == other.metadata.id
    assert await found(scope="organization", org="local") == own.metadata.id
    for reference in ({"scope": "platform", "org": "local"}, {"scope": "identity_account"}):
        with pytest.raises(NotFoundError):
            await found(**reference)


async def test_a_resource_without_a_scope_fits_every_scope(local: Api, make: Make) -> None:
    made = await make(local, "execution_context", "values")
    reference = {"slug": "values", "scope": "organization", "org": "local"}
    assert await local("execution_context", "getByReference", reference) == made


@pytest.mark.parametrize(
    ("kind", "list_", "parent"),
    [
        ("agent_instance", "environmentRefs", "agentId"),
        ("workflow_instance", "envRefs", "workflowId"),
        ("agent", "skillRefs", ""),
    ],
)
async def test_references_say_what_they_mean(local: Api, make: Make, kind: str, list_: str, parent: str) -> None:
    right, number = ("skill", 43) if kind == "agent" else ("environment", 53)
    path = {"environmentRefs": "environment_refs", "envRefs": "env_refs", "skillRefs": "skill_refs"}[list_]
    with pytest.raises(InvalidArgumentError) as caught:
        await make(local, kind, "wrong", spec={list_: [{"kind": number, "slug": "x"}, {"kind": number}]})
    assert [violation.field for violation in caught.value.violations] == [f"spec.{path}[1].slug"]
    with pytest.raises(InvalidArgumentError) as caught:
        await make(local, kind, "wrong", spec={list_: [{"kind": "workflow", "slug": "x"}]})
    assert caught.value.violations[0].field.startswith(f"spec.{path}[0]")
    assert await make(local, kind, "right", spec={list_: [{"kind": right, "slug": "later"}]})


async def test_an_environment_of_the_platform_is_kept_for_those_who_fall_back_on_it(local: Api, make: Make) -> None:
    shared = await make(local, "environment", "prod", org="", ownerScope="identity_account")
    reference = {"kind": 53, "slug": "prod"}
    instance = await make(local, "workflow_instance", "user", spec={"envRefs": [reference]})
    request = {"resourceId": shared.metadata.id}
    with pytest.raises(FailedPreconditionError, match=instance.metadata.id):
        await local("environment", "delete", request)
    # With one of its own, the instance no longer needs the platform's.
    own = await make(local, "environment", "prod")
    await local("environment", "delete", request)
    with pytest.raises(FailedPreconditionError, match=instance.metadata.id):
        await local("environment", "delete", {"resourceId": own.metadata.id})


async def test_skills_of_sub_agents_are_needed_too(local: Api, make: Make) -> None:
    import base64
    import io
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr("SKILL.md", "# Style")
    archive = base64.b64encode(content.getvalue()).decode()
    skill = await local("skill", "push", {"name": "Style", "scope": 2, "org": "local", "artifact": archive})
    sub_agent = {"name": "helper", "instructions": "Check every claim.", "skillRefs": [{"kind": 43, "slug": "style"}]}
    agent = await make(local, "agent", "Writer", spec={"subAgents": [sub_agent]})
    with pytest.raises(FailedPreconditionError, match=agent.metadata.id):
        await local("skill", "delete", {"value": skill.metadata.id})


async def test_the_reason_of_a_deletion_is_logged_and_kept_nowhere_else(local: Api, make: Make) -> None:
    told: list[str] = []
    handler = logger.add(lambda message: told.append(str(message)), level="INFO")
    try:
        made = await make(local, "environment", "old")
        request = {"resourceId": made.metadata.id, "versionMessage": "replaced\nby new"}
        await local("environment", "delete", request, metadata={"x-stigmer-dry-run": "true"})
        assert not [line for line in told if "replaced" in line]
        assert await local("environment", "delete", request) == made
    finally:
        logger.remove(handler)
    (line,) = [line for line in told if "replaced" in line]
    assert made.metadata.id in line
    assert r"replaced\nby new" in line
    again = await make(local, "environment", "other")
    with pytest.raises(InvalidArgumentError) as caught:
        await local("environment", "delete", {"resourceId": again.metadata.id, "versionMessage": "x" * 4097})
    assert [violation.field for violation in caught.value.violations] == ["version_message"]


async def test_sessions_are_listed_by_agents_with_many_instances(
    local: Api, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stigmer_server.kinds import session

    monkeypatch.setattr(session, "_PAGE", 3)
    agent = await make(local, "agent", "Many")
    sessions: list[str] = []
    for number in range(10):
        instance = await make(local, "agent_instance", f"i{number}", spec={"agentId": agent.metadata.id})
        made = await make(local, "session", f"s{number}", spec={"agentInstanceId": instance.metadata.id})
        sessions.append(made.metadata.id)
    listed = await local("session", "listByAgent", {"agentId": agent.metadata.id})
    assert [entry.metadata.id for entry in listed.entries] == sessions[::-1]
    monkeypatch.setattr(session, "MOST_INSTANCES", 5)
    with pytest.raises(InvalidArgumentError) as caught:
        await local("session", "listByAgent", {"agentId": agent.metadata.id})
    assert [violation.field for violation in caught.value.violations] == ["agent_id"]
