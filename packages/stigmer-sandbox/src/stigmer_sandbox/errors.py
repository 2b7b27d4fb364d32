"""Every error that this package raises.

    SandboxError
    ├── CommandError             a command that cannot be begun as it is
    ├── SandboxUnavailableError  no command can be run here
    └── OutboundError            a request that must not or could not be made
        ├── TargetError          the address as written is not acceptable
        ├── RefusedAddressError  the policy refuses where the name leads
        ├── ResolutionError      the name leads nowhere
        ├── TooManyRedirectsError
        ├── ResponseTooLargeError
        ├── EncodingError        the body's content encoding is broken or not accepted
        └── OutboundTimeoutError the whole exchange took longer than allowed

Messages name hosts and addresses, never paths, queries, headers or bodies: those may hold secrets.
"""


class SandboxError(Exception):
    """Anything this package refuses or fails to do."""


class CommandError(SandboxError):
    """The command cannot be begun: there is no such program, or a name or folder of it cannot be used."""


class SandboxUnavailableError(SandboxError):
    """No command can be run in this sandbox on this machine; the message says why and what to do about it."""


class OutboundError(SandboxError):
    """An outbound request that must not or could not be made."""


class TargetError(OutboundError):
    """The address is written in a way that is never accepted, whatever it means."""


class RefusedAddressError(OutboundError):
    """The policy refuses the network address that the target leads to."""


class ResolutionError(OutboundError):
    """The name has no address, or its servers did not answer."""


class TooManyRedirectsError(OutboundError):
    """The peer redirected more often than the policy follows."""


class ResponseTooLargeError(OutboundError):
    """The body, decompressed, is larger than the cap; nothing beyond the cap was kept."""


class EncodingError(OutboundError):
    """The body's content encoding is broken, stacked, or one that we did not offer."""


class OutboundTimeoutError(OutboundError):
    """The exchange, redirects and body included, took longer than its cap."""
