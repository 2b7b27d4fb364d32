"""API keys: told once, kept as hashes, good as long as they are, and gone at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnimplementedError,
)

from stigmer_server.access.testing import ACME, OTHER, House, key_manifest, opened, org_manifest
from stigmer_server.testing import Api, manifest, serve

AGENT = {"instructions": "Answer every question in one sentence."}
WATCH = "ai.stigmer.resources.v1.ResourceController"


async def create(house: House, name: str = "ci", role: str = "editor", **spec: Any) -> Any:
    return await house.api("api_key", "create", key_manifest(name, role, **spec))


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_a_key_is_told_once_and_kept_as_its_hash(house: House, tmp_path: Path) -> None:
    made = await create(house)
    key = made.spec.key_hash
    assert key.startswith("stk_")
    assert len(key) > 43
    assert key.endswith(made.spec.fingerprint)
    stored = await house.api("api_key", "get", {"value": made.metadata.id})
    assert stored.spec.key_hash == hashlib.sha256(key.encode()).hexdigest()
    assert stored.spec.fingerprint == made.spec.fingerprint
    answers = [stored, await house.api("api_key", "findAll", {}), await house.api.list_all({"kind": "api_key"})]
    assert not any(key in str(answer) for answer in answers)
    assert files_with(key, tmp_path) == []
    assert files_with(stored.spec.key_hash, tmp_path) != []


async def test_a_client_chooses_neither_key_nor_fingerprint(house: House) -> None:
    sent = key_manifest("mine", "editor", keyHash="0" * 64, fingerprint="000000")
    made = await house.api("api_key", "create", sent)
    stored = await house.api("api_key", "get", {"value": made.metadata.id})
    assert stored.spec.key_hash not in ("0" * 64, made.spec.key_hash)
    # What the creation answered may come back, with the key in it, and changes nothing of that.
    made.metadata.name = "renamed"
    changed = await house.api("api_key", "update", made)
    assert (changed.metadata.name, changed.spec) == ("renamed", stored.spec)
    await house.with_token(made.spec.key_hash)("agent", "create", manifest("agent", "a", AGENT, org=""))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"neverExpires": False}, "api_key.end.required"),
        ({"expiresAt": "2020-01-01T00:00:00Z", "neverExpires": False}, "api_key.end.future"),
        ({"expiresAt": "2999-01-01T00:00:00Z", "neverExpires": True}, "api_key.end.required"),
        ({"role": 99}, "enum.defined_only"),
    ],
)
async def test_a_key_has_an_end_or_none_and_a_role(house: House, change: dict[str, Any], rule: str) -> None:
    sent = key_manifest("k", "editor")
    sent["spec"] |= change
    with pytest.raises(InvalidArgumentError) as caught:
        await house.api("api_key", "create", sent)
    assert rule in {violation.rule_id for violation in caught.value.violations}


async def test_a_key_without_a_role_is_an_editors(house: House) -> None:
    sent = key_manifest("k", "editor")
    del sent["spec"]["role"]
    assert (await house.api("api_key", "create", sent)).spec.role == 2


async def test_the_key_of_a_runner_is_for_no_organization_and_of_others_for_one(house: House) -> None:
    sent = key_manifest("k", "runner")
    sent["metadata"]["org"] = ACME
    with pytest.raises(InvalidArgumentError, match="every organization"):
        await house.api("api_key", "create", sent)
    with pytest.raises(InvalidArgumentError, match="which organization"):
        await house.api("api_key", "create", key_manifest("k", "viewer", ""))
    with pytest.raises(NotFoundError):
        await house.api("api_key", "create", key_manifest("k", "viewer", "nowhere"))


async def test_a_key_is_what_it_was_made_also_where_nobody_waited_for_that(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await create(house, role="editor")
    mine = house.with_token(made.spec.key_hash)
    await mine("agent", "create", manifest("agent", "first", AGENT, org=""))
    # The note of its use is a change of the key, too, and is not to come in between.
    await noted(house, made.metadata.id)
    await house.api.app.resources.settle()
    await mine("agent", "create", manifest("agent", "other", AGENT, org=""))
    store, committed, goes_on = house.api.app.resources.store, asyncio.Event(), asyncio.Event()
    transact = store.transact

    async def slow(*given: Any, **options: Any) -> Any:
        result = await transact(*given, **options)
        committed.set()
        await goes_on.wait()
        return result

    made.spec.role = 1
    with monkeypatch.context() as patched:
        patched.setattr(store, "transact", slow)
        update = asyncio.create_task(house.api("api_key", "update", made))
        async with asyncio.timeout(10):
            await committed.wait()
            # Whoever asked for it is gone, in the moment in which it is done.
            update.cancel()
            await asyncio.gather(update, return_exceptions=True)
        goes_on.set()
    async with asyncio.timeout(10):
        await house.api.app.resources.settle()
    with pytest.raises(PermissionDeniedError):
        await mine("agent", "create", manifest("agent", "second", AGENT, org=""))


async def test_keys_are_named(house: House) -> None:
    await create(house)
    with pytest.raises(AlreadyExistsError):
        await create(house)
    await house.api("api_key", "create", key_manifest("ci", "editor", OTHER))


async def test_a_creation_with_a_key_of_its_own_is_refused_and_a_dry_run_tells_none(house: House) -> None:
    with pytest.raises(InvalidArgumentError, match="told once"):
        await house.api(
            "api_key", "create", key_manifest("k", "editor"), metadata={"x-stigmer-idempotency-key": "again"}
        )
    dry = {"x-stigmer-dry-run": "true"}
    made = await house.api("api_key", "create", key_manifest("k", "editor"), metadata=dry)
    assert made.spec.key_hash == ""
    with pytest.raises(NotFoundError):
        await house.api("api_key", "get", {"value": made.metadata.id})


async def test_owners_give_keys_of_their_organization_up_to_their_own_role(house: House) -> None:
    owner, editor = await house.as_("owner"), await house.as_("editor")
    for role in ("viewer", "editor", "owner"):
        made = await owner("api_key", "create", key_manifest(f"by owner {role}", role))
        assert made.status.audit.spec_audit.created_by.id.startswith("key-")
        await house.with_token(made.spec.key_hash).list_all({"kind": "agent"})
    with pytest.raises(PermissionDeniedError, match="runner"):
        await owner("api_key", "create", key_manifest("r", "runner"))
    with pytest.raises(NotFoundError):
        await owner("api_key", "create", key_manifest("x", "viewer", OTHER))
    with pytest.raises(PermissionDeniedError):
        await editor("api_key", "create", key_manifest("x", "viewer"))
    theirs = await house.api("api_key", "create", key_manifest("theirs", "viewer", OTHER))
    for verb in ("get", "delete"):
        with pytest.raises(NotFoundError):
            await owner("api_key", verb, {"value": theirs.metadata.id})
    own = await owner("api_key", "create", key_manifest("own", "viewer"))
    own.spec.role = 4
    with pytest.raises(PermissionDeniedError, match="runner"):
        await owner("api_key", "update", own)


async def test_who_sees_which_keys(house: House) -> None:
    for role in ("viewer", "editor", "owner", "runner"):
        await house.as_(role)
    await house.as_("viewer", OTHER)
    seen = {
        role: len((await (await house.as_(role))("api_key", "findAll", {})).entries)
        for role in ("viewer", "editor", "owner", "operator")
    }
    assert seen == {"viewer": 1, "editor": 1, "owner": 3, "operator": 5}


async def test_who_checks_keys_finds_one_by_its_hash(house: House) -> None:
    made = await create(house)
    operator, owner = await house.as_("operator"), await house.as_("owner")
    digest = hashlib.sha256(made.spec.key_hash.encode()).hexdigest()
    assert (await operator("api_key", "getByKeyHash", {"value": digest})).metadata.id == made.metadata.id
    with pytest.raises(NotFoundError):
        await operator("api_key", "getByKeyHash", {"value": "0" * 64})
    with pytest.raises(PermissionDeniedError):
        await owner("api_key", "getByKeyHash", {"value": digest})


async def test_a_key_that_is_deleted_is_no_good_from_then_on(house: House) -> None:
    made = await create(house)
    client = house.with_token(made.spec.key_hash)
    for _ in range(3):
        await client.list_all({"kind": "agent"})
    await house.api("api_key", "delete", {"value": made.metadata.id})
    with pytest.raises(UnauthenticatedError):
        await client.list_all({"kind": "agent"})


async def test_a_key_that_expires_is_no_good_from_then_on_and_says_so(house: House) -> None:
    end = datetime.now(UTC) + timedelta(seconds=1)
    made = await create(house, expiresAt=end.isoformat(), neverExpires=False)
    client = house.with_token(made.spec.key_hash)
    events = client.channel.service(WATCH).stream("watch", {})
    async with asyncio.timeout(20):
        await anext(events)
        with pytest.raises(UnauthenticatedError, match="expired"):
            async for _ in events:
                pass
    with pytest.raises(UnauthenticatedError, match=r"expired at 20\d\d-"):
        await client.list_all({"kind": "agent"})


async def test_a_role_that_is_changed_counts_at_once(house: House) -> None:
    made = await create(house)
    client = house.with_token(made.spec.key_hash)
    await client("agent", "create", manifest("agent", "a", AGENT, org=""))
    made.spec.role = 1
    await house.api("api_key", "update", made)
    await client.list_all({"kind": "agent"})
    with pytest.raises(PermissionDeniedError):
        await client("agent", "create", manifest("agent", "b", AGENT, org=""))


@pytest.mark.parametrize("change", ["delete", "role", "organization"])
async def test_streams_end_with_the_key_that_opened_them(house: House, change: str) -> None:
    made = await create(house)
    stub = house.with_token(made.spec.key_hash).channel.service(WATCH)
    events = stub.stream("watch", {})
    async with asyncio.timeout(20):
        await anext(events)
        if change == "delete":
            await house.api("api_key", "delete", {"value": made.metadata.id})
        elif change == "role":
            made.spec.role = 1
            await house.api("api_key", "update", made)
        else:
            (acme,) = (await house.api("organization", "find", {"org": ACME})).entries
            await house.api("organization", "delete", {"value": acme.metadata.id}, metadata={"x-stigmer-force": "true"})
        with pytest.raises(UnauthenticatedError, match="changed" if change == "role" else "revoked"):
            async for _ in events:
                pass


async def test_an_upload_ends_with_the_key_that_began_it_and_leaves_nothing(house: House) -> None:
    made = await create(house)
    begun, stored = asyncio.Event(), house.folder / "storage"

    async def goes_on() -> AsyncIterator[Any]:
        yield {"header": {"name": "House style", "scope": "organization", "org": ACME}}
        begun.set()
        await asyncio.Event().wait()

    stub = house.with_token(made.spec.key_hash).channel.service("ai.stigmer.agentic.skill.v1.SkillTransferController")
    upload = asyncio.create_task(stub.client_stream("pushParts", goes_on()))
    async with asyncio.timeout(20):
        await begun.wait()
        await house.api("api_key", "delete", {"value": made.metadata.id})
        with pytest.raises(UnauthenticatedError, match="revoked"):
            await upload
    assert not [path for path in stored.rglob("*") if path.is_file()]


async def test_streams_go_on_when_a_key_is_only_renamed(house: House) -> None:
    made = await create(house)
    events = house.with_token(made.spec.key_hash).channel.service(WATCH).stream("watch", {"kinds": ["agent"]})
    async with asyncio.timeout(20):
        await anext(events)
        made.metadata.name = "other"
        await house.api("api_key", "update", made)
        await house.api("agent", "create", manifest("agent", "seen", AGENT, org=ACME))
        assert (await anext(events)).resource.slug == "seen"
        events.cancel()


async def noted(house: House, id: str) -> Any:
    """Wait until a use of the key is noted, which nobody who uses it waits for."""
    async with asyncio.timeout(10):
        while True:
            found = await house.api("api_key", "get", {"value": id})
            if found.status.HasField("last_used_at"):
                return found
            await asyncio.sleep(0.01)


async def test_its_last_use_is_noted_and_not_at_every_call(house: House) -> None:
    made = await create(house)
    client = house.with_token(made.spec.key_hash)
    assert not (await house.api("api_key", "get", {"value": made.metadata.id})).status.HasField("last_used_at")
    await client.list_all({"kind": "agent"})
    used = await noted(house, made.metadata.id)
    for _ in range(20):
        await client.list_all({"kind": "agent"})
    await asyncio.sleep(0.05)
    assert await house.api("api_key", "get", {"value": made.metadata.id}) == used
    assert used.metadata.version.id == "1"


async def test_keys_outlive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        key = (await create(house)).spec.key_hash
    async with opened(tmp_path) as house:
        await house.with_token(key).list_all({"kind": "agent"})


async def test_keys_can_be_made_before_anybody_is_asked_for_one(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        await api("organization", "apply", org_manifest(ACME))
        key = (await api("api_key", "create", key_manifest("first", "owner"))).spec.key_hash
    async with opened(tmp_path) as house:
        assert (await house.with_token(key)("identity_account", "whoAmI", {})).metadata.org == ACME


@pytest.mark.parametrize("role", ["viewer", "editor", "owner", "runner", "operator"])
async def test_a_caller_can_ask_who_it_is(house: House, role: str) -> None:
    api = await house.as_(role)
    account = await api("identity_account", "whoAmI", {})
    assert account.metadata.labels["stigmer.ai/role"] == role
    assert account.metadata.org == ("" if role in ("runner", "operator") else ACME)
    assert account.metadata.id == "operator" if role == "operator" else account.metadata.id.startswith("key-")
    assert account.spec.is_machine_account
    actor = await api("identity_account", "getActorInfo", {"value": account.metadata.id})
    assert actor.id == account.metadata.id


async def test_actors_of_audits_are_told_as_far_as_they_are_ones_own(house: House) -> None:
    theirs = await house.api("api_key", "create", key_manifest("theirs", "viewer", OTHER))
    viewer = await house.as_("viewer")
    assert (await viewer("identity_account", "getActorInfo", {"value": "system"})).id == "system"
    with pytest.raises(NotFoundError):
        await viewer("identity_account", "getActorInfo", {"value": theirs.metadata.id})


@pytest.mark.parametrize(("kind", "verb"), [("iam_policy", "create"), ("identity_account", "getByEmail")])
async def test_what_is_not_here_says_what_is(local: Api, kind: str, verb: str) -> None:
    with pytest.raises(UnimplementedError, match=r"Stigmer Cloud.*API key|API key.*Stigmer Cloud"):
        await local(kind, verb, {})


async def test_without_authentication_a_token_is_no_matter(tmp_path: Path) -> None:
    async with serve(tmp_path) as api, api.app.channel(metadata={"authorization": "Bearer x"}) as channel:
        account = await Api(channel)("identity_account", "whoAmI", {})
        assert account.metadata.id == "system"
