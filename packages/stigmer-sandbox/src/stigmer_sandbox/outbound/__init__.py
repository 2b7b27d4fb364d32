"""The guard on outbound requests: where they may go, and what they may cost."""

from stigmer_sandbox.outbound.address import Reach, classify
from stigmer_sandbox.outbound.client import Fetched, Streamed, fetch, guarded_client, stream
from stigmer_sandbox.outbound.pinning import Resolver, checked_addresses, resolve
from stigmer_sandbox.outbound.policy import OutboundPolicy
from stigmer_sandbox.outbound.target import Target, read_host, read_target
from stigmer_sandbox.outbound.transport import GuardedTransport

__all__ = [
    "Fetched",
    "GuardedTransport",
    "OutboundPolicy",
    "Reach",
    "Resolver",
    "Streamed",
    "Target",
    "checked_addresses",
    "classify",
    "fetch",
    "guarded_client",
    "read_host",
    "read_target",
    "resolve",
    "stream",
]
