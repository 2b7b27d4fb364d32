"""The `stigmer` program."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from stigmer_cli import runtime
from stigmer_cli.app import app


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process with its exit code."""
    try:
        app(prog_name="stigmer")
        code: object = 0
    except SystemExit as error:
        code = error.code
    except BrokenPipeError:
        # Whoever read the results has enough of them; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except BaseException as error:  # noqa: BLE001 - whatever it is, it becomes words and an exit code
        code = runtime.report(error)
    _exit(code if isinstance(code, int) else 1)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if "temporalio" in sys.modules:
        # Its native threads now and then abort the interpreter's own shutdown; everything of ours is closed by now.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
