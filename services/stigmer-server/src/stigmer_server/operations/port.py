"""What an operation is: something to do with the files of a server, from the command line, instead of serving."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from stigmer_server.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an operation ended."""

    data: Mapping[str, Any]
    """For programs: one JSON object."""
    lines: Iterable[str] = field(default_factory=tuple[str, ...])
    """For people."""
    sound: bool = True
    """False: it was done, and found something wrong; the exit code says so."""

    def told(self, output: str) -> str:
        """Return it as `json`, or as `text`."""
        if output == "json":
            return orjson.dumps(self.data, option=orjson.OPT_INDENT_2).decode() + "\n"
        return "".join(f"{line}\n" for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation."""

    name: str
    summary: str
    """A line in the list of operations."""
    description: str
    arguments: str = ""
    """Its arguments beside options, for the first line of its help."""
    configure: Callable[[argparse.ArgumentParser], None]
    """Adds the operation's own arguments."""
    run: Callable[[Settings, argparse.Namespace], Result]
    """Does it. Raises: OperationError, StartupError, StoreError, OSError."""
