"""What of a call nobody is to see, besides the secrets of the environment: found while the call is made.

A token that was had for a call, or a password that stood inside a secret: whoever comes by one says
`conceal`, and it is taken out of the call's output and errors wherever they show it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_concealed: ContextVar[set[str] | None] = ContextVar("concealed", default=None)


@contextmanager
def concealment() -> Generator[set[str]]:
    """Collect what is concealed while the block runs, tasks that it starts included."""
    found: set[str] = set()
    token = _concealed.set(found)
    try:
        yield found
    finally:
        _concealed.reset(token)


def conceal(*values: str) -> None:
    """Let the call that is being made show none of `values`."""
    found = _concealed.get()
    if found is not None:
        found.update(value for value in values if value)
