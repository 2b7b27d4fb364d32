"""Tokens that callers hold for us: a number, bound to this database and to what the token is for.

A token says nothing to its holder, and one that was made up, cut, or given by another database is found out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from stigmer_server.errors import InvalidError

WATCH = "watch"
EVENTS = "events"
"""Purposes of the tokens that say how far a stream is; their number is the sequence of a change."""

_VERSION = b"\x01"
_DIGEST = 8
_LENGTH = len(_VERSION) + 8 + _DIGEST


class Tokens:
    """The tokens of one database."""

    def __init__(self, identity: str) -> None:
        """Bind them to the database with this identity."""
        self._identity = identity

    def encode(self, purpose: str, number: int) -> str:
        """Return the token of a number from 0."""
        payload = _VERSION + number.to_bytes(8)
        return base64.urlsafe_b64encode(payload + self._digest(purpose, payload)).decode().rstrip("=")

    def decode(self, purpose: str, token: str, *, field: str) -> int:
        """Return the number that a token was made of, for this purpose and by this database.

        Raises:
            InvalidError: It was not; names the field.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        number = int.from_bytes(raw[len(_VERSION) : -_DIGEST]) if len(raw) == _LENGTH else -1
        # Made anew and compared as text: several texts decode to the same bytes, and only one of them was given.
        if number < 0 or token != self.encode(purpose, number):
            problem = "is no token that this server's database has given for such a call; leave it out to start anew"
            raise InvalidError.of(field, "token.known", problem)
        return number

    def _digest(self, purpose: str, payload: bytes) -> bytes:
        content = b"\0".join((self._identity.encode(), purpose.encode(), payload))
        return hashlib.blake2b(content, digest_size=_DIGEST).digest()
