"""`stigmer graph`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, session

if TYPE_CHECKING:
    from stigmer_dsl.graph import Graph


class Picture(StrEnum):
    """What a graph is written as."""

    MERMAID = "mermaid"
    JSON = "json"
    DOT = "dot"


def graph(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file with one workflow, or - for standard input.")],
    picture: Annotated[
        Picture, typer.Option("--format", metavar="FORMAT", show_choices=True, help="mermaid, json or dot.")
    ] = Picture.MERMAID,
    debug: Debug = False,
) -> None:
    """Draw a workflow: its tasks and every way between them, offline.

    Mermaid is for pages and pull requests, dot for Graphviz, json for programs.
    """
    session(context, output=None, debug=debug)
    from stigmer_dsl.graph import to_dot, to_mermaid

    drawn = _graph(file)
    match picture:
        case Picture.MERMAID:
            console.result(to_mermaid(drawn))
        case Picture.DOT:
            console.result(to_dot(drawn))
        case Picture.JSON:
            console.result(console.to_json(drawn.to_dict()))


def _graph(place: str) -> Graph:
    from stigmer_dsl import DocumentError, Source
    from stigmer_dsl.graph import build_graph

    from stigmer_cli.manifests import read_files
    from stigmer_cli.manifests.places import workflow_of

    try:
        documents = [
            document
            for file in read_files([place])
            for document in Source.load(file.text, name=file.name).documents
            if _is_workflow(document.value)
        ]
        if len(documents) != 1:
            msg = f"{place} holds {len(documents) or 'no'} workflow{'s' if len(documents) > 1 else ''}"
            raise InvalidInputError(msg, hint="give a file with one")
        return build_graph(*workflow_of(documents[0]))
    except DocumentError as error:
        count = f"{len(error.problems)} problems" if len(error.problems) > 1 else "1 problem"
        raise InvalidInputError(f"{count} found, nothing can be drawn", problems=error.problems) from error


def _is_workflow(value: object) -> bool:
    from stigmer_cli.plain import is_object

    return is_object(value) and (value.get("kind") == "Workflow" or ("document" in value and "kind" not in value))
