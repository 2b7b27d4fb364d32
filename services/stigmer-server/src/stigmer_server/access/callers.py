"""Whose token it is: the server's own, or one of its runners'."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from pathlib import Path

from stigmer_grpc import CallContext

from stigmer_server.access.roles import Role
from stigmer_server.access.tokens import digest, read_token_file
from stigmer_server.calls import Caller

OPERATOR = Caller(id="operator", role=Role.OPERATOR)
"""Whoever has the server's own token."""
RUNNER = Caller(id="runner", role=Role.RUNNER)
"""Whoever has the token of the server's runners."""


class Callers:
    """Everybody who has a token; an `Authenticator`."""

    def __init__(self, fixed: Mapping[str, Caller]) -> None:
        """Know the tokens that stay the same for as long as the server runs."""
        self._fixed = tuple((digest(token), caller) for token, caller in fixed.items())

    def recall(self, token: str) -> Caller | None:
        """See Authenticator."""
        given, found = digest(token), None
        for known, caller in self._fixed:
            # Without a way out as soon as one fits: all take the same time.
            if hmac.compare_digest(known, given):
                found = caller
        return found

    async def look_up(self, token: str) -> Caller | None:
        """See Authenticator."""
        del token
        return None

    def attend(self, identity: object, context: CallContext) -> Callable[[], None]:
        """See Authenticator."""
        del identity, context
        return _nothing


def open_callers(token_file: Path, runner_token_file: Path) -> Callers:
    """Return the callers whose tokens the files hold; a file that is not there is made. Raises: StartupError."""
    return Callers({read_token_file(token_file, "sto"): OPERATOR, read_token_file(runner_token_file, "str"): RUNNER})


def _nothing() -> None:
    pass
