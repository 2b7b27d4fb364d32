"""From a workflow to its graph: one walk over the lists of tasks.

Each list has a beginning and an end, so that `exit`, the branches of a fork and the passes of a loop lead somewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from stigmer_dsl.graph.details import describe_catch, describe_task
from stigmer_dsl.graph.graph import END, START, Edge, Graph, Node
from stigmer_dsl.model import (
    CallAsyncApiTask,
    CallFunctionTask,
    ForkTask,
    ForTask,
    ListenTask,
    RaiseTask,
    SwitchTask,
    TaskBase,
    TaskList,
    TryTask,
    Workflow,
    inner_lists,
)
from stigmer_dsl.problems import Position, pointer_to

_LAST = "/do#end"
"""Where the workflow ends."""


class Places(Protocol):
    """Tells where the parts of a workflow stand in a text; a `SourceDocument` is one."""

    def position(self, pointer: str, *, key: bool = False) -> Position:
        """Where the value at a JSON pointer of the workflow stands; with `key`, where its key does."""
        ...


def build_graph(workflow: Workflow, places: Places | None = None) -> Graph:
    """The graph of a valid workflow.

    Args:
        workflow: What `parse` gave.
        places: Where the parts of the workflow stand: the document that it was parsed from, or what knows it.
    """
    builder = _Builder(workflow, places)
    builder.build()
    header = workflow.document
    return Graph(
        namespace=header.namespace,
        name=header.name,
        version=header.version,
        nodes=tuple(builder.nodes),
        edges=tuple(builder.edges),
    )


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where flow directives lead in one list."""

    names: Mapping[str, str]
    end: str


class _Builder:
    """Collects the nodes and edges of one workflow."""

    def __init__(self, workflow: Workflow, places: Places | None) -> None:
        self._workflow = workflow
        self._places = places
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []

    def build(self) -> None:
        """Collect everything: the tasks, then the functions and extensions that stand beside them."""
        use = self._workflow.use
        self._list(self._workflow.do, "/do", None)
        for name, task in use.functions.items():
            self._task(task, name, pointer_to(["use", "functions", name]), None)
        for index, item in enumerate(use.extensions):
            pointer = pointer_to(["use", "extensions", index, item.name])
            extension = item.extension
            self._node(pointer, "extension", item.name, None, is_group=True, detail=f"extends {extension.extend}")
            for side, tasks in (("before", extension.before), ("after", extension.after)):
                if tasks:
                    self._node(f"{pointer}/{side}", side, side, pointer, is_group=True)
                    self._list(tasks, f"{pointer}/{side}", f"{pointer}/{side}")

    def _list(self, tasks: TaskList, pointer: str, parent: str | None) -> None:
        """The tasks of a list, one after the other."""
        start, scope = self._open(tasks, pointer, parent)
        at = [*scope.names.values(), scope.end]
        self._edge(start, at[0], "next")
        for (item, here), following in zip(zip(tasks, at, strict=False), at[1:], strict=True):
            self._task(item.task, item.name, here, parent)
            self._leave(item.task, here, scope, following)

    def _branches(self, tasks: TaskList, pointer: str, parent: str) -> None:
        """The branches of a fork, side by side."""
        start, scope = self._open(tasks, pointer, parent)
        for item, here in zip(tasks, scope.names.values(), strict=True):
            self._edge(start, here, "branch")
            self._task(item.task, item.name, here, parent)
            self._leave(item.task, here, scope, scope.end)

    def _open(self, tasks: TaskList, pointer: str, parent: str | None) -> tuple[str, _Scope]:
        start, end = f"{pointer}#{START}", f"{pointer}#{END}"
        for id_, kind in ((start, START), (end, END)):
            self._node(id_, kind, kind, parent, pointer=pointer)
        names = {item.name: pointer + pointer_to([index, item.name]) for index, item in enumerate(tasks)}
        return start, _Scope(names, end)

    def _task(self, task: TaskBase, name: str, pointer: str, parent: str | None) -> None:
        lists = list(inner_lists(task))
        self._node(
            pointer, task.kind, name, parent,
            is_group=bool(lists), condition=task.if_ or "", detail=describe_task(task),
        )  # fmt: skip
        if isinstance(task, TryTask):
            self._try(task, pointer)
        elif isinstance(task, ForkTask):
            self._branches(task.fork.branches, pointer + "/fork/branches", pointer)
        else:
            for path, tasks in lists:
                self._list(tasks, pointer + path, pointer)
                if isinstance(task, (ForTask, ListenTask, CallAsyncApiTask)):
                    again = task.while_ or "" if isinstance(task, ForTask) else ""
                    place = f"{pointer}/while" if again else ""
                    self._edge(f"{pointer}{path}#{END}", f"{pointer}{path}#{START}", "loop", again, place)
        if isinstance(task, CallFunctionTask) and task.call in self._workflow.use.functions:
            self._edge(pointer, pointer_to(["use", "functions", task.call]), "call", pointer=f"{pointer}/call")

    def _try(self, task: TryTask, pointer: str) -> None:
        tried, caught = f"{pointer}/try", f"{pointer}/catch"
        self._node(tried, "try", "try", pointer, is_group=True)
        self._list(task.try_, tried, tried)
        self._node(caught, "catch", "catch", pointer, is_group=task.catch.do is not None)
        if task.catch.do is not None:
            self._list(task.catch.do, f"{caught}/do", caught)
        self._edge(tried, caught, "catch", describe_catch(task.catch), caught)
        if task.catch.retry is not None:
            label = task.catch.retry if isinstance(task.catch.retry, str) else ""
            self._edge(caught, tried, "retry", label, f"{caught}/retry")

    def _leave(self, task: TaskBase, here: str, scope: _Scope, following: str) -> None:
        """The edges from a task to whatever can come after it."""
        decided = isinstance(task, SwitchTask) and self._cases(task, here, scope, following)
        if not decided and not isinstance(task, RaiseTask):
            self._go(here, task.then, f"{here}/then", scope, following)
        if isinstance(task, TryTask) and task.catch.then is not None:
            self._go(f"{here}/catch", task.catch.then, f"{here}/catch/then", scope, following)
        goes_on = not decided and task.then in (None, "continue") and not isinstance(task, (SwitchTask, RaiseTask))
        if task.if_ is not None and not goes_on:
            self._edge(here, following, "skip", f"not ({task.if_})", f"{here}/if")

    def _cases(self, task: SwitchTask, here: str, scope: _Scope, following: str) -> bool:
        """The edges of a switch; whether one of its cases holds in any event."""
        for index, item in enumerate(task.switch):
            place = here + pointer_to(["switch", index, item.name])
            kind = "default" if item.case.when is None else "case"
            target, _ = _aim(item.case.then, scope, following)
            self._edge(here, target, kind, item.case.when or item.name, place)
        return any(item.case.when is None for item in task.switch)

    def _go(self, source: str, then: str | None, place: str, scope: _Scope, following: str) -> None:
        target, kind = _aim(then, scope, following)
        self._edge(source, target, kind, pointer="" if then is None else place)

    def _node(
        self,
        id_: str,
        kind: str,
        name: str,
        parent: str | None,
        *,
        pointer: str | None = None,
        is_group: bool = False,
        condition: str = "",
        detail: str = "",
    ) -> None:
        pointer = id_ if pointer is None else pointer
        position = self._places.position(pointer, key=True) if self._places else None
        node = Node(
            id=id_,
            kind=kind,
            name=name,
            pointer=pointer,
            parent=parent,
            is_group=is_group,
            condition=condition,
            detail=detail,
            position=position,
        )
        self.nodes.append(node)

    def _edge(self, source: str, target: str, kind: str, label: str = "", pointer: str = "") -> None:
        position = self._places.position(pointer, key=True) if self._places and pointer else None
        self.edges.append(
            Edge(source=source, target=target, kind=kind, label=label, pointer=pointer, position=position)
        )


def _aim(then: str | None, scope: _Scope, following: str) -> tuple[str, str]:
    """Where a flow directive leads, and the kind of the edge."""
    match then:
        case None | "continue":
            return following, "next"
        case "exit":
            return scope.end, "exit"
        case "end":
            return _LAST, "end"
        case name:
            return scope.names[name], "then"
