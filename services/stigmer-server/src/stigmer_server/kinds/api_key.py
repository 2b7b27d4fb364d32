"""ApiKey: what a program signs in with. The key itself is nowhere: a hash of it is what is kept."""

from __future__ import annotations

from stigmer_server.access.keys import ROLE_NUMBERS, ROLES
from stigmer_server.access.roles import Role
from stigmer_server.errors import DeniedError, InvalidError
from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message
from stigmer_server.unit import Unit


def _settle(message: Message, stored: Message | None, unit: Unit) -> None:
    spec = message.spec
    if stored is not None:
        # The answer to the creation has the key in place of its hash, and may come back like that.
        spec.key_hash, spec.fingerprint = stored.spec.key_hash, stored.spec.fingerprint
    spec.role = spec.role or ROLE_NUMBERS[Role.EDITOR]
    role = ROLES[spec.role]
    if role is Role.RUNNER and unit.call.caller.role is not Role.OPERATOR:
        msg = "the key of a runner reaches every organization, so the operator alone gives it"
        raise DeniedError(msg)
    _check_place(message, role)
    if stored is None or spec.expires_at != stored.spec.expires_at or spec.never_expires != stored.spec.never_expires:
        _check_end(message, unit)


def _check_place(message: Message, role: Role) -> None:
    org = message.metadata.org
    if role is Role.RUNNER and org:
        problem = "a runner serves every organization: leave the organization of its key out"
        raise InvalidError.of("metadata.org", "api_key.runner.org", problem)
    if role is not Role.RUNNER and not org:
        problem = "say which organization the key is for; only the keys of runners are for none"
        raise InvalidError.of("metadata.org", "api_key.org.required", problem)


def _check_end(message: Message, unit: Unit) -> None:
    spec = message.spec
    if spec.HasField("expires_at") == spec.never_expires:
        problem = "say when the key stops working: either spec.expires_at or spec.never_expires"
        raise InvalidError.of("spec.expires_at", "api_key.end.required", problem)
    if spec.HasField("expires_at") and spec.expires_at.ToNanoseconds() <= unit.now.ToNanoseconds():
        raise InvalidError.of("spec.expires_at", "api_key.end.future", "lies in the past")


KIND = Kind(
    name="api_key",
    indexes={"key_hash": "$.spec.keyHash"},
    settle=_settle,
    no_rollback="what a key was allowed before is for its owner to say anew",
)
