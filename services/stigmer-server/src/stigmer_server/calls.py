"""On whose behalf a verb works, and how: what a call says beside its request.

The gRPC side of a call stays in `stigmer_grpc`; a verb sees only this. Who authenticates callers puts a `Caller` under
`CALLER` into the call context's values; where nobody does, everybody is the system.

A call in process is made by the server itself, and trusted, when its channel says so: `App.channel()` puts `SYSTEM`
there before any interceptor runs. A channel for somebody else's calls, `App.channel(trusted=False)`, puts nothing
there, so that each of its calls has to bring a token just like one over a socket.
"""

from __future__ import annotations

from dataclasses import dataclass

from stigmer_grpc import CallContext

from stigmer_server.access.roles import Role
from stigmer_server.errors import DeniedError

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call."""

    id: str
    """What the audit of a changed resource says: an account, an API key, a runner, or `system`."""
    org: str | None = None
    """Slug of the only organization whose resources the caller may see; None for every one."""
    role: Role = Role.VIEWER
    """What the caller is to that organization, or to the server as a whole."""

    def sees(self, org: str) -> bool:
        """Tell whether the caller may see what belongs to the organization."""
        return self.org in (None, org)

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
    """Return what a call over gRPC says of itself."""
    caller = context.values.get(CALLER, SYSTEM)
    metadata = context.metadata
    dry_run, key = metadata.get(DRY_RUN, ""), metadata.get(IDEMPOTENCY_KEY, "")
    brief = metadata.get(RETURN) == "minimal"
    if caller is SYSTEM and not dry_run and not key and not brief:
        return INTERNAL
    assert isinstance(caller, Caller)  # noqa: S101 - only an authenticator of ours writes this value
    return Call(caller=caller, dry_run=dry_run == "true", idempotency_key=str(key), brief=brief)
