"""What YAML and JSON can say, as the type checker sees it."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeGuard

Json: TypeAlias = Any
"""A dictionary, a list, a text, a number, true, false or nothing."""


def is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    """Whether it is an object; keys are texts, as every reader here makes sure."""
    return isinstance(value, dict)


def is_list(value: Json) -> TypeGuard[list[Json]]:
    """Whether it is a list."""
    return isinstance(value, list)
