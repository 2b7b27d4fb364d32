"""The graph of a workflow as a value: nodes, and edges between them."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from stigmer_dsl.problems import Position

VERSION = 1
"""Of the JSON form; it grows when a reader of the present one would be wrong about a new one."""

START, END = "start", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A task, a part of one, or where a list of tasks begins or ends."""

    id: str
    """Unique: the JSON pointer of what it stands for; of a beginning or an end, with `#start` or `#end` behind it."""
    kind: str
    """The kind of a task as the model calls it (`set`, `call http` …); `start` or `end`; `try` or `catch` of a try."""
    name: str
    """The task's own."""
    pointer: str
    parent: str | None = None
    """The id of the node that this one stands in; None at the top."""
    is_group: bool = False
    """Whether other nodes stand in it."""
    condition: str = ""
    """The task's `if`."""
    detail: str = ""
    """What the task does, in few words."""
    position: Position | None = None

    def to_dict(self) -> dict[str, Any]:
        """The node as JSON; what is empty is left out."""
        plain = {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "pointer": self.pointer,
            "parent": self.parent,
            "group": self.is_group,
            "condition": self.condition,
            "detail": self.detail,
        }
        return {key: value for key, value in plain.items() if value} | _placed(self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A way that the flow can go."""

    source: str
    target: str
    kind: str
    """`next`, `then`, `exit`, `end`, `case`, `default`, `skip`, `branch`, `loop`, `catch`, `retry` or `call`."""
    label: str = ""
    """The condition of a case, the errors of a catch …"""
    pointer: str = ""
    """What says so in the document; empty where the order of the tasks does."""
    position: Position | None = None

    def to_dict(self) -> dict[str, Any]:
        """The edge as JSON; what is empty is left out."""
        plain = {
            "source": self.source,
            "target": self.target,
            "kind": self.kind,
            "label": self.label,
            "pointer": self.pointer,
        }
        return {key: value for key, value in plain.items() if value} | _placed(self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """How the tasks of one workflow follow each other. A node comes after the one that it stands in."""

    namespace: str
    name: str
    version: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_dict(self) -> dict[str, Any]:
        """The graph as JSON; docs/graph.schema.json is its schema."""
        return {
            "graph": VERSION,
            "workflow": {"namespace": self.namespace, "name": self.name, "version": self.version},
            "nodes": [node.to_dict() for node in self.nodes],
            "edges": [edge.to_dict() for edge in self.edges],
        }

    def contents(self) -> "Contents":
        """The nodes by the id of the node that they stand directly in; by None those at the top."""
        found: Contents = {}
        for node in self.nodes:
            found.setdefault(node.parent, []).append(node)
        return found


Contents: TypeAlias = dict[str | None, list[Node]]


def _placed(position: Position | None) -> dict[str, Any]:
    return {} if position is None else {"line": position.line, "column": position.column}
