"""The token of an execution: what it opens, for how long, and what it does not."""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from stigmer_server.access.execution_tokens import LIFETIME_SECONDS, ExecutionTokens
from stigmer_server.errors import DeniedError, UnprovenError
from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
SECRET = {"runtimeEnv": {"TOKEN": {"value": "s3cret", "isSecret": True}}}


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def fixed(keys: list[bytes]) -> Callable[[], list[bytes]]:
    return lambda: keys


def new_keys(number: int = 1) -> list[bytes]:
    return [os.urandom(32) for _ in range(number)]


@pytest.mark.parametrize("kind", ["agent_execution", "workflow_execution"])
async def test_values_are_given_for_the_token_of_the_execution_alone(local: Api, make: Make, kind: str) -> None:
    mine, other = await make(local, kind, "mine", spec=SECRET), await make(local, kind, "other", spec=SECRET)
    token = (await local.runtime("issueToken", mine.metadata.id)).token
    values = (await local.runtime("getEnvironment", mine.metadata.id, token=token)).values
    assert values["TOKEN"].value == "s3cret"
    with pytest.raises(UnauthenticatedError, match="send its token"):
        await local.runtime("getEnvironment", mine.metadata.id)
    with pytest.raises(PermissionDeniedError, match="another execution"):
        await local.runtime("getEnvironment", other.metadata.id, token=token)


async def test_a_token_says_when_it_expires(local: Api, make: Make) -> None:
    made = await make(local, "agent_execution")
    issued = await local.runtime("issueToken", made.metadata.id)
    created = made.status.audit.spec_audit.created_at.seconds
    assert LIFETIME_SECONDS <= issued.expires_at.seconds - created <= LIFETIME_SECONDS + 60
    assert made.metadata.id in issued.token


async def test_an_execution_that_has_ended_has_no_token_and_no_values(local: Api, make: Make) -> None:
    made = await make(local, "workflow_execution", spec=SECRET)
    token = (await local.runtime("issueToken", made.metadata.id)).token
    await local("workflow_execution", "cancel", {"id": made.metadata.id})
    with pytest.raises(FailedPreconditionError, match="has ended"):
        await local.runtime("issueToken", made.metadata.id)
    with pytest.raises(FailedPreconditionError, match="has ended"):
        await local.runtime("getEnvironment", made.metadata.id, token=token)
    with pytest.raises(NotFoundError):
        await local.runtime("issueToken", "wex-none")
    with pytest.raises(NotFoundError):
        await local.runtime("issueToken", "agt-1")


async def test_a_token_outlives_a_restart_and_not_its_key(tmp_path: Path, make: Make) -> None:
    old, new = (base64.b64encode(key).decode() for key in new_keys(2))
    async with serve(tmp_path, encryption_key=old) as api:
        made = await make(api, "agent_execution")
        token = (await api.runtime("issueToken", made.metadata.id)).token
    async with serve(tmp_path, encryption_key=f"{new},{old}") as api:
        await api.runtime("getEnvironment", made.metadata.id, token=token)
    async with serve(tmp_path, encryption_key=new) as api:
        with pytest.raises(UnauthenticatedError, match="not issued by this server"):
            await api.runtime("getEnvironment", made.metadata.id, token=token)


def test_a_token_is_good_for_a_quarter_of_an_hour() -> None:
    clock = Clock()
    tokens = ExecutionTokens(fixed(new_keys()), clock=clock)
    token, expires = tokens.issue("wex-1")
    assert expires == clock.now + 15 * 60
    clock.now = expires - 1
    tokens.check(token, "wex-1")
    clock.now = expires
    with pytest.raises(UnprovenError, match="expired"):
        tokens.check(token, "wex-1")


def test_a_token_that_was_changed_anywhere_is_forged() -> None:
    tokens = ExecutionTokens(fixed(new_keys()), clock=Clock())
    token, _ = tokens.issue("wex-01jb6j0e8m")
    for place in range(len(token)):
        for character in "A9.-":
            changed = token[:place] + character + token[place + 1 :]
            if changed == token:
                continue
            with pytest.raises((UnprovenError, DeniedError)):
                tokens.check(changed, "wex-01jb6j0e8m")
    assert token.count(".") == 2


@pytest.mark.parametrize(
    "token",
    ["x", "ste_", "ste_.", "ste_..", "ste_1.wex-1.", "ste_99999999999999.wex-1.x", "ste_²3.wex-1.x", "ste_-1.w.x"],
)
def test_what_is_no_token_is_no_good(token: str) -> None:
    with pytest.raises(UnprovenError, match="not issued by this server"):
        ExecutionTokens(fixed(new_keys()), clock=Clock()).check(token, "wex-1")


def test_a_token_of_another_server_is_no_good() -> None:
    token, _ = ExecutionTokens(fixed(new_keys())).issue("wex-1")
    with pytest.raises(UnprovenError, match="not issued by this server"):
        ExecutionTokens(fixed(new_keys(3))).check(token, "wex-1")


def test_any_of_the_keys_is_good_for_checking() -> None:
    first, second = new_keys(2)
    token, _ = ExecutionTokens(lambda: [second]).issue("wex-1")
    ExecutionTokens(lambda: [first, second]).check(token, "wex-1")
