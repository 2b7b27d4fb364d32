# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of how a server is."""

from stigmer_protos._gen.ai.stigmer.operations.v1 import (
    Component as Component,
    ComponentState as ComponentState,
    ServerStatus as ServerStatus,
)
