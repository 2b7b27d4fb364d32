"""`stigmer version`."""

from __future__ import annotations

import typer

from stigmer_cli import __version__, console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Output, session


def version(context: typer.Context, output: Output = None, debug: Debug = False) -> None:
    """Print the version of this command."""
    made = session(context, output=output, debug=debug)
    if made.output in {OutputFormat.JSON, OutputFormat.YAML}:
        console.result(console.structured({"version": __version__}, made.output))
    else:
        console.result(__version__ if made.output is OutputFormat.NAME else f"stigmer {__version__}")
