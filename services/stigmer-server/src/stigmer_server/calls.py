"""On whose behalf a verb works, and how: what a call says beside its request.

The gRPC side of a call stays in `stigmer_grpc`; a verb sees only this. Who authenticates callers puts a `Caller` under
`CALLER` into the call context's values; where nobody does, everybody is the system.

A call in process is made by the server itself, and trusted, when its channel says so: `App.channel()` puts `SYSTEM`
there before any interceptor runs. A channel for somebody else's calls, `App.channel(trusted=False)`, puts nothing
there, so that each of its calls has to bring a token just like one over a socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stigmer_grpc import CallContext

from stigmer_server.access.roles import Role
from stigmer_server.errors import DeniedError, InvalidError

CALLER = "caller"
"""Key of the `Caller` in `CallContext.values`."""
DRY_RUN = "x-stigmer-dry-run"
"""Call metadata: `true` does everything but keep the result."""
FORCE = "x-stigmer-force"
"""Call metadata: `true` forces a deletion, for the requests that have no field for it."""
RETURN = "x-stigmer-return"
"""Call metadata: `minimal` has a command answer with metadata and phase alone, for callers who know the rest."""
IDEMPOTENCY_KEY = "x-stigmer-idempotency-key"
"""Call metadata: names a creation, so that a repeated call returns what the first one made."""

_OWN = "x-stigmer-"
"""What the keys of all call metadata of ours begin with."""
_KEY = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call."""

    id: str
    """What the audit of a changed resource says: an account, an API key, a runner, or `system`."""
    org: str | None = None
    """Slug of the only organization whose resources the caller may see; None for every one."""
    role: Role = Role.VIEWER
    """What the caller is to that organization, or to the server as a whole."""
    expires: float | None = None
    """When its token ceases to be good, in seconds since 1970; None: not by itself."""

    def sees(self, org: str, *, shared: bool = False) -> bool:
        """Tell whether the caller may see what belongs to the organization.

        Args:
            org: Its slug; empty for what belongs to none.
            shared: Whether what belongs to none is the platform's, and everybody's to use.
        """
        return self.org in (None, org) or (shared and not org)

    def may_write(self, org: str) -> bool:
        """Tell whether the caller may change what belongs to the organization, as far as its role goes."""
        return self.org in (None, org)

    def places(self, *, shared: bool = False) -> tuple[str | None, ...]:
        """Return the organizations in which to look for what the caller names without one; None: in all at once."""
        if self.org is None:
            return (None,)
        return (self.org, "") if shared else (self.org,)

    def among(self, org: str, *, shared: bool = False) -> str | tuple[str, ...] | None:
        """Return the organizations that a question about one, or about all (empty), is confined to; None: to none.

        Raises:
            DeniedError: The caller may not see that organization.
        """
        confined = self.confine(org)
        return (confined, "") if shared and not org and confined is not None else confined

    def confine(self, org: str) -> str | None:
        """Return the organization that a question about one, or about all (empty), is confined to; None: to none.

        Raises:
            DeniedError: The caller may not see that organization.
        """
        if org and not self.sees(org):
            msg = f"{self.id} may see organization {self.org!r} only, not {org!r}"
            raise DeniedError(msg)
        return org or self.org


SYSTEM = Caller(id="system", role=Role.OPERATOR)
"""The server itself, and everybody as long as callers are not told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a verb must know of the call that it answers."""

    caller: Caller = SYSTEM
    dry_run: bool = False
    """Whether nothing is kept: the transaction is undone once its result is known, and no run is started."""
    idempotency_key: str = ""
    brief: bool = False
    """Whether the answer is to have nothing but the metadata and the phase of the resource."""


INTERNAL = Call()
"""What the server does by itself."""


def call_of(context: CallContext) -> Call:
    """Return what a call over gRPC says of itself. Raises: InvalidError for metadata of ours that says nothing."""
    caller = context.values.get(CALLER, SYSTEM)
    if caller is SYSTEM and not context.sent_any(_OWN):
        return INTERNAL
    assert isinstance(caller, Caller)  # noqa: S101 - only an authenticator of ours writes this value
    return Call(
        caller=caller,
        dry_run=is_set(context, DRY_RUN),
        idempotency_key=_key(context),
        brief=context.metadata.get(RETURN) == "minimal",
    )


def is_set(context: CallContext, name: str) -> bool:
    """Tell whether a switch among a call's metadata is on. Raises: InvalidError when it is neither on nor off."""
    value = context.metadata.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidError.of(name, "metadata.switch", f"this call metadata is true or false, not {value!r}")
    return value == "true"


def _key(context: CallContext) -> str:
    """Return the idempotency key; empty when there is none."""
    value = context.metadata.get(IDEMPOTENCY_KEY)
    if value is None:
        return ""
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        problem = "this call metadata is 1 to 256 characters of printable ASCII"
        raise InvalidError.of(IDEMPOTENCY_KEY, "metadata.idempotency_key", problem)
    return value
