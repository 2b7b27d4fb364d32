"""Finding out where a name leads, once, and whether one may go there.

Whoever connects to an address from here, and not to the name, cannot be sent elsewhere by a second look-up.
"""

import asyncio
import socket
from ipaddress import ip_address
from typing import Protocol

from stigmer_sandbox.errors import ResolutionError
from stigmer_sandbox.outbound.policy import OutboundPolicy


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses in the order to try them.

        Raises:
            OSError: The name has none.
        """
        ...


async def resolve(host: str, port: int) -> list[str]:
    """Ask the operating system for the addresses of `host`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked_addresses(
    policy: OutboundPolicy, host: str, port: int, *, resolver: Resolver = resolve, seconds: float | None = None
) -> list[str]:
    """Return every address of `host`, in the order to try them; `host` is as `read_host` gives it.

    Raises:
        RefusedAddressError: The policy refuses one of them.
        ResolutionError: There is none, or none was found within `seconds`.
    """
    found = [host] if _is_literal(host) else await _resolved(resolver, host, port, seconds)
    return [str(policy.check(address, host=host)) for address in found]


async def _resolved(resolver: Resolver, host: str, port: int, seconds: float | None) -> list[str]:
    try:
        async with asyncio.timeout(seconds):
            found = await resolver(host, port)
    except TimeoutError:
        raise ResolutionError(f"{host} was not resolved in time") from None
    except (OSError, UnicodeError) as error:
        raise ResolutionError(f"{host} cannot be resolved: {error}") from None
    if not found:
        raise ResolutionError(f"{host} has no address")
    return found


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
