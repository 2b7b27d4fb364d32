"""Where log lines go and what they look like: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from loguru import logger

from stigmer_server.settings import Settings

if TYPE_CHECKING:
    from loguru import Message

_FOR_PEOPLE = "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <7}</level> {message} <dim>{extra}</dim>"


def configure_logs(settings: Settings) -> None:
    """Log to standard error as the settings say, in place of whatever was set before."""
    logger.remove()
    level = settings.log_level.upper()
    if settings.env == "local":
        logger.add(sys.stderr, level=level, format=_FOR_PEOPLE, backtrace=False, diagnose=False)
    else:
        logger.add(_as_json, level=level, format="{message}", backtrace=False, diagnose=False)


def _as_json(message: Message) -> None:
    record = message.record
    line: dict[str, object] = {
        "time": record["time"].timestamp(),
        "level": record["level"].name.lower(),
        "message": record["message"],
        **{str(key): str(value) for key, value in record["extra"].items()},
    }
    if (error := record["exception"]) is not None:
        line["error"] = f"{error.type.__name__ if error.type else 'error'}: {error.value}"
    sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
