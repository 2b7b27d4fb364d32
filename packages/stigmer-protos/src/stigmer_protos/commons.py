# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of what all resources share: metadata, references, audit, kinds, pages."""

from stigmer_protos._gen.ai.stigmer.commons.apiresource import (
    ApiResourceAudit as ApiResourceAudit,
    ApiResourceAuditActor as ApiResourceAuditActor,
    ApiResourceAuditInfo as ApiResourceAuditInfo,
    ApiResourceAuditStatus as ApiResourceAuditStatus,
    ApiResourceByOrgBySlugRequest as ApiResourceByOrgBySlugRequest,
    ApiResourceDeleteInput as ApiResourceDeleteInput,
    ApiResourceEventType as ApiResourceEventType,
    ApiResourceId as ApiResourceId,
    ApiResourceMetadata as ApiResourceMetadata,
    ApiResourceMetadataVersion as ApiResourceMetadataVersion,
    ApiResourceOwnerScope as ApiResourceOwnerScope,
    ApiResourceReference as ApiResourceReference,
    ApiResourceStateOperationType as ApiResourceStateOperationType,
    FindApiResourcesRequest as FindApiResourcesRequest,
    WorkflowTaskKind as WorkflowTaskKind,
)
from stigmer_protos._gen.ai.stigmer.commons.apiresource.apiresourcekind import (
    ApiResourceGroup as ApiResourceGroup,
    ApiResourceGroupMeta as ApiResourceGroupMeta,
    ApiResourceKind as ApiResourceKind,
    ApiResourceKindMeta as ApiResourceKindMeta,
    ApiResourceVersion as ApiResourceVersion,
    PlatformIdValue as PlatformIdValue,
    ResourceTier as ResourceTier,
)
from stigmer_protos._gen.ai.stigmer.commons.rpc import (
    GooglePageInfo as GooglePageInfo,
    PageInfo as PageInfo,
)
