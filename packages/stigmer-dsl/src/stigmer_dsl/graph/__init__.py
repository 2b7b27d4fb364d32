"""Pictures of workflows: what follows what, with places in the source, as JSON, for Mermaid and for Graphviz."""

from stigmer_dsl.graph.building import Places, build_graph
from stigmer_dsl.graph.dot import to_dot
from stigmer_dsl.graph.graph import Edge, Graph, Node
from stigmer_dsl.graph.mermaid import to_mermaid

__all__ = ["Edge", "Graph", "Node", "Places", "build_graph", "to_dot", "to_mermaid"]
