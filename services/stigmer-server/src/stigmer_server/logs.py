"""Where log lines go and what they look like: text for people, or one JSON object a line for machines.

Every line of a call has the call's request id; the one about its end has the caller, the method, the code and the
milliseconds, too. What libraries say goes the same way, from the same level on.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

import orjson
from loguru import logger
from stigmer_grpc import CallContext, with_request_id

from stigmer_server.calls import CALLER, Caller
from stigmer_server.settings import Settings

if TYPE_CHECKING:
    from loguru import Message, Record

_IN_THE_TEXT = frozenset({"method", "code", "ms"})
"""Fields that the text of their line says already."""
_LEVELS = {"trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def configure_logs(settings: Settings) -> None:
    """Log to standard error as the settings say, in place of whatever was set before."""
    logger.configure(handlers=[], patcher=with_request_id)
    level = settings.log_level.upper()
    if settings.env == "local":
        logger.add(sys.stderr, level=level, format=_for_people, backtrace=False, diagnose=False)
    else:
        logger.add(_as_json, level=level, format="{message}", backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_FromLibraries()], level=_LEVELS.get(settings.log_level, logging.ERROR), force=True)
    logging.captureWarnings(capture=True)


def described(context: CallContext) -> Mapping[str, str]:
    """Return what is logged of a call beside its method and its end: who made it."""
    caller = context.values.get(CALLER)
    return {"caller": caller.id} if isinstance(caller, Caller) else {}


def _for_people(record: Record) -> str:
    """Return the line's format; fields are named in it, so that what is in them is never taken for a format."""
    fields = [name for name in record["extra"] if name not in _IN_THE_TEXT and name.isidentifier()]
    told = "".join(f" {name}={{extra[{name}]}}" for name in fields)
    end = f" <dim>{told.strip()}</dim>" if told else ""
    head = "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <7}</level> {message}"
    return f"{head}{end}\n{{exception}}"


def _as_json(message: Message) -> None:
    record = message.record
    line: dict[str, object] = {
        "time": record["time"].timestamp(),
        "level": record["level"].name.lower(),
        "logger": record["name"],
        "message": record["message"],
        **{str(key): _plain(value) for key, value in record["extra"].items()},
    }
    if (error := record["exception"]) is not None:
        line["error"] = f"{error.type.__name__ if error.type else 'error'}: {error.value}"
        if error.traceback is not None:
            line["traceback"] = "".join(traceback.format_tb(error.traceback))
    _write(sys.stderr, orjson.dumps(line, default=str).decode())


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    return value if isinstance(value, str | int | bool | None) else str(value)


def _write(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


class _FromLibraries(logging.Handler):
    """Hands on what libraries say through the standard logging module."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one record, under the name of the library's own logger."""
        level = record.levelname if record.levelname in _LEVEL_NAMES else record.levelno
        patched = logger.patch(lambda made: made.update(name=record.name))
        patched.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVEL_NAMES = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
