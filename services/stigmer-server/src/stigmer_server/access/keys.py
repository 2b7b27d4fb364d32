"""API keys as credentials: how they are made, and who a caller with one is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from stigmer_server.access.roles import Role
from stigmer_server.access.tokens import new_token
from stigmer_server.calls import Caller
from stigmer_server.messages import Message

KIND = "api_key"
ROLES: Mapping[int, Role] = {1: Role.VIEWER, 2: Role.EDITOR, 3: Role.OWNER, 4: Role.RUNNER}
"""ApiKeyRole by its numbers."""
ROLE_NUMBERS: Mapping[Role, int] = {role: number for number, role in ROLES.items()}
_PREFIX = "stk"
_FINGERPRINT = 6
"""Characters of the key that tell keys apart; the others are 220 bits, which nobody guesses."""


def new_key() -> tuple[str, str, str]:
    """Return a fresh key, its hash as it is stored, and its fingerprint."""
    key = new_token(_PREFIX)
    return key, key_hash(key), key[-_FINGERPRINT:]


def key_hash(key: str) -> str:
    """Return the hash of a key: the 64 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def caller_of(message: Message) -> Caller:
    """Return who somebody with this key is."""
    role = ROLES[message.spec.role]
    org = None if role is Role.RUNNER else message.metadata.org
    expires = message.spec.expires_at.ToNanoseconds() / 1e9 if message.spec.HasField("expires_at") else None
    return Caller(id=message.metadata.id, org=org, role=role, expires=expires)
