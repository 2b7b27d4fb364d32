"""The command `python -m stigmer_dsl`: check, format and draw documents; print the language's JSON Schema.

The only part of this library that reads files.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stigmer_dsl.doubts import doubts_about
from stigmer_dsl.errors import DocumentError
from stigmer_dsl.format import format_text
from stigmer_dsl.graph import Graph, build_graph, to_dot, to_mermaid
from stigmer_dsl.parse import parse
from stigmer_dsl.problems import Problem
from stigmer_dsl.schema import json_schema
from stigmer_dsl.source import Source

DIFFERENT = 1
"""The exit status of `format --check` when a file is not formatted."""
INVALID = 2
"""The exit status when a document is wrong or cannot be read."""

_PICTURES: Mapping[str, Callable[[Graph], str]] = {
    "mermaid": to_mermaid,
    "json": lambda graph: _json(graph.to_dict()),
    "dot": to_dot,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except DocumentError as error:
        _tell(error.problems)
        return INVALID


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stigmer_dsl", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], told: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=told, description=told)
        made.set_defaults(run=run)
        return made

    validate = command("validate", _validate, "check documents; problems go to standard error")
    _add_files(validate)
    _add_secret(validate)
    validate.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to tell what was found")
    format_ = command("format", _format, "write documents in their canonical form")
    _add_files(format_)
    format_.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file would change")
    graph = command("graph", _graph, "draw the tasks of a workflow and the ways between them")
    graph.add_argument("file", metavar="FILE", help="a YAML or JSON file, or - for standard input")
    graph.add_argument("--format", choices=sorted(_PICTURES), default="mermaid")
    _add_secret(graph)
    command("schema", _schema, "print the JSON Schema of documents, for editors")
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a YAML or JSON file, or - for standard input")


def _add_secret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="a secret that expressions may use; repeatable"
    )


@dataclass(slots=True)
class _Checked:
    """What was found in one file."""

    name: str
    workflows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    problems: list[Problem] = field(default_factory=list[Problem])
    doubts: list[Problem] = field(default_factory=list[Problem])


def _validate(options: argparse.Namespace) -> int:
    checked = [_check(name, options.secret) for name in options.files]
    problems = [problem for one in checked for problem in one.problems]
    if options.output == "json":
        found = [workflow for one in checked for workflow in one.workflows]
        told = [problem.to_dict() for problem in problems]
        doubts = [doubt.to_dict() for one in checked for doubt in one.doubts]
        sys.stdout.write(_json({"valid": not problems, "workflows": found, "problems": told, "warnings": doubts}))
        return INVALID if problems else 0
    for one in checked:
        _tell(one.problems)
        _tell(one.doubts, kind="warning: ")
        if not one.problems:
            count = f"{len(one.workflows)} workflows" if len(one.workflows) > 1 else "1 workflow"
            sys.stdout.write(f"{one.name}: {count}, valid\n")
    return INVALID if problems else 0


def _check(name: str, secrets: Sequence[str]) -> _Checked:
    """Check every document of a file."""
    label, text = _read(name)
    checked = _Checked(label)
    if isinstance(text, Problem):
        checked.problems.append(text)
        return checked
    try:
        documents = Source.load(text, name=label).documents
    except DocumentError as error:
        checked.problems += error.problems
        return checked
    for document in documents:
        try:
            workflow = parse(document, secrets=secrets)
        except DocumentError as error:
            checked.problems += error.problems
        else:
            header = workflow.document
            checked.doubts += [
                replace(doubt, source=label, position=document.position(doubt.pointer))
                for doubt in doubts_about(workflow)
            ]
            said = {"namespace": header.namespace, "name": header.name, "version": header.version}
            checked.workflows.append({"file": label, "line": document.position("").line, **said})
    return checked


def _format(options: argparse.Namespace) -> int:
    """Format each file in place; standard input to standard output."""
    results = [_format_one(name, check=options.check) for name in options.files]
    return max(results)


def _format_one(name: str, *, check: bool) -> int:
    label, text = _read(name)
    if isinstance(text, Problem):
        _tell([text])
        return INVALID
    try:
        formatted = format_text(text, name=label)
    except DocumentError as error:
        _tell(error.problems)
        return INVALID
    if name == "-" and not check:
        sys.stdout.write(formatted)
    elif formatted != text:
        sys.stdout.write(f"{label}: {'would be formatted' if check else 'formatted'}\n")
        if check:
            return DIFFERENT
        Path(name).write_text(formatted, encoding="utf-8")
    return 0


def _graph(options: argparse.Namespace) -> int:
    label, text = _read(options.file)
    if isinstance(text, Problem):
        _tell([text])
        return INVALID
    workflow = parse(text, name=label, secrets=options.secret)
    graph = build_graph(workflow, Source.load(text, name=label).documents[0])
    sys.stdout.write(_PICTURES[options.format](graph))
    return 0


def _schema(_options: argparse.Namespace) -> int:
    sys.stdout.write(_json(json_schema()))
    return 0


def _read(name: str) -> tuple[str, str | Problem]:
    """What people call a file, and its text, or why it cannot be read."""
    label = "<stdin>" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return label, content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return label, Problem(code="file.read", message=f"the file cannot be read: {told}", source=label)


def _tell(problems: Sequence[Problem], *, kind: str = "") -> None:
    sys.stderr.writelines(f"{kind}{problem} [{problem.code}]\n" for problem in problems)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
