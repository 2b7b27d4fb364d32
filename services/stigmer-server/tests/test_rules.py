"""What is refused, with which code, and saying what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stigmer_grpc import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, UnimplementedError
from stigmer_protos import descriptors

from stigmer_server.testing import Api, manifest

Make = Callable[..., Awaitable[Any]]
AGENT = {"instructions": "Answer every question in one sentence."}


async def refused(api: Api, kind: str, verb: str, request: Any) -> dict[str, str]:
    """Return the rules that a request breaks, by field."""
    with pytest.raises(InvalidArgumentError) as caught:
        await api(kind, verb, request)
    return {violation.field: violation.rule_id for violation in caught.value.violations}


async def test_the_contracts_rules_hold_with_field_and_rule(api: Api) -> None:
    sent = manifest("agent", "short", {"instructions": "short"}, ownerScope="identity_account")
    sent["apiVersion"] = "v0"
    broken = await refused(api, "agent", "create", sent)
    assert broken == {
        "api_version": "string.const",
        "metadata": "agent.owner_scope.platform_or_org_only",
        "spec.instructions": "string.min_len",
    }


@pytest.mark.parametrize("verb", ["create", "update", "apply"])
async def test_metadata_and_spec_cannot_be_left_out(local: Api, verb: str) -> None:
    without = {**manifest("agent", "x", AGENT)}
    del without["metadata"]
    assert await refused(local, "agent", verb, without) == {"metadata": "required"}
    without = {**manifest("agent", "x", AGENT)}
    del without["spec"]
    assert await refused(local, "agent", verb, without) == {"spec.instructions": "string.min_len"}


async def test_the_scope_has_to_be_said(local: Api) -> None:
    sent = manifest("agent", "nowhere", AGENT)
    del sent["metadata"]["ownerScope"]
    assert await refused(local, "agent", "create", sent) == {"metadata": "agent.owner_scope.platform_or_org_only"}


@pytest.mark.parametrize("name", ["", "___", "日本"])
async def test_a_name_that_makes_no_slug_is_invalid(local: Api, name: str) -> None:
    assert set(await refused(local, "agent", "create", manifest("agent", name, AGENT))) == {"metadata.name"}


@pytest.mark.parametrize("slug", ["Upper", "two--hyphens", "-first", "last-", "under_score", "a b", "ü"])
async def test_a_slug_that_the_client_chose_is_checked_and_not_changed(local: Api, slug: str) -> None:
    broken = await refused(local, "agent", "create", manifest("agent", "x", AGENT, slug=slug))
    assert broken == {"metadata.slug": "metadata.slug.format"}


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My Agent", "my-agent"),
        ("my_agent", "myagent"),
        ("  Spaces   everywhere ", "spaces-everywhere"),
        ("v1.2-beta!", "v12-beta"),
        ("tab\there", "tabhere"),
        ("Größe", "gre"),
        ("--a--b--", "a-b"),
        ("x" * 100, "x" * 100),
    ],
)
async def test_slugs_are_made_of_names(local: Api, name: str, slug: str) -> None:
    made = await local("agent", "create", manifest("agent", name, AGENT))
    assert (made.metadata.name, made.metadata.slug) == (name, slug)


async def test_a_chosen_slug_and_id_are_kept(local: Api) -> None:
    id = "agt-01jz0000000000000000000000"
    made = await local("agent", "create", manifest("agent", "Name", AGENT, slug="other", id=id))
    assert (made.metadata.slug, made.metadata.id) == ("other", id)
    with pytest.raises(AlreadyExistsError):
        await local("agent", "create", manifest("agent", "Another", AGENT, id=id))
    for wrong in ("agt-1", "wfl-01jz0000000000000000000000", "agt-01JZ0000000000000000000000", "x"):
        broken = await refused(local, "agent", "create", manifest("agent", "Third", AGENT, id=wrong))
        assert broken == {"metadata.id": "metadata.id.format"}


async def test_the_environment_references_of_an_instance_take_both_kind_numbers(local: Api, make: Make) -> None:
    agent = await make(local, "agent")
    for number, name in ((52, "old client"), (53, "new client")):
        spec = {"agentId": agent.metadata.id, "environmentRefs": [{"kind": number, "slug": "prod"}]}
        await local("agent_instance", "create", manifest("agent_instance", name, spec))
    spec = {"agentId": agent.metadata.id, "environmentRefs": [{"kind": 40, "slug": "prod"}]}
    await refused(local, "agent_instance", "create", manifest("agent_instance", "wrong", spec))


async def test_an_instance_stays_in_the_organization_of_its_workflow(local: Api, make: Make) -> None:
    workflow = await make(local, "workflow", "Flow")
    sent = manifest("workflow_instance", "abroad", {"workflowId": workflow.metadata.id}, org="acme")
    assert await refused(local, "workflow_instance", "create", sent) == {"metadata.org": "workflow_instance.same_org"}


async def test_kinds_of_the_cloud_are_not_there(api: Api) -> None:
    with pytest.raises(UnimplementedError):
        await api("iam_policy", "get", {"value": "iamp-1"})


async def test_of_many_applies_at_once_one_creates_and_the_others_find_it(api: Api) -> None:
    made = await asyncio.gather(*(api("agent", "apply", manifest("agent", "Race", AGENT)) for _ in range(20)))
    assert len({agent.metadata.id for agent in made}) == 1
    assert {agent.status.default_instance_id for agent in made} == {made[0].status.default_instance_id}
    listed = await api("agent_instance", "getByAgent", {"agentId": made[0].metadata.id})
    assert listed.total_count == 1


async def test_of_many_creates_at_once_one_wins(api: Api) -> None:
    sent = manifest("agent", "Race", AGENT)
    results = await asyncio.gather(*(api("agent", "create", sent) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, AlreadyExistsError) for result in results) == 19


# Default instances


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_a_default_instance_is_made_with_its_owner(api: Api, make: Make, kind: str) -> None:
    owner = await make(api, kind, "My Thing")
    instance = await api(f"{kind}_instance", "get", {"value": owner.status.default_instance_id})
    assert (instance.metadata.name, instance.metadata.slug) == ("My Thing-default", "my-thing-default")
    assert (instance.metadata.org, instance.metadata.owner_scope) == ("local", owner.metadata.owner_scope)
    assert getattr(instance.spec, f"{kind}_id") == owner.metadata.id
    updated = await api(kind, "update", owner)
    assert updated.status.default_instance_id == instance.metadata.id


@pytest.mark.parametrize("kind", ["agent", "workflow"])
@pytest.mark.parametrize("verb", ["update", "apply"])
async def test_a_lost_default_instance_is_made_again(local: Api, make: Make, kind: str, verb: str) -> None:
    owner = await make(local, kind, "Healing")
    await local(f"{kind}_instance", "delete", {"value": owner.status.default_instance_id})
    healed = await local(kind, verb, owner)
    assert healed.status.default_instance_id != owner.status.default_instance_id
    assert await local(f"{kind}_instance", "get", {"value": healed.status.default_instance_id})


async def test_a_lost_default_instance_is_made_again_by_a_run(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "Healing")
    await local("agent_instance", "delete", {"value": agent.status.default_instance_id})
    await make(local, "agent_execution", spec={"agentId": agent.metadata.id})
    healed = await local("agent", "get", {"value": agent.metadata.id})
    assert await local("agent_instance", "get", {"value": healed.status.default_instance_id})


async def test_a_default_instance_is_not_taken_from_another(local: Api, make: Make) -> None:
    other = await make(local, "agent", "Other")
    spec = {"agentId": other.metadata.id}
    await local("agent_instance", "create", manifest("agent_instance", "mine-default", spec))
    with pytest.raises(AlreadyExistsError, match="mine-default"):
        await make(local, "agent", "Mine")
    listed = await local.list_all({"kind": "agent", "text": "mine"})
    assert listed.total_count == 0


# Deleting


async def test_what_is_needed_is_not_deleted_and_the_error_says_by_what(api: Api, make: Make) -> None:
    agent = await make(api, "agent", "Needed")
    spec = {"agentId": agent.metadata.id}
    instance = await api("agent_instance", "create", manifest("agent_instance", "second", spec))
    with pytest.raises(FailedPreconditionError, match=rf"second \({instance.metadata.id}\)"):
        await api("agent", "delete", {"value": agent.metadata.id})
    assert await api("agent", "get", {"value": agent.metadata.id}) == agent
    assert await api("agent_instance", "get", {"value": agent.status.default_instance_id})
    await api("agent_instance", "delete", {"value": instance.metadata.id})
    await api("agent", "delete", {"value": agent.metadata.id})


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_a_default_instance_goes_with_its_owner(local: Api, make: Make, kind: str) -> None:
    owner = await make(local, kind, "Passing")
    await local(kind, "delete", {"value": owner.metadata.id})
    assert (await local.list_all({"kind": f"{kind}_instance"})).total_count == 0
    again = await make(local, kind, "Passing")
    assert again.metadata.id != owner.metadata.id


async def test_a_forced_deletion_takes_what_depends_with_it(local: Api, make: Make) -> None:
    session = await make(local, "session", "talk")
    await make(local, "agent_execution", "turn", spec={"sessionId": session.metadata.id})
    instance = await local("agent_instance", "get", {"value": session.spec.agent_instance_id})
    with pytest.raises(FailedPreconditionError):
        await local("agent", "delete", {"value": instance.spec.agent_id})
    await local("agent", "delete", {"value": instance.spec.agent_id}, metadata={"x-stigmer-force": "true"})
    for kind in ("session", "agent_execution"):
        assert (await local.list_all({"kind": kind, "text": "t"})).total_count == 0


async def test_an_environment_in_use_goes_only_by_force(local: Api, make: Make) -> None:
    environment = await make(local, "environment", "prod")
    agent = await make(local, "agent")
    spec = {"agentId": agent.metadata.id, "environmentRefs": [{"kind": 53, "slug": "prod", "org": "local"}]}
    instance = await local("agent_instance", "create", manifest("agent_instance", "user", spec))
    request = {"resourceId": environment.metadata.id}
    with pytest.raises(FailedPreconditionError, match="AgentInstance user"):
        await local("environment", "delete", request)
    await local("environment", "delete", {**request, "force": True})
    assert await local("agent_instance", "get", {"value": instance.metadata.id}) == instance


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_finished_runs_do_not_hold_their_definition(local: Api, make: Make, kind: str) -> None:
    owner = await make(local, kind, "Ran")
    run = await make(local, f"{kind}_execution", spec={f"{kind}Id": owner.metadata.id})
    with pytest.raises(FailedPreconditionError, match=run.metadata.id):
        await local(kind, "delete", {"value": owner.metadata.id})
    status = {"phase": "EXECUTION_COMPLETED"}
    await local(f"{kind}_execution", "updateStatus", {"executionId": run.metadata.id, "status": status})
    await local(kind, "delete", {"value": owner.metadata.id})
    assert await local(f"{kind}_execution", "get", {"value": run.metadata.id})


def test_every_method_of_every_served_kind_has_a_verb() -> None:
    from stigmer_server.controllers.kinds import kind_services
    from stigmer_server.kinds import registry

    bound = list(kind_services(_NoResources(), None, None))  # type: ignore[arg-type]
    # What only a runner can do with a running execution has no verb here yet.
    own = [service for service in bound if not service.name.endswith("ControlController")]
    assert [method.path for service in own for method in service.methods.values() if not method.implemented] == []
    assert len(bound) == sum(len(kind.described.services) for kind in registry().values())
    assert descriptors.kind_by_enum_name("agent").services[0] in {service.name for service in bound}


class _NoResources:
    """Enough to bind handlers, which are not called."""

    @property
    def kinds(self) -> Any:
        from stigmer_server.kinds import registry

        return registry()
