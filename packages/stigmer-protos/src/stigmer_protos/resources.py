# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of lists of resources of any kind."""

from stigmer_protos._gen.ai.stigmer.resources.v1 import (
    ListResourcesRequest as ListResourcesRequest,
    ResourceList as ResourceList,
)
