"""Remove finished executions that are not to be kept, while no server does."""

from __future__ import annotations

import argparse
from collections import Counter

from stigmer_grpc import run

from stigmer_server.errors import OperationError, SettingsError
from stigmer_server.operations.port import Operation, Result
from stigmer_server.retention import Kept, prune
from stigmer_server.settings import Settings


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only tell how many would go")


def _run(settings: Settings, options: argparse.Namespace) -> Result:
    retention = Kept(days=settings.keep_finished_days, count=settings.keep_finished_count)
    if not retention.limited:
        raise SettingsError(["everything is to be kept: say --keep-finished-days or --keep-finished-count"])
    if not settings.db_path.expanduser().is_file():
        msg = f"there is no database {settings.db_path}"
        raise OperationError(msg)
    removed = run(_prune(settings, retention, dry_run=options.dry_run))
    told = ", ".join(f"{count} {name}" for name, count in sorted(removed.items())) or "nothing"
    verb = "would be removed" if options.dry_run else "removed"
    return Result(data={"dry_run": options.dry_run, "removed": dict(removed)}, lines=[f"{verb}: {told}"])


async def _prune(settings: Settings, retention: Kept, *, dry_run: bool) -> Counter[str]:
    # Imported here: the app knows the operations' neighbours, and a backup needs none of it.
    from stigmer_server.app import App

    kept = settings.model_copy(update={"keep_finished_days": 0.0, "keep_finished_count": 0})
    async with App(kept, engine=False) as app:
        return await prune(app.resources, retention, dry_run=dry_run)


PRUNE = Operation(
    name="prune",
    summary="remove finished executions that are not to be kept",
    description="Remove finished executions beyond --keep-finished-days and --keep-finished-count, as a server does by "
    "itself when these are set. The server must not run.",
    configure=_configure,
    run=_run,
)
