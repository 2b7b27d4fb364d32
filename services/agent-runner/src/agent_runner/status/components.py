"""How a client may show a tool call, told by the tool's name."""

from __future__ import annotations

import re

_TYPES = (
    (r"task", "subagent"),
    (r"write_todos|todowrite", "todo"),
    (r"execute.*|shell|bash|sh", "terminal"),
    (r"kubectl.*|k8s.*", "kubernetes"),
    (r"git(_.*|-.*)?", "git"),
    (r"browser.*", "browser"),
    (r".*web.*search.*", "web-search"),
    (r"read|read_file|view_file|cat", "preview"),
    (r"write|write_file|edit_file|strreplace|editnotebook", "editor"),
    (r"grep|glob|semanticsearch|find", "search"),
    (r"ls|delete|delete_file", "filesystem"),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in _TYPES)

MAIN_GROUP = "main-agent-tools"


def component_type(tool: str) -> str:
    """The kind of component that shows a call of `tool` best; empty when none is known."""
    return next((kind for pattern, kind in _COMPILED if pattern.fullmatch(tool)), "")


def component_group(task: str) -> str:
    """Names the agent whose call it is: the main one, or the sub-agent that works for the call `task`."""
    return f"sub-agent-tools:{task}" if task else MAIN_GROUP
