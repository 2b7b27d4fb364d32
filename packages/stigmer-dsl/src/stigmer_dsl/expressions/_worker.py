"""The watched process: evaluates one jq program at a time, and is killed by the system when that takes too long.

Started as a script of its own by the guard, with no environment. Reads requests from standard input and writes
answers to standard output, both as frames of four length bytes and UTF-8 text. Imports nothing of this package.
"""

import contextlib
import resource
import signal
import struct
import sys
from functools import lru_cache
from typing import Any, BinaryIO

import jq


@lru_cache(maxsize=256)
def _compiled(program: str) -> Any:
    return jq.compile(program)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownVariableType] - untyped


def _read(stream: BinaryIO) -> str | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    return stream.read(struct.unpack(">I", head)[0]).decode()


def _answer(program: str, document: str) -> tuple[bytes, str]:
    """`v` and the value's JSON text, `n` for no value, or `e` and the reason of an error."""
    try:
        compiled = _compiled(program)
        if not document:
            return b"n", ""
        return b"v", compiled.input_text(document).first()
    except StopIteration:
        return b"n", ""
    except ValueError as error:
        return b"e", str(error)


def main() -> None:
    """Answer until the input ends."""
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        program, document = _read(source), _read(source)
        if program is None or document is None:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)
        kind, text = _answer(program, document)
        signal.setitimer(signal.ITIMER_PROF, 0)
        body = text.encode("utf-8", "replace")
        sink.write(kind + struct.pack(">I", len(body)) + body)
        sink.flush()


if __name__ == "__main__":
    main()
