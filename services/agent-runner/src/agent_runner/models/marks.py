"""Marks on messages that stand in a person's name, and begin no turn."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage

NUDGE = "stigmer_nudge"
"""Key of `additional_kwargs` on what this runner says to a model in the person's name."""

SENT = "stigmer_sent"
"""The same on what a person says to an agent while it runs: it is part of the turn that it is said in."""


def begins_turn(message: Any) -> bool:
    """Whether a person began a turn with the message."""
    return isinstance(message, HumanMessage) and not {NUDGE, SENT} & message.additional_kwargs.keys()


def is_marked(message: Any, mark: str) -> bool:
    """Whether the message stands in a person's name, and has the mark."""
    return isinstance(message, HumanMessage) and mark in message.additional_kwargs
