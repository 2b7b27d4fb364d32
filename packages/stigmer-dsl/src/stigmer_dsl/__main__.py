"""The command `python -m stigmer_dsl`: validate documents, and print the language's JSON Schema."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stigmer_dsl.errors import DocumentError
from stigmer_dsl.parse import parse
from stigmer_dsl.schema import json_schema
from stigmer_dsl.source import Source

INVALID = 2
"""The exit status when a document is wrong or cannot be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stigmer_dsl", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate", help="check documents; problems go to standard error")
    validate.add_argument("files", nargs="+", metavar="FILE", help="a YAML or JSON file, or - for standard input")
    validate.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="a secret that expressions may use; repeatable"
    )
    commands.add_parser("schema", help="print the JSON Schema of documents")
    options = parser.parse_args(arguments)
    if options.command == "schema":
        sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
        return 0
    found = [_validate(name, options.secret) for name in options.files]
    return 0 if all(found) else INVALID


def _validate(name: str, secrets: Sequence[str]) -> bool:
    """Check every document of a file, and say what was found."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return False
    label = "<stdin>" if name == "-" else name
    problems: list[str] = []
    try:
        documents = Source.load(text, name=label).documents
    except DocumentError as error:
        sys.stderr.write(f"{error}\n")
        return False
    for document in documents:
        try:
            parse(document, secrets=secrets)
        except DocumentError as error:
            problems += [f"{problem} [{problem.code}]" for problem in error.problems]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    if not problems:
        count = f"{len(documents)} workflows" if len(documents) > 1 else "1 workflow"
        sys.stdout.write(f"{label}: {count}, valid\n")
    return not problems


if __name__ == "__main__":
    sys.exit(main())
