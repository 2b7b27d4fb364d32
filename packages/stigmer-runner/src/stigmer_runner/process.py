"""A runner as a process: its log, its signals, and how it ends."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from loguru import logger
from stigmer_grpc import run

from stigmer_runner.errors import SettingsError
from stigmer_runner.settings import RunnerSettings
from stigmer_runner.worker import stop_on_signals

_LOG_FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level:<7} {message}"
_USAGE = 2

S = TypeVar("S", bound=RunnerSettings)
Serve = Callable[[S, asyncio.Event], Coroutine[Any, Any, None]]


def run_process(settings: type[S], serve: "Serve[S]") -> NoReturn:
    """Run `serve` with the settings of this process until it is told to stop, then exit with 0.

    Wrong settings are printed, all of them, and end the process with 2; so do files that they name and that cannot
    be used.
    """
    try:
        given = settings.load(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        _leave(_USAGE)
    set_up_log(given.log_level)
    try:
        run(_until_stopped(given, serve))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        _leave(_USAGE)
    except Exception:  # noqa: BLE001 - the last place that can say what went wrong
        logger.exception("the runner ends")
        _leave(1)
    _leave(0)


async def _until_stopped(settings: S, serve: "Serve[S]") -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        await serve(settings, stop)
    logger.info("stopped")


def set_up_log(level: str) -> None:
    """Write the log of this process and of its libraries to standard error."""
    logger.remove()
    logger.add(sys.stderr, level=level.upper(), format=_LOG_FORMAT, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(exception=record.exc_info).log(record.levelname, "{}: {}", record.name, record.getMessage())


def _leave(code: int) -> NoReturn:
    """End the process without running the interpreter's own end.

    The Temporal client's threads may still call into the interpreter while it takes itself down, which
    now and then aborts the process after all work was done well. Everything is closed by now.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
