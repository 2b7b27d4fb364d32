"""What is said to the supervisor, and what it says: see `stigmer_sandbox.commands.supervisor`."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stigmer_sandbox.commands import supervisor
from stigmer_sandbox.commands.port import Ending, Finished, Limits
from stigmer_sandbox.errors import CommandError

PROGRAM = Path(supervisor.__file__)
"""The supervisor's text."""
PYTHON = ("python3", "-IS")
"""Runs our programs: nothing that lies beside them or where they begin is taken for a part of Python."""
_ENVELOPE_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the supervisor tells of a command.

    Attributes:
        finished: How it ended, and what it said.
        held: How many bytes the folder holds, where that was asked for.
    """

    finished: Finished
    held: int = 0


def request(
    arguments: Sequence[str],
    *,
    stdin: bytes,
    environment: Mapping[str, str],
    folder: str,
    limits: Limits,
    talk: bool = False,
    measure: bool = False,
) -> bytes:
    """What the supervisor reads. Raises: CommandError when something of it cannot be said."""
    texts = (*arguments, *environment, *environment.values())
    if not arguments or not arguments[0] or any("\0" in text for text in texts):
        raise CommandError("there is no program to run, or an argument or a variable holds a NUL character")
    said = json.dumps(
        {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": folder,
            "seconds": 0 if math.isinf(limits.seconds) else limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "processes": limits.processes,
            "output_bytes": limits.output_bytes,
            "file_bytes": limits.file_bytes,
            "talk": talk,
            "measure": measure,
        }
    ).encode()
    return b"%08x" % len(said) + said + stdin


def most_said(limits: Limits) -> int:
    """How long a report can be."""
    return 2 * limits.output_bytes * 4 // 3 + _ENVELOPE_BYTES


def report(said: str) -> Report | None:
    """What the supervisor told; None: it did not come to telling. Raises: CommandError when nothing was begun."""
    text = said.partition(supervisor.BEGUN)[2]
    try:
        told: dict[str, Any] = json.loads(text)
        if "refused" in told:
            raise CommandError(told["refused"])
        finished = Finished(
            code=int(told["code"]),
            stdout=base64.b64decode(told["stdout"]),
            stderr=base64.b64decode(told["stderr"]),
            ending=Ending(told["ending"]),
            truncated=bool(told["truncated"]),
            seconds=float(told["seconds"]),
        )
        return Report(finished=finished, held=int(told["held"]))
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None


def has_begun(said: str) -> bool:
    """Whether the supervisor came to running anything."""
    return supervisor.BEGUN in said
