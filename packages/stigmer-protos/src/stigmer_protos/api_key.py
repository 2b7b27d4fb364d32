# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of API keys of the cloud."""

from stigmer_protos._gen.ai.stigmer.iam.apikey.v1 import (
    ApiKey as ApiKey,
    ApiKeyHash as ApiKeyHash,
    ApiKeyId as ApiKeyId,
    ApiKeyRole as ApiKeyRole,
    ApiKeySpec as ApiKeySpec,
    ApiKeyStatus as ApiKeyStatus,
    ApiKeys as ApiKeys,
)
