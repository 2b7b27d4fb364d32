"""Graphs: what follows what, where it stands, and texts that the programs that draw them read."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_dsl import Source, load_trusted, parse
from stigmer_dsl.graph import Graph, build_graph, to_dot, to_mermaid

MEMBER = Path(__file__).parent.parent
HEADER = "document: { dsl: '1.0.3', namespace: test, name: example, version: '0.1.0' }\n"


def graph_of(body: str) -> Graph:
    document = Source.load(HEADER + body, name="t").documents[0]
    return build_graph(parse(document), document)


def ways(graph: Graph) -> set[tuple[str, str, str]]:
    """The edges, with the last words of their ends."""
    return {(_word(edge.source), edge.kind, _word(edge.target)) for edge in graph.edges}


def _word(id_: str) -> str:
    return id_.rpartition("/")[2]


@pytest.mark.requirement("graph.edges")
def test_tasks_follow_each_other_from_the_start_to_the_end() -> None:
    graph = graph_of("do:\n  - a: { wait: PT1S }\n  - b: { wait: PT1S }\n")
    assert ways(graph) == {("do#start", "next", "a"), ("a", "next", "b"), ("b", "next", "do#end")}


@pytest.mark.requirement("graph.edges")
def test_flow_directives_lead_where_they_say() -> None:
    graph = graph_of("""do:
  - a: { wait: PT1S, then: c }
  - b:
      do:
        - x: { wait: PT1S, then: exit }
        - y: { wait: PT1S, then: end }
        - z: { wait: PT1S, then: x }
  - c: { wait: PT1S, then: b }
""")
    assert ("a", "then", "c") in ways(graph)
    assert ("c", "then", "b") in ways(graph)
    edges = {(edge.source, edge.kind, edge.target) for edge in graph.edges}
    assert ("/do/1/b/do/0/x", "exit", "/do/1/b/do#end") in edges
    assert ("/do/1/b/do/1/y", "end", "/do#end") in edges
    assert ("/do/1/b/do/2/z", "then", "/do/1/b/do/0/x") in edges


@pytest.mark.requirement("graph.edges")
def test_a_switch_has_an_edge_for_each_case_and_one_for_none() -> None:
    body = """do:
  - s: {{ switch: [ {{ big: {{ when: .x > 1, then: end }} }}{} ], then: exit }}
  - b: {{ wait: PT1S }}
"""
    without = graph_of(body.format(""))
    assert {(edge.kind, edge.label) for edge in without.edges if _word(edge.source) == "s"} == {
        ("case", ".x > 1"),
        ("exit", ""),
    }
    with_default = graph_of(body.format(", { other: { then: continue } }"))
    assert ("s", "default", "b") in ways(with_default)
    assert ("s", "exit", "do#end") not in ways(with_default)


@pytest.mark.requirement("graph.edges")
def test_a_task_that_may_be_skipped_shows_where_the_flow_goes_then() -> None:
    graph = graph_of("do:\n  - a: { if: .x, wait: PT1S, then: end }\n  - b: { wait: PT1S }\n")
    assert {("a", "end", "do#end"), ("a", "skip", "b")} <= ways(graph)
    assert next(node for node in graph.nodes if node.name == "a").condition == ".x"


@pytest.mark.requirement("graph.groups")
def test_what_stands_in_a_task_stands_in_its_node() -> None:
    graph = graph_of("""do:
  - loop: { for: { in: .items }, while: .go, do: [ { x: { wait: PT1S } } ] }
  - side: { fork: { branches: [ { p: { wait: PT1S } }, { q: { wait: PT1S } } ] } }
  - safe:
      try: [ { r: { raise: { error: { type: https://x.y/z, status: 400 } } } } ]
      catch: { errors: { with: { status: 400 } }, retry: { delay: PT1S }, do: [ { m: { wait: PT1S } } ], then: loop }
  - hear: { listen: { to: { any: [] } }, foreach: { do: [ { e: { wait: PT1S } } ] } }
""")
    parents = {node.id: node.parent for node in graph.nodes}
    assert parents["/do/0/loop/do/0/x"] == "/do/0/loop"
    assert parents["/do/1/side/fork/branches/0/p"] == "/do/1/side"
    assert parents["/do/2/safe/try/0/r"] == "/do/2/safe/try"
    assert parents["/do/2/safe/try"] == parents["/do/2/safe/catch"] == "/do/2/safe"
    assert parents["/do/2/safe/catch/do/0/m"] == "/do/2/safe/catch"
    assert parents["/do/3/hear/foreach/do/0/e"] == "/do/3/hear"
    assert {node.id for node in graph.nodes if node.is_group} == {parent for parent in parents.values() if parent}
    found = ways(graph)
    assert {("do#end", "loop", "do#start"), ("try", "catch", "catch"), ("catch", "retry", "try")} <= found
    assert {("branches#start", "branch", "p"), ("branches#start", "branch", "q"), ("catch", "then", "loop")} <= found
    assert not any(source == "r" for source, _, _ in found), "nothing follows an error"


@pytest.mark.requirement("graph.groups")
def test_functions_and_extensions_stand_beside_the_tasks() -> None:
    graph = graph_of("""use:
  functions: { f: { wait: PT1S } }
  extensions: [ { log: { extend: all, before: [ { l: { wait: PT1S } } ] } } ]
do: [ { a: { call: f } } ]
""")
    assert ("a", "call", "f") in ways(graph)
    parents = {node.name: node.parent for node in graph.nodes}
    assert (parents["f"], parents["log"], parents["l"]) == (None, None, "/use/extensions/0/log/before")


@pytest.mark.requirement("graph.positions")
def test_nodes_and_edges_have_their_place_in_the_source() -> None:
    body = "do:\n  - a: { wait: PT1S }\n  - b:\n      wait: PT1S\n      then: a\n"
    graph = graph_of(body)
    b = next(node for node in graph.nodes if node.name == "b")
    back = next(edge for edge in graph.edges if edge.kind == "then")
    assert (b.position, back.pointer, back.position) == ((4, 5), "/do/1/b/then", (6, 7))
    assert all(node.position for node in graph.nodes)
    assert not any(node.position for node in build_graph(parse(HEADER + body)).nodes)


EVERYTHING = """use: { functions: { f: { wait: PT1S } } }
do:
  - 'quote " [x] | `y` <b> #35; %% end': { if: '.a == "b"', set: { x: 1 } }
  - s: { switch: [ { c: { when: '.x | test("|")', then: end } }, { d: { then: exit } } ] }
  - l: { for: { in: '${ .items }' }, do: [ { t: { try: [ { c: { call: f } } ], catch: { retry: { delay: PT1S } } } } ] }
  - k: { fork: { branches: [ { p: { wait: PT1S } }, { q: { do: [ { z: { emit: { event: { with: { type: a.b } } } } } ] } } ] } }
  - h: { call: http, with: { method: get, endpoint: 'https://x.y/{id}' } }
  - r: { raise: { error: { type: https://x.y/z, status: 400 } } }
"""  # noqa: E501 - one task to a line

# The part of Mermaid's grammar for flowcharts that is used, one statement to a line.
QUOTED = r'"(?:[^"`#<>;{}|]|#\d+;|<br/>)+"'
SHAPES = (r"\(\[{}\]\)", r"\[\[{}\]\]", r"\[/{}/\]", r"\{{\{{{}\}}\}}", r"\{{{}\}}", r">{}\]", r"\[{}\]")
MERMAID = re.compile(
    "|".join(
        (
            "flowchart TD",
            rf" +subgraph n\d+\[{QUOTED}\]",
            " +end",
            rf" +n\d+(?:{'|'.join(shape.format(QUOTED) for shape in SHAPES)})",
            rf" +n\d+ (?:-->|-\.->)(?:\|{QUOTED}\|)? n\d+",
        )
    )
)


DOT = re.compile(
    r'\s*(?:compound=true;|node \[shape=box\];|subgraph cluster_n\d+ \{|\}|label="";'
    r'|n\d+ \[label=""(, shape=\w+)?\];|n\d+ -> n\d+( \[\w+=""(, \w+="")*\])?;)'
)


def check_mermaid(text: str) -> None:
    depth = 0
    for line in text.splitlines():
        assert MERMAID.fullmatch(line), line
        depth += line.strip().startswith("subgraph") - (line.strip() == "end")
        assert depth >= 0
    assert depth == 0


def check_dot(text: str, *, clusters: int) -> None:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert bare.count("{") == bare.count("}") == 1 + clusters
    for line in bare.splitlines()[1:-1]:
        assert DOT.fullmatch(line), line


@pytest.mark.requirement("graph.formats")
def test_mermaid_is_well_formed_whatever_the_texts_are() -> None:
    text = to_mermaid(graph_of(EVERYTHING))
    check_mermaid(text)
    assert text.count("subgraph") == 5


@given(st.text(min_size=1).filter(lambda name: name not in ("continue", "exit", "end")), st.text())
def test_no_name_breaks_a_picture(name: str, when: str) -> None:
    value: Any = {
        "document": {"dsl": "1.0.3", "namespace": "a", "name": "b", "version": "1.0.0"},
        "do": [{name: {"if": f"{json.dumps(when)} == 1", "wait": "PT1S"}}],
    }
    if re.search("[\ud800-\udfff\x00]", name + when):
        return
    graph = build_graph(load_trusted(value))
    check_mermaid(to_mermaid(graph))
    check_dot(to_dot(graph), clusters=0)


@pytest.mark.requirement("graph.formats")
def test_dot_is_well_formed() -> None:
    check_dot(to_dot(graph_of(EVERYTHING)), clusters=5)


@pytest.mark.requirement("graph.formats")
def test_json_is_as_its_schema_says() -> None:
    schema = json.loads((MEMBER / "docs" / "graph.schema.json").read_text())
    validator: Any = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    told = graph_of(EVERYTHING).to_dict()
    validator(schema).validate(told)
    ids = [node["id"] for node in told["nodes"]]
    assert len(ids) == len(set(ids))
    assert {edge[end] for edge in told["edges"] for end in ("source", "target")} <= set(ids)


@pytest.mark.requirement("command")
def test_the_command_draws(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(HEADER + EVERYTHING)

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stigmer_dsl", "graph", str(path), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert run().stdout == to_mermaid(graph_of(EVERYTHING))
    assert json.loads(run("--format", "json").stdout) == graph_of(EVERYTHING).to_dict()
    path.write_text("a: b\n")
    wrong = run()
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(f"{path}:1:1: /: needs `document`")
