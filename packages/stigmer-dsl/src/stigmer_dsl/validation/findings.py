"""What a check found, before anyone knows where in which text it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

MAX_FINDINGS = 200
"""How many problems of a document are looked for; nobody reads more, and a hostile one could have very many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem without a place in a text."""

    code: str
    pointer: str
    message: str
    hint: str = ""
    at_key: bool = False
    """Whether the key is what is wrong, not its value."""
    expression: str = ""
    """The expression that is wrong, where the message names a column in it."""


Report: TypeAlias = Callable[[Finding], None]
