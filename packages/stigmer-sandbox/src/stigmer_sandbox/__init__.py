"""Reaching untrusted addresses and running untrusted commands behind one port."""

from stigmer_sandbox.errors import (
    EncodingError,
    OutboundError,
    OutboundTimeoutError,
    RefusedAddressError,
    ResolutionError,
    ResponseTooLargeError,
    SandboxError,
    TargetError,
    TooManyRedirectsError,
)
from stigmer_sandbox.outbound import (
    Fetched,
    GuardedTransport,
    OutboundPolicy,
    Reach,
    Resolver,
    Target,
    classify,
    fetch,
    guarded_client,
    read_target,
    resolve,
)

__all__ = [
    "EncodingError",
    "Fetched",
    "GuardedTransport",
    "OutboundError",
    "OutboundPolicy",
    "OutboundTimeoutError",
    "Reach",
    "RefusedAddressError",
    "ResolutionError",
    "Resolver",
    "ResponseTooLargeError",
    "SandboxError",
    "Target",
    "TargetError",
    "TooManyRedirectsError",
    "classify",
    "fetch",
    "guarded_client",
    "read_target",
    "resolve",
]
