"""What this server does not have: every RPC of the contract that it answers with UNIMPLEMENTED.

Kinds that only the cloud has are named as such by the error. To serve an RPC, delete it from its list here and show
what it does.
"""

from __future__ import annotations

from typing import Any

import pytest

CLOUD = (
    "iam_policy/bootstrapPolicy",
    "iam_policy/checkAuthorization",
    "iam_policy/cleanupResourcePolicies",
    "iam_policy/create",
    "iam_policy/createPlatformLink",
    "iam_policy/delete",
    "iam_policy/get",
    "iam_policy/listAuthorizedPrincipalIds",
    "iam_policy/listAuthorizedResourceIds",
    "identity_account/delete",
    "identity_account/get",
    "identity_account/getByEmail",
    "identity_account/getByIdpId",
    "identity_account/simulateSignupWebhook",
    "identity_account/update",
)
RUNNER = (
    "WorkflowRunnerServiceController/cancelExecution",
    "WorkflowRunnerServiceController/executeAsync",
    "WorkflowRunnerServiceController/pauseExecution",
    "WorkflowRunnerServiceController/resumeExecution",
)
"""The service that a workflow runner has by itself."""


def _each(names: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.rpc(name, "UNIMPLEMENTED")) for name in names]


@pytest.mark.parametrize("name", _each(CLOUD))
def test_what_only_the_cloud_has_is_named_as_such(client: Any, name: str) -> None:
    assert "Stigmer Cloud" in client.refused(name, None, "UNIMPLEMENTED").message


@pytest.mark.parametrize("name", _each(RUNNER))
def test_what_is_not_here_is_named(client: Any, name: str) -> None:
    assert name.partition("/")[2] in client.refused(name, None, "UNIMPLEMENTED").message
