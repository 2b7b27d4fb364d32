# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of Google that the contract uses; a Timestamp field holds a datetime."""

from stigmer_protos._gen.google.protobuf import (
    Empty as Empty,
    ListValue as ListValue,
    NullValue as NullValue,
    Struct as Struct,
    Timestamp as Timestamp,
    Value as Value,
)
