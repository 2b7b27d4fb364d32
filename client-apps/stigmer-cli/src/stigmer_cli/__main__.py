"""The `stigmer` program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from stigmer_cli import runtime
from stigmer_cli.app import app


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process with its exit code."""
    _exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name, and return its exit code; every error becomes words."""
    try:
        app(list(arguments), prog_name="stigmer")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except BrokenPipeError:
        # Whoever read the results has enough of them; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever it is, it becomes words and an exit code
        return runtime.report(error)
    return 0


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if "temporalio" in sys.modules:
        # Its native threads now and then abort the interpreter's own shutdown; everything of ours is closed by now.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
