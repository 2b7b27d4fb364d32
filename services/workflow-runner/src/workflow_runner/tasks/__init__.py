"""The kinds of tasks that can be run: one module each, found by being in this folder."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from stigmer_dsl.model import AuthenticationPolicy, TaskBase, TaskList, Workflow, inner_lists
from stigmer_dsl.problems import Problem, pointer_to

from workflow_runner import grants
from workflow_runner.document import find
from workflow_runner.tasks.port import TaskKind

_PORT = "port"


@cache
def kinds() -> dict[type[TaskBase], TaskKind[Any]]:
    """Return the kinds by the class of the model whose tasks they run."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != _PORT)
    found = [importlib.import_module(f"{__name__}.{name}").KIND for name in names]
    return {kind.task: kind for kind in found}


def kind_of(task: TaskBase) -> TaskKind[Any]:
    """Return the kind that runs `task`.

    Raises:
        KeyError: None does; `unsupported` says so beforehand.
    """
    return kinds()[type(task)]


def unsupported(workflow: Workflow) -> list[Problem]:
    """Return what of a valid workflow this runner cannot run yet, in the order of the document."""
    problems = list(_unsupported_in(workflow.do, "/do"))
    for name, task in workflow.use.functions.items():
        problems += _unsupported_task(name, cast("TaskBase", task), pointer_to(("use", "functions", name)))
    if workflow.evaluate.language != "jq":
        problems.append(_problem("/evaluate/language", f"expressions in {workflow.evaluate.language!r} are not run"))
    for index, item in enumerate(workflow.use.extensions):
        at = pointer_to(("use", "extensions", index, item.name))
        for path, tasks in (("/before", item.extension.before), ("/after", item.extension.after)):
            problems += _unsupported_in(tasks or (), at + path)
    problems += _unsupported_grants(workflow)
    return problems


def _unsupported_grants(workflow: Workflow) -> Iterator[Problem]:
    for pointer, policy in find(workflow, AuthenticationPolicy):
        for scheme in ("oauth2", "oidc"):
            properties = getattr(policy, scheme)
            if properties is not None and properties.use is None:
                for path, sentence in grants.problems(properties.to_dict()):
                    yield _problem(f"{pointer}/{scheme}{path}", sentence)


def _unsupported_in(tasks: TaskList, pointer: str) -> Iterator[Problem]:
    for index, item in enumerate(tasks):
        yield from _unsupported_task(item.name, item.task, pointer + pointer_to((index, item.name)))


def _unsupported_task(name: str, task: TaskBase, here: str) -> Iterator[Problem]:
    kind = kinds().get(type(task))
    if kind is None:
        yield _problem(here, f"task {name!r}: {task.kind} is not run yet")
        return
    for path, sentence in kind.unsupported(task):
        yield _problem(here + path, f"task {name!r}: {sentence}")
    for path, inner in inner_lists(task):
        yield from _unsupported_in(inner, here + path)


def _problem(pointer: str, message: str) -> Problem:
    return Problem(code="unsupported", message=message, pointer=pointer)
