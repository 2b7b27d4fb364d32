# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of accounts of people and machines in the cloud."""

from stigmer_protos._gen.ai.stigmer.iam.identityaccount.v1 import (
    Auth0Webhook as Auth0Webhook,
    IdentityAccount as IdentityAccount,
    IdentityAccountEmail as IdentityAccountEmail,
    IdentityAccountId as IdentityAccountId,
    IdentityAccountSpec as IdentityAccountSpec,
    IdentityAccounts as IdentityAccounts,
    IdentityAccountsList as IdentityAccountsList,
    IdpId as IdpId,
    ListWithIdentityAccountIdReq as ListWithIdentityAccountIdReq,
    ListWithIdentityOrg as ListWithIdentityOrg,
)
