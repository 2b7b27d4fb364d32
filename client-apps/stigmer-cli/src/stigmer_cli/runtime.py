"""How a command runs: its event loop, its signals, and how its errors become words and exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from stigmer_cli import console
from stigmer_cli.errors import INTERRUPTED, CliError, InvalidInputError

T = TypeVar("T")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedByUserError(Exception):
    """A signal ended the command; everything it held has been let go."""


_stop: Callable[[], None] | None = None
"""What the first signal does while a command runs."""


@contextmanager
def on_interrupt(action: Callable[[], None]) -> Generator[None]:
    """Have Ctrl-C do something else than end the command, for the length of a block of a running command."""
    import asyncio

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, action)
    try:
        yield
    finally:
        if _stop is not None:
            loop.add_signal_handler(signal.SIGINT, _stop)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end. The first SIGINT, SIGTERM or SIGHUP cancels it; it then has time to clean up.

    Raises:
        InterruptedByUserError: A signal ended it.
    """
    import asyncio

    async def with_signals() -> T:
        global _stop
        task = asyncio.ensure_future(main)
        stopped = False

        def stop() -> None:
            nonlocal stopped
            if stopped:
                console.note("still cleaning up, please wait")
            else:
                stopped = True
                task.cancel()

        _stop = stop
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            # Whoever started us may want a signal ignored, as `nohup` does.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if stopped:
                raise InterruptedByUserError from None
            raise

    return asyncio.run(with_signals())


_debug = False


def begin(*, debug: bool) -> None:
    """Settle how much the command tells of itself."""
    global _debug
    _debug = debug
    if debug:
        from loguru import logger

        logger.remove()
        logger.add(sys.stderr, level="DEBUG", backtrace=False, diagnose=False)


def report(error: BaseException) -> int:
    """Tell what went wrong and what to do next; return the exit code."""
    error = _innermost(error)
    if _debug:
        import traceback

        console.note("".join(traceback.format_exception(error)))
    match error:
        case InterruptedByUserError() | KeyboardInterrupt():
            return INTERRUPTED
        case CliError():
            for problem in error.problems if isinstance(error, InvalidInputError) else ():
                console.note(str(problem))
            console.complain(str(error), hint=error.hint)
            return error.exit_code
        case _:
            return _report_foreign(error)


def exit_code(error: BaseException) -> int:
    """Return the exit code that `report` would return."""
    error = _innermost(error)
    match error:
        case InterruptedByUserError() | KeyboardInterrupt():
            return INTERRUPTED
        case CliError():
            return error.exit_code
        case _:
            from stigmer_grpc.errors import RpcError

            return _ANSWERS.get(error.code.name, _UNKNOWN)[0] if isinstance(error, RpcError) else 1


def _report_foreign(error: BaseException) -> int:
    """Tell of an error of the server or of a library."""
    from stigmer_grpc.errors import InvalidArgumentError, RpcError

    if not isinstance(error, RpcError):
        console.complain(
            f"unexpected {type(error).__name__}: {error}", hint="again with --debug shows where it comes from"
        )
        return 1
    if isinstance(error, InvalidArgumentError):
        # Of many violations the message of the error has the first ones.
        for problem in (f"{violation.field}: {violation.message}" for violation in error.violations):
            if problem not in error.message:
                console.note(problem)
    code, hint = _ANSWERS.get(error.code.name, _UNKNOWN)
    console.complain(error.message or error.code.name.lower().replace("_", " "), hint=hint)
    return code


_UNKNOWN = (1, "`stigmer logs stigmer-server` may say more")
_ANSWERS: dict[str, tuple[int, str]] = {
    "INVALID_ARGUMENT": (2, "correct that and try again"),
    "OUT_OF_RANGE": (2, "leave the token out, and begin anew"),
    "NOT_FOUND": (3, "`stigmer get KIND` lists what there is"),
    "ALREADY_EXISTS": (4, "choose another name, or change it with `stigmer apply`"),
    "FAILED_PRECONDITION": (4, ""),
    "ABORTED": (4, "someone else changed it at the same time: try again"),
    "UNAUTHENTICATED": (5, "sign in with --token-file FILE or STIGMER_TOKEN; the server's operator makes keys"),
    "PERMISSION_DENIED": (4, "sign in with a key that may do it, or ask the owner of the organization"),
    "UNAVAILABLE": (5, "`stigmer status` shows what runs, `stigmer up` starts it"),
    "UNIMPLEMENTED": (1, "the server is older than this command: `stigmer status` tells its version"),
    "RESOURCE_EXHAUSTED": (2, ""),
    "DEADLINE_EXCEEDED": (5, "`stigmer status` shows what runs"),
}
"""Status code to exit code and next step."""


def _innermost(error: BaseException) -> BaseException:
    """Return the error that matters of a group of them."""
    members: Sequence[BaseException] = getattr(error, "exceptions", ())
    if not members:
        return error
    return _innermost(next((item for item in members if isinstance(item, CliError)), members[0]))
