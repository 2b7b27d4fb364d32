"""Tokens of executions: what a runner shows to get the values of one execution.

A token reads `ste_<expiry>.<execution>.<seal>`: nothing of it is stored, since the seal, an HMAC under a key that is
derived from the sealing key, is all that is needed to know it again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

from stigmer_server.errors import DeniedError, UnprovenError

EXECUTION_TOKEN = "x-stigmer-execution-token"  # noqa: S105 - the name of a key
"""Call metadata: the token."""
LIFETIME_SECONDS = 15 * 60
PURPOSE = "execution token"
"""What the keys are derived for."""
_MARK = "ste_"


class ExecutionTokens:
    """Issues and checks tokens; of the keys, which may change, the first seals and every one is good for checking."""

    def __init__(self, keys: Callable[[], Sequence[bytes]], *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, execution_id: str) -> tuple[str, int]:
        """Return a token for the execution, and when it expires, in seconds since 1970."""
        expires = int(self._clock()) + LIFETIME_SECONDS
        return f"{_MARK}{expires}.{execution_id}.{_seal(self._keys()[0], execution_id, expires)}", expires

    def check(self, token: str, execution_id: str) -> None:
        """Make sure that the token is one for this execution, and still good.

        Raises:
            UnprovenError: It is missing, was not issued here, or has expired.
            DeniedError: It is for another execution.
        """
        if not token:
            msg = f"the values of an execution are given to its runner only: send its token as `{EXECUTION_TOKEN}`"
            raise UnprovenError(msg)
        owner, expires = self._read(token)
        if owner != execution_id:
            msg = f"the execution token is for another execution, not for {execution_id}"
            raise DeniedError(msg)
        if expires <= self._clock():
            msg = "the execution token has expired; ask for a new one with issueToken"
            raise UnprovenError(msg)

    def _read(self, token: str) -> tuple[str, int]:
        """Return whose token it is and until when, once its seal has been found good."""
        head, _, seal = token.rpartition(".")
        expires, _, owner = head.removeprefix(_MARK).partition(".")
        known = token.startswith(_MARK) and expires.isascii() and expires.isdecimal() and len(expires) <= 12
        # All seals are compared whatever the token is like, and each in constant time.
        moment = int(expires) if known else 0
        good = [hmac.compare_digest(_seal(key, owner, moment).encode(), seal.encode()) for key in self._keys()]
        if not known or not any(good):
            msg = "the execution token was not issued by this server, or its key is gone; ask for one with issueToken"
            raise UnprovenError(msg)
        return owner, moment


def _seal(key: bytes, execution_id: str, expires: int) -> str:
    sealed = hmac.digest(key, f"{expires}\0{execution_id}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
