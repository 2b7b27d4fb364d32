# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of environments: named sets of variables and secrets."""

from stigmer_protos._gen.ai.stigmer.agentic.environment.v1 import (
    Environment as Environment,
    EnvironmentId as EnvironmentId,
    EnvironmentSpec as EnvironmentSpec,
    EnvironmentValue as EnvironmentValue,
)
