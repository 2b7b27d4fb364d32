"""Secrets: sealed in every file, shown to nobody, given to the run that needs them."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, InvalidArgumentError

from stigmer_server.errors import StartupError
from stigmer_server.secrets import REDACTED, Sealer, UnsealError
from stigmer_server.testing import Api, manifest, serve, unchanged

Make = Callable[..., Awaitable[Any]]
CANARY = "canary-4f1d9c"


def secret(value: str = CANARY) -> dict[str, Any]:
    return {"value": value, "isSecret": True}


@pytest.fixture
def sealed_specs() -> dict[str, dict[str, Any]]:
    """A spec with a secret in it, for each kind that has a place for one."""
    data = {"data": {"TOKEN": secret(), "REGION": {"value": "eu"}}}
    return {
        "environment": data,
        "execution_context": data,
        "agent": {"envSpec": data},
        "workflow": {"envSpec": data},
        "mcp_server": {"envSpec": data},
        "agent_execution": {"runtimeEnv": data["data"]},
        "workflow_execution": {"runtimeEnv": data["data"]},
    }


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


KINDS = ["environment", "execution_context", "agent", "workflow", "mcp_server", "agent_execution", "workflow_execution"]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_reader_and_no_file_sees_a_secret(
    tmp_path: Path, make: Make, kind: str, sealed_specs: dict[str, Any]
) -> None:
    async with serve(tmp_path, transport="tcp") as api:
        made = await make(api, kind, "sealed", spec=sealed_specs[kind])
        answers = [made, await api(kind, "get", {"value": made.metadata.id}), await api.list_all({"kind": kind})]
        if kind in ("agent_execution", "workflow_execution"):
            answers.append(await api(kind, "list", {}))
        else:
            answers.append(await api(kind, "getByReference", {"slug": "sealed"}))
            answers.append(await api(kind, "getByReference", {"slug": "sealed", "version": "1"}))
        for answer in answers:
            assert CANARY not in str(answer)
            assert REDACTED in str(answer)
            assert "eu" in str(answer)
    assert files_with(CANARY, tmp_path) == []
    assert files_with("enc:v1:", tmp_path) != []


async def test_a_redacted_value_sent_back_keeps_the_secret(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "keeper")
    environment = await make(local, "environment", "vault", spec={"data": {"TOKEN": secret(), "OLD": secret("x")}})
    environment.spec.data["REGION"].value = "eu"
    del environment.spec.data["OLD"]
    updated = await local("environment", "update", environment)
    assert updated.spec.data["TOKEN"].value == REDACTED
    assert await opened(local, agent, "vault") == {"TOKEN": CANARY, "REGION": "eu"}


async def test_a_new_value_replaces_the_secret(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "keeper")
    environment = await make(local, "environment", "vault", spec={"data": {"TOKEN": secret()}})
    environment.spec.data["TOKEN"].value = "renewed"
    await local("environment", "update", environment)
    assert await opened(local, agent, "vault") == {"TOKEN": "renewed"}


async def test_applying_the_same_secret_again_writes_nothing(local: Api) -> None:
    sent = manifest("environment", "vault", {"data": {"TOKEN": secret()}})
    first = await local("environment", "apply", sent)
    assert await local("environment", "apply", sent) == unchanged(first)
    sent["spec"]["data"]["TOKEN"]["value"] = REDACTED
    assert await local("environment", "apply", sent) == unchanged(first)


async def test_a_redacted_value_without_a_stored_secret_is_invalid(local: Api, make: Make) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await make(local, "environment", "vault", spec={"data": {"TOKEN": secret(REDACTED)}})
    assert caught.value.violations[0].field == "spec.data[TOKEN]"
    made = await make(local, "environment", "vault", spec={"data": {"TOKEN": secret()}})
    made.spec.data["TOKEN"].is_secret = False
    with pytest.raises(InvalidArgumentError):
        await local("environment", "update", made)


async def opened(api: Api, agent: Any, *environments: str, runtime: dict[str, Any] | None = None) -> dict[str, str]:
    """Return what a run of the agent with these environments is given."""
    references = [{"kind": "environment", "slug": slug, "org": "local"} for slug in environments]
    spec = {"agentId": agent.metadata.id, "environmentRefs": references}
    name = f"instance {os.urandom(4).hex()}"
    instance = await api("agent_instance", "create", manifest("agent_instance", name, spec))
    session = await api("session", "create", manifest("session", name, {"agentInstanceId": instance.metadata.id}))
    run = {"sessionId": session.metadata.id, "message": "go", "runtimeEnv": runtime or {}}
    execution = await api("agent_execution", "create", manifest("agent_execution", name, run))
    values = (await api.environment(execution.metadata.id)).values
    return {key: values[key].value for key in values}


async def test_environments_are_laid_over_each_other(local: Api, make: Make) -> None:
    spec = {"envSpec": {"data": {"A": {"value": "spec"}, "B": {"value": "spec"}, "C": {"value": "spec"}, "D": {}}}}
    agent = await make(local, "agent", spec=spec)
    await make(local, "environment", "first", spec={"data": {"B": {"value": "first"}, "C": {"value": "first"}}})
    await make(local, "environment", "second", spec={"data": {"C": {"value": "second"}, "E": {"value": "second"}}})
    runtime = {"E": {"value": "runtime"}}
    values = await opened(local, agent, "first", "second", runtime=runtime)
    assert values == {"A": "spec", "B": "first", "C": "second", "E": "runtime"}


async def test_an_environment_that_is_named_must_exist_when_it_is_used(local: Api, make: Make) -> None:
    agent = await make(local, "agent")
    with pytest.raises(FailedPreconditionError, match="missing"):
        await opened(local, agent, "missing")


async def test_a_lost_key_is_told_and_guesses_nothing(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        spec = {"runtimeEnv": {"TOKEN": secret()}}
        made = await make(api, "agent_execution", spec=spec)
    async with serve(tmp_path, encryption_key=base64.b64encode(bytes(32)).decode()) as api:
        got = await api("agent_execution", "get", {"value": made.metadata.id})
        assert got.spec.runtime_env["TOKEN"].value == REDACTED
        with pytest.raises(FailedPreconditionError, match="TOKEN"):
            await api.environment(made.metadata.id)


async def test_keys_are_rotated_by_putting_the_new_one_first(tmp_path: Path, make: Make) -> None:
    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    async with serve(tmp_path, encryption_key=old) as api:
        made = await make(api, "agent_execution", spec={"runtimeEnv": {"TOKEN": secret()}})
    async with serve(tmp_path, encryption_key=f"{new},{old}") as api:
        assert (await api.environment(made.metadata.id)).values["TOKEN"].value == CANARY


async def test_the_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    async with serve(tmp_path):
        path = tmp_path / "encryption.key"
        key = path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with serve(tmp_path):
        assert path.read_text() == key
    path.chmod(0o644)
    with pytest.raises(StartupError, match="chmod 600"):
        async with serve(tmp_path):
            pass


def test_a_sealed_value_opens_only_in_its_place() -> None:
    sealer = Sealer([bytes(32)])
    sealed = sealer.seal("välue", id="env-1", name="TOKEN")
    assert sealed.startswith("enc:v1:")
    assert sealer.unseal(sealed, id="env-1", name="TOKEN") == "välue"
    tampered = sealed[:-2] + ("AA" if not sealed.endswith("AA") else "BB")
    for text, id, name in (
        (sealed, "env-2", "TOKEN"),
        (sealed, "env-1", "OTHER"),
        (tampered, "env-1", "TOKEN"),
        ("enc:v1:none", "env-1", "TOKEN"),
        ("enc:v1:00000000:AA:AA", "env-1", "TOKEN"),
    ):
        with pytest.raises(UnsealError):
            sealer.unseal(text, id=id, name=name)


def test_equal_values_are_sealed_differently() -> None:
    sealer = Sealer([bytes(32)])
    assert sealer.seal("x", id="a", name="b") != sealer.seal("x", id="a", name="b")
