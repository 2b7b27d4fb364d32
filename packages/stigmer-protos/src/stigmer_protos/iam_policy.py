# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of access policies of the cloud, and the permissions that methods ask for."""

from stigmer_protos._gen.ai.stigmer.iam.iampolicy.v1 import (
    ApiResourceRef as ApiResourceRef,
    ApiResourceRefView as ApiResourceRefView,
    AuthorizedPrincipalIdsList as AuthorizedPrincipalIdsList,
    AuthorizedResourceIdsList as AuthorizedResourceIdsList,
    CheckAuthorizationInput as CheckAuthorizationInput,
    CheckAuthorizationResult as CheckAuthorizationResult,
    GetPrincipalsCountInput as GetPrincipalsCountInput,
    IamPoliciesList as IamPoliciesList,
    IamPolicy as IamPolicy,
    IamPolicyId as IamPolicyId,
    IamPolicySpec as IamPolicySpec,
    IamPolicyStatus as IamPolicyStatus,
    ListAuthorizedPrincipalIdsInput as ListAuthorizedPrincipalIdsInput,
    ListAuthorizedResourceIdsInput as ListAuthorizedResourceIdsInput,
    ListResourceAccessInput as ListResourceAccessInput,
    PrincipalAccess as PrincipalAccess,
    PrincipalResourceInput as PrincipalResourceInput,
    PrincipalResourceRoles as PrincipalResourceRoles,
    PrincipalsCount as PrincipalsCount,
    ResourceAccessByPrincipalList as ResourceAccessByPrincipalList,
    ResourceAccessByRoleList as ResourceAccessByRoleList,
    ResourcePrincipalsInput as ResourcePrincipalsInput,
    RevokeOrgAccessInput as RevokeOrgAccessInput,
    RoleAccess as RoleAccess,
    RoleGrant as RoleGrant,
    RoleInfo as RoleInfo,
)
from stigmer_protos._gen.ai.stigmer.iam.iampolicy.v1.rpcauthorization import (
    ApiResourceIamPermission as ApiResourceIamPermission,
    RpcAuthorizationConfig as RpcAuthorizationConfig,
)
