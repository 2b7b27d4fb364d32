"""Workflows written in Python: one function for each kind of task, and `workflow` around them.

Every function returns the model itself, checked at once, so that a mistake is an error at its line of the program.
Tasks are given by name, in order, as a mapping. Whatever a document can say can be said: arguments are those of the
document, as plain values or as objects of `stigmer_dsl.model`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, Unpack, cast

from stigmer_dsl.errors import InvalidDocumentError
from stigmer_dsl.model import TaskBase, Workflow
from stigmer_dsl.model.element import Element, wire_name
from stigmer_dsl.parse import validate
from stigmer_dsl.problems import Problem
from stigmer_dsl.validation.findings import Finding
from stigmer_dsl.validation.structure import examine_structure

Value: TypeAlias = Any
"""What a document can hold there: a plain value, an element of the model, or plain values with elements in them."""
Tasks: TypeAlias = Mapping[str, TaskBase]
"""Tasks by name, in order."""


class Options(TypedDict, total=False):
    """What every task may have; keys are those of the document, `if` is `if_`."""

    if_: str
    input: Value
    output: Value
    export: Value
    timeout: Value
    then: str
    metadata: Mapping[str, Any]


class Parts(TypedDict, total=False):
    """What a workflow may have beside its tasks."""

    title: str
    summary: str
    tags: Mapping[str, Any]
    metadata: Mapping[str, Any]
    input: Value
    use: Value
    timeout: Value
    output: Value
    schedule: Value
    evaluate: Value


_HEADER = ("title", "summary", "tags", "metadata")


def workflow(
    name: str, do: Tasks, *, namespace: str = "default", version: str = "0.1.0", **parts: Unpack[Parts]
) -> Workflow:
    """A whole workflow, checked as `parse` checks a document.

    Raises:
        InvalidDocumentError: It is no valid workflow; every problem, with its pointer.
    """
    given = cast("dict[str, Any]", parts)
    if isinstance(given.get("use"), Mapping) and "functions" in given["use"]:
        # Functions are by name in the document, too; everywhere else tasks by name are a list.
        functions = {name: _plain(task) for name, task in given["use"]["functions"].items()}
        given["use"] = {**given["use"], "functions": functions}
    header = {"dsl": "1.0.3", "namespace": namespace, "name": name, "version": version}
    header |= {key: given.pop(key) for key in _HEADER if key in given}
    return validate(_plain({"document": header, **given, "do": do}))


def set_(value: Value, **options: Unpack[Options]) -> TaskBase:
    """Output data: an object with expressions in it, or one expression."""
    return _task({"set": value}, options)


def call(function: str, arguments: Value = None, **options: Unpack[Options]) -> TaskBase:
    """Call a function: a built-in one (`http`, `grpc`, `mcp`, `agent` …), one of `use.functions`, one of a catalog."""
    return _task({"call": function, "with": arguments}, options)


def http(method: str, endpoint: Value, arguments: Value = None, **options: Unpack[Options]) -> TaskBase:
    """Send an HTTP request; `arguments` are headers, body, query, output and redirect."""
    return call("http", {"method": method, "endpoint": endpoint, **_plain(arguments or {})}, **options)


def do(tasks: Tasks, **options: Unpack[Options]) -> TaskBase:
    """Do tasks in order."""
    return _task({"do": tasks}, options)


def for_(
    each: str, in_: Value, do: Tasks, *, at: str = "index", while_: str | None = None, **options: Unpack[Options]
) -> TaskBase:
    """Do tasks for each item of a collection."""
    return _task({"for": {"each": each, "in": in_, "at": at}, "while": while_, "do": do}, options)


def fork(branches: Tasks, *, compete: bool = False, **options: Unpack[Options]) -> TaskBase:
    """Do tasks side by side."""
    return _task({"fork": {"branches": branches, "compete": compete}}, options)


def switch(cases: Mapping[str, tuple[str | None, str]], **options: Unpack[Options]) -> TaskBase:
    """Go where the first case that holds says: `name: (when, then)`; the default's `when` is None."""
    listed = [{name: _without({"when": when, "then": then})} for name, (when, then) in cases.items()]
    return _task({"switch": listed}, options)


def try_(tasks: Tasks, catch: Value, **options: Unpack[Options]) -> TaskBase:
    """Do tasks and deal with their errors; `catch` may hold `do`, tasks by name."""
    return _task({"try": tasks, "catch": catch}, options)


def raise_(error: Value, **options: Unpack[Options]) -> TaskBase:
    """Raise an error: its fields, or the name of one in `use.errors`."""
    return _task({"raise": {"error": error}}, options)


def emit(event: Mapping[str, Any], **options: Unpack[Options]) -> TaskBase:
    """Publish an event with these attributes."""
    return _task({"emit": {"event": {"with": event}}}, options)


def listen(to: Value, *, read: str | None = None, foreach: Value = None, **options: Unpack[Options]) -> TaskBase:
    """Wait for events: `to` says one, all or any; `foreach` may hold `do`, tasks by name."""
    return _task({"listen": _without({"to": to, "read": read}), "foreach": foreach}, options)


def run(process: str, configuration: Value, *, await_: bool | None = None, return_: str | None = None,
        **options: Unpack[Options]) -> TaskBase:  # fmt: skip
    """Run a `container`, a `script`, a `shell` command or another `workflow`."""
    return _task({"run": _without({process: configuration, "await": await_, "return": return_})}, options)


def wait(duration: Value, **options: Unpack[Options]) -> TaskBase:
    """Wait: `{"seconds": 5}`, an ISO 8601 text, or an expression."""
    return _task({"wait": duration}, options)


def _task(value: dict[str, Any], options: Options) -> TaskBase:
    said = {wire_name(key): option for key, option in options.items()}
    plain = _plain({**_without(value), **said})
    structure = examine_structure({"document": _SOME, "do": [{"task": plain}]})
    if structure.workflow is None or structure.findings:
        raise InvalidDocumentError([_problem(finding) for finding in structure.findings])
    return structure.workflow.do[0].task


def _problem(finding: Finding) -> Problem:
    pointer = finding.pointer.removeprefix("/do/0/task")
    return Problem(code=finding.code, message=finding.message, pointer=pointer, hint=finding.hint)


_SOME = {"dsl": "1.0.3", "namespace": "a", "name": "a", "version": "0.0.0"}


def _without(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def _plain(value: Value) -> Any:
    """A value as the document writes it: elements as objects, tasks by name as lists."""
    if isinstance(value, Element):
        return value.to_dict()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value)
        if pairs and all(isinstance(item, TaskBase) for item in pairs.values()):
            return [{name: _plain(task)} for name, task in pairs.items()]
        return {key: _plain(item) for key, item in pairs.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return value
