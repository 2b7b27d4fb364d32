"""What a task does, in the few words that fit into a picture."""

import json
from typing import Any

from stigmer_dsl.model import (
    CallActivityTask,
    CallAgentTask,
    CallGrpcTask,
    CallHttpTask,
    CallMcpTask,
    CallOpenApiTask,
    Catch,
    DurationLike,
    EmitTask,
    ForTask,
    ListenTask,
    RaiseTask,
    RunTask,
    TaskBase,
    WaitTask,
)

_LONGEST = 60


def describe_task(task: TaskBase) -> str:
    """What a task does; empty where its kind and name say all."""
    return _short(_said(task))


def describe_catch(catch: Catch) -> str:
    """Which errors are caught; empty for all."""
    said = catch.errors.with_.to_dict() if catch.errors is not None and catch.errors.with_ is not None else {}
    parts = [f"{key} {str(value).rpartition('/')[2]}" for key, value in said.items()]
    parts += [catch.when] if catch.when else []
    parts += [f"not ({catch.except_when})"] if catch.except_when else []
    return _short(", ".join(parts))


def _said(task: TaskBase) -> str:
    match task:
        case CallHttpTask():
            return f"{task.with_.method.upper()} {task.with_.endpoint.uri}"
        case CallGrpcTask():
            return f"{task.with_.service.name}/{task.with_.method}"
        case CallOpenApiTask():
            return task.with_.operation_id
        case CallMcpTask():
            return task.with_.method
        case CallAgentTask():
            return task.with_.agent
        case CallActivityTask():
            return task.with_.name
        case EmitTask():
            return task.emit.event.with_.type or ""
        case ForTask():
            return f"{task.for_.each} in {_text(task.for_.in_)}"
        case ListenTask():
            return f"{task.listen.to.strategy} of {len(task.listen.to.filters)}"
        case RaiseTask():
            error = task.raise_.error
            return error if isinstance(error, str) else error.type.rpartition("/")[2]
        case RunTask():
            return next(key for key in ("container", "script", "shell", "workflow") if getattr(task.run, key))
        case WaitTask():
            return _length(task.wait)
        case _:
            return ""


def _length(value: DurationLike) -> str:
    if isinstance(value, str):
        return value
    return " ".join(f"{part} {name}" for name, part in value.to_dict().items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
