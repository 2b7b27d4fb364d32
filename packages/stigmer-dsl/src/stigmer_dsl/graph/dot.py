"""Graphs in the language of Graphviz."""

import json
from collections.abc import Iterator

from stigmer_dsl.graph.graph import END, START, Contents, Edge, Graph, Node

_SHAPES = {START: "circle", END: "doublecircle", "switch": "diamond"}


def to_dot(graph: Graph) -> str:
    """The graph as the text of a Graphviz digraph; groups are clusters."""
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    contents = graph.contents()
    lines = [f"digraph {_quoted(graph.name)} {{", "  compound=true;", "  node [shape=box];"]
    lines += [*_nodes(contents, None, names, "  "), *(f"  {_edge(edge, contents, names)}" for edge in graph.edges)]
    return "\n".join([*lines, "}"]) + "\n"


def _nodes(contents: Contents, parent: str | None, names: dict[str, str], indent: str) -> Iterator[str]:
    for node in contents.get(parent, ()):
        if node.is_group:
            yield f"{indent}subgraph cluster_{names[node.id]} {{"
            yield f"{indent}  label={_quoted(_label(node))};"
            yield from _nodes(contents, node.id, names, indent + "  ")
            yield f"{indent}}}"
        else:
            shape = f", shape={_SHAPES[node.kind]}" if node.kind in _SHAPES else ""
            yield f"{indent}{names[node.id]} [label={_quoted(_label(node))}{shape}];"


def _label(node: Node) -> str:
    lines = [node.name] if node.kind in (START, END, node.name) else [node.name, f"{node.kind} {node.detail}".strip()]
    return "\n".join([*lines, *([f"if {node.condition}"] if node.condition else [])])


def _edge(edge: Edge, contents: Contents, names: dict[str, str]) -> str:
    """An edge; Graphviz draws those of clusters between nodes in them, cut off at their borders."""
    source, target = _inner(edge.source, END, contents), _inner(edge.target, START, contents)
    said = {"label": f"{edge.kind} {edge.label}".strip() if edge.kind != "next" else ""}
    said |= {"ltail": f"cluster_{names[edge.source]}"} if source != edge.source else {}
    said |= {"lhead": f"cluster_{names[edge.target]}"} if target != edge.target else {}
    attributes = ", ".join(f"{key}={_quoted(value)}" for key, value in said.items() if value)
    return f"{names[source]} -> {names[target]}" + (f" [{attributes}];" if attributes else ";")


def _inner(id_: str, kind: str, contents: Contents) -> str:
    """A node that is no group: the one itself, or one in it, at its beginning or its end."""
    while inside := contents.get(id_):
        id_ = next((node for node in inside if node.kind == kind), inside[0]).id
    return id_


def _quoted(text: str) -> str:
    # JSON's escapes of a line break, a quote and a backslash are Graphviz's too.
    return json.dumps(text, ensure_ascii=False)
