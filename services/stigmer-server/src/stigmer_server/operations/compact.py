"""Give back the space that deleted resources took."""

from __future__ import annotations

import argparse

from stigmer_sqlite.database_file import compact, own

from stigmer_server.operations.port import Operation, Result
from stigmer_server.operations.sizes import size
from stigmer_server.settings import Settings


def _configure(parser: argparse.ArgumentParser) -> None:
    del parser


def _run(settings: Settings, options: argparse.Namespace) -> Result:
    del options
    with own(settings.db_path) as owned:
        before, after = compact(owned)
    return Result(
        data={"database": str(settings.db_path), "bytes_before": before, "bytes_after": after},
        lines=[f"{settings.db_path}: {size(before)} before, {size(after)} after"],
    )


COMPACT = Operation(
    name="compact",
    summary="rewrite the database without the space of what was deleted",
    description="Rewrite the database without the space of what was deleted. The server must not run; nothing is lost "
    "if this is interrupted. Needs as much free space as the database takes.",
    configure=_configure,
    run=_run,
)
