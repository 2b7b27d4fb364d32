# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of organizations of the cloud."""

from stigmer_protos._gen.ai.stigmer.tenancy.organization.v1 import (
    Organization as Organization,
    OrganizationId as OrganizationId,
    OrganizationList as OrganizationList,
    OrganizationSpec as OrganizationSpec,
    Organizations as Organizations,
)
