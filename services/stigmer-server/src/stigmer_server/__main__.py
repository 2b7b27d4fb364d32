"""The `stigmer-server` command: serve until told to stop, or do one of the operations on a server's files.

Exit codes: 0 stopped as asked, or done; 1 a fault, or a check that found one; 2 wrong settings or command line; 5 a
port, a database, a key file or a backup that cannot be used.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from loguru import logger
from stigmer_grpc import run
from stigmer_sqlite import StoreError

from stigmer_server.app import App
from stigmer_server.command_line import Command, parse
from stigmer_server.errors import ServerError, SettingsError, StartupError
from stigmer_server.logs import configure_logs
from stigmer_server.memory import give_back_later
from stigmer_server.operations import Operation
from stigmer_server.settings import Settings, is_local

EXIT_FAULT, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 2, 5


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the server of the command line and the environment, and end the process."""
    code = _run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own end: Temporal's library has threads that may abort the process there.
    os._exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        command = parse(arguments)
    except SettingsError as error:
        for problem in error.problems:
            print(f"stigmer-server: {problem}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_USAGE
    configure_logs(command.settings)
    try:
        if command.operation is not None:
            return _operate(command.operation, command)
        run(_serve(command.settings))
    except SettingsError as error:
        for problem in error.problems:
            logger.error("{}", problem)
        return EXIT_USAGE
    except StartupError as error:
        logger.error("{}", error)
        return EXIT_UNAVAILABLE
    except Exception:  # noqa: BLE001 - whatever it is, it is logged and ends the process
        logger.exception("the server failed")
        return EXIT_FAULT
    return 0


def _operate(operation: Operation, command: Command) -> int:
    try:
        result = operation.run(command.settings, command.options)
    except SettingsError as error:
        logger.error("{}: {}", operation.name, error)
        return EXIT_USAGE
    except (ServerError, StoreError, OSError) as error:
        logger.error("{}: {}", operation.name, error)
        return EXIT_UNAVAILABLE
    sys.stdout.write(result.told(command.options.output))
    return 0 if result.sound else EXIT_FAULT


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _signalled, stop)
    async with App(settings) as app:
        await app.serve()
        await app.serve_http()
        await app.serve_metrics()
        give_back_later()
        logger.info("database {}; {}", settings.db_path, _openness(settings, app.addresses))
        await stop.wait()
        logger.info("stopping")


def _signalled(stop: asyncio.Event) -> None:
    if not stop.is_set():
        stop.set()
        return
    # What was acknowledged is on the disk: ending at once loses no more than a crash would, which is nothing.
    logger.warning("told to stop again: ending at once")
    sys.stderr.flush()
    os._exit(EXIT_FAULT)


def _openness(settings: Settings, addresses: Sequence[str]) -> str:
    """Return who is let in, and how to change that."""
    if settings.auth == "none":
        return f"anyone who reaches {', '.join(addresses)} is let in, `--auth token` asks for a token"
    in_clear = "" if settings.serves_tls or all(map(is_local, addresses)) else ", which travels in clear"
    return f"calls need a token{in_clear}; the operator's is in {settings.token_path}"


if __name__ == "__main__":
    main()
