"""The command of a benchmark that needs a Temporal server."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from _report import Row, print_rows
from loguru import logger
from stigmer_grpc import run
from stigmer_runner.testing import temporal_server


def measure_and_print(
    title: str,
    about: str | None,
    measure: Callable[[Path, str, int], Coroutine[Any, Any, list[Row]]],
    *,
    quick: int,
    full: int,
) -> int:
    """Read the command line, measure with an empty folder, a server's address and a number of rounds; the exit code."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: for a look, not for a verdict")
    rounds = quick if parser.parse_args().quick else full
    logger.remove()
    with tempfile.TemporaryDirectory() as folder, temporal_server(Path(folder)) as address:
        rows = run(measure(Path(folder) / "measured", address, rounds))
    print_rows(title, rows)
    return 0 if all(row.kept for row in rows) else 1
