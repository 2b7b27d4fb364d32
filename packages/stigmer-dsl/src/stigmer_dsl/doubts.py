"""What a valid workflow says but hardly means. Each is a `Problem` that stands in nobody's way.

Owns texts that look like expressions and are none, tasks that the flow never comes to, and workflows that start
themselves again and again.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.expressions import is_expression
from stigmer_dsl.expressions.lexer import LexError, end_of_expression
from stigmer_dsl.model import EmitTask, RaiseTask, SwitchTask, TaskBase, TaskList, TryTask, Workflow, inner_lists
from stigmer_dsl.problems import Problem, pointer_to
from stigmer_dsl.secrets import PLACEHOLDER

_OTHER_LANGUAGES = (
    ("run", "script", "code"),
    ("run", "shell", "command"),
    ("run", "container", "command"),
    ("schema", "document"),
    ("form", "document"),
    ("response", "document"),
    ("metadata",),
)
"""Ends of the places whose texts are nobody's expressions."""
_BRANCHES = "/fork/branches"
_MOST = 50


def doubts_about(workflow: Workflow) -> list[Problem]:
    """What of a valid workflow is probably meant otherwise, in the order of the document's parts; 50 at most."""
    found = [*_loop_of_events(workflow)]
    if workflow.evaluate.mode == "strict":
        found += _texts(workflow.to_dict(), ())
    has_extensions = bool(workflow.use.extensions)
    for name, task in cast("dict[str, TaskBase]", workflow.use.functions).items():
        found += _unreached_inside(task, pointer_to(("use", "functions", name)), has_extensions=has_extensions)
    found += _unreached(workflow.do, "/do", has_extensions=has_extensions)
    return found[:_MOST]


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """Texts with an expression in the middle, which strict mode leaves as they are."""
    if any(path[-len(end) :] == end for end in _OTHER_LANGUAGES):
        return
    if isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str) and "${" in value and not is_expression(value):
        whole = _as_expression(PLACEHOLDER.sub("", value))
        if whole is not None:
            message = "`${ }` inside a longer text is left as it is"
            hint = f"as an expression it is {whole}"
            yield Problem(code="doubt.text", message=message, pointer=pointer_to(path), hint=hint)


def _as_expression(text: str) -> str | None:
    """The text as one expression; None if nothing in it is any."""
    parts: list[str] = []
    at = 0
    while (start := text.find("${", at)) >= 0:
        try:
            end = end_of_expression(text, start + 2)
        except LexError:
            return None
        parts += [json.dumps(text[at:start], ensure_ascii=False)[1:-1], rf"\({text[start + 2 : end].strip()})"]
        at = end + 1
    return f'${{ "{"".join(parts)}{json.dumps(text[at:], ensure_ascii=False)[1:-1]}" }}' if parts else None


def _loop_of_events(workflow: Workflow) -> Iterator[Problem]:
    """A workflow that emits what it starts on."""
    on = None if workflow.schedule is None else workflow.schedule.on
    if on is None:
        return
    starting = {item.with_.type for item in on.filters if item.with_.attributes().keys() == {"type"}}
    for at, task in _every(workflow.do, "/do"):
        if isinstance(task, EmitTask) and (kind := task.emit.event.with_.type) in starting:
            yield Problem(
                code="doubt.event-loop",
                message=f"the workflow starts on events of type {kind!r}, and this is one: each run starts another",
                pointer=f"{at}/emit/event/with/type",
                hint="emit another type, or say in `schedule.on` by what else events are told apart",
            )


def _every(tasks: TaskList, pointer: str) -> Iterator[tuple[str, TaskBase]]:
    for index, item in enumerate(tasks):
        at = pointer + pointer_to((index, item.name))
        yield at, item.task
        for path, inner in inner_lists(item.task):
            yield from _every(inner, at + path)


def _unreached(tasks: TaskList, pointer: str, *, has_extensions: bool) -> Iterator[Problem]:
    """Tasks of a list, and of all lists inside it, that no way of the flow leads to."""
    are_branches = pointer.endswith(_BRANCHES)
    reached = set(range(len(tasks))) if are_branches else _reached(tasks, has_extensions=has_extensions)
    for index, item in enumerate(tasks):
        at = pointer + pointer_to((index, item.name))
        if index in reached:
            yield from _unreached_inside(item.task, at, has_extensions=has_extensions)
        elif index - 1 in reached:
            message = f"the flow never comes to {item.name!r}"
            hint = "nothing goes on to it, and no `then` names it"
            yield Problem(code="doubt.unreachable", message=message, pointer=at, hint=hint)


def _reached(tasks: TaskList, *, has_extensions: bool) -> set[int]:
    """The indexes of the tasks of a list that some way of the flow leads to."""
    reached: set[int] = set()
    places = {item.name: index for index, item in enumerate(tasks)}
    ways = [0]
    while ways:
        index = ways.pop()
        if index in reached or index >= len(tasks):
            continue
        reached.add(index)
        task = tasks[index].task
        # What comes before a task by an extension may stand for it, even for one that raises.
        if isinstance(task, RaiseTask) and not has_extensions and task.if_ is None:
            continue
        following = {None: index + 1, "continue": index + 1, **places}
        ways += [following[then] for then in _directives(task) if then in following]
    return reached


def _unreached_inside(task: TaskBase, pointer: str, *, has_extensions: bool) -> Iterator[Problem]:
    for path, inner in inner_lists(task):
        yield from _unreached(inner, pointer + path, has_extensions=has_extensions)


def _directives(task: TaskBase) -> set[str | None]:
    """Every way that the flow may take after a task; None: to the next one."""
    ways: set[str | None] = set() if task.if_ is None else {None}
    if isinstance(task, SwitchTask):
        ways |= {item.case.then for item in task.switch}
        has_default = any(item.case.when is None for item in task.switch)
        return ways if has_default else ways | {task.then}
    if isinstance(task, TryTask):
        ways.add(task.catch.then or task.then)
    return ways | {task.then}
