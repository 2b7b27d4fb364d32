"""The kinds of stored tasks, by number, by enum name and by the short names of manifests."""

from collections.abc import Mapping

PREFIX = "WORKFLOW_TASK_KIND_"

NUMBERS: Mapping[int, str] = {
    1: "set",
    2: "http_call",
    3: "grpc_call",
    4: "call_activity",
    5: "switch",
    6: "for",
    7: "fork",
    8: "try",
    9: "listen",
    10: "wait",
    11: "raise",
    12: "run",
    13: "agent_call",
    1000: "do",
    1001: "emit",
    1002: "human_input",
    1003: "llm_call",
    1004: "transform",
    1005: "validate",
    1006: "notification",
    1007: "eval",
}
_SHORT: Mapping[str, str] = {
    "set_vars": "set",
    "activity_call": "call_activity",
    "switch_case": "switch",
    "for_each": "for",
    "try_catch": "try",
    "raise_error": "raise",
    "run_workflow": "run",
    "emit_event": "emit",
}
NAMES: tuple[str, ...] = tuple(NUMBERS.values())


def kind_name(kind: object) -> str | None:
    """The name of a kind however it is written; None for what is no kind.

    A number, `WORKFLOW_TASK_KIND_SET`, `SET`, `set` and `set_vars` are all `set`.
    """
    if isinstance(kind, (int, float)) and not isinstance(kind, bool):
        return NUMBERS.get(int(kind)) if kind == int(kind) else None
    if not isinstance(kind, str):
        return None
    if kind.isascii() and kind.isdecimal():
        return NUMBERS.get(int(kind))
    name = kind.removeprefix(PREFIX).lower()
    name = _SHORT.get(name, name)
    return name if name in NAMES else None
