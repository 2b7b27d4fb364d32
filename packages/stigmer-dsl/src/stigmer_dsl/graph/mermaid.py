"""Graphs as Mermaid flowcharts."""

from collections.abc import Iterator

from stigmer_dsl.graph.graph import END, START, Contents, Edge, Graph, Node

_SHAPES = {
    START: ('(["', '"])'),
    END: ('(["', '"])'),
    "switch": ('{"', '"}'),
    "wait": ('{{"', '"}}'),
    "listen": ('{{"', '"}}'),
    "emit": ('>"', '"]'),
    "raise": ('[/"', '"/]'),
}
_PLAIN = ('["', '"]')
_CALL = ('[["', '"]]')
_READ_AS_THEY_ARE = frozenset(" _.,:/()=+-'$?!@")
_DOTTED = frozenset({"catch", "retry", "call", "loop", "skip"})
_SILENT = frozenset({"next", "then", "branch"})
"""Kinds of edges whose arrow says it all."""


def to_mermaid(graph: Graph) -> str:
    """The graph as the text of a Mermaid flowchart."""
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = ["flowchart TD", *_nodes(graph.contents(), None, names, "  ")]
    lines += [f"  {_edge(edge, names)}" for edge in graph.edges]
    return "\n".join(lines) + "\n"


def _nodes(contents: Contents, parent: str | None, names: dict[str, str], indent: str) -> Iterator[str]:
    for node in contents.get(parent, ()):
        name = names[node.id]
        if node.is_group:
            yield f'{indent}subgraph {name}["{_label(node)}"]'
            yield from _nodes(contents, node.id, names, indent + "  ")
            yield f"{indent}end"
        else:
            left, right = _SHAPES.get(node.kind, _CALL if node.kind.startswith("call ") else _PLAIN)
            yield f"{indent}{name}{left}{_label(node)}{right}"


def _label(node: Node) -> str:
    if node.kind in (START, END) or node.name == node.kind:
        lines = [node.name]
    else:
        lines = [node.name, f"{node.kind}: {node.detail}" if node.detail else node.kind]
    if node.condition:
        lines.append(f"if {node.condition}")
    return "<br/>".join(map(_escaped, lines))


def _edge(edge: Edge, names: dict[str, str]) -> str:
    said = edge.label if edge.kind in ("case", "skip") else f"{edge.kind} {edge.label}".strip()
    label = "" if edge.kind in _SILENT else f'|"{_escaped(said)}"|'
    return f"{names[edge.source]} {'-.->' if edge.kind in _DOTTED else '-->'}{label} {names[edge.target]}"


def _escaped(text: str) -> str:
    """A text that stands in quotes as it is: everything that Mermaid or HTML could read becomes an entity."""
    text = " ".join(text.split())
    return "".join(char if char.isalnum() or char in _READ_AS_THEY_ARE else f"#{ord(char)};" for char in text)
