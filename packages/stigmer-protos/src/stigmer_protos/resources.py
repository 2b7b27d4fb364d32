# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of resources of any kind: lists, versions, watches."""

from stigmer_protos._gen.ai.stigmer.resources.v1 import (
    DeleteResourceRequest as DeleteResourceRequest,
    DeletedResources as DeletedResources,
    ListResourcesRequest as ListResourcesRequest,
    ListRevisionsRequest as ListRevisionsRequest,
    Resource as Resource,
    ResourceList as ResourceList,
    ResourceRef as ResourceRef,
    ResourceSummary as ResourceSummary,
    Revision as Revision,
    RevisionList as RevisionList,
    RevisionRef as RevisionRef,
    RollbackRequest as RollbackRequest,
    WatchEvent as WatchEvent,
    WatchEventType as WatchEventType,
    WatchResourcesRequest as WatchResourcesRequest,
)
