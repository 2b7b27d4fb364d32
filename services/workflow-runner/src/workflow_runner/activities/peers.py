"""Finding the address of a peer that is not spoken to over HTTP: checked by the outbound policy, and reachable."""

import asyncio
import contextlib

from stigmer_sandbox import (
    OutboundError,
    OutboundPolicy,
    RefusedAddressError,
    TargetError,
    checked_addresses,
    read_host,
)

from workflow_runner.activities.calls import CallFailedError


async def reachable(policy: OutboundPolicy, host: str, port: int) -> str:
    """Return the first address of `host` at which something accepts connections to `port`.

    Whoever connects to it, and not to the name, is not sent elsewhere by a second look-up.

    Raises:
        CallFailedError: The host is not written as hosts are, the policy refuses it, or nothing answers.
    """
    reason = "there is no address"
    for address in await _addresses(policy, host, port):
        try:
            async with asyncio.timeout(policy.connect_timeout):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            reason = f"{address} does not answer"
            continue
        except OSError as error:
            reason = str(error)
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return address
    raise CallFailedError("communication", f"{host}:{port} cannot be reached: {reason}", status=503)


async def _addresses(policy: OutboundPolicy, host: str, port: int) -> list[str]:
    try:
        bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return await checked_addresses(policy, read_host(bare), port, seconds=policy.connect_timeout)
    except TargetError as error:
        raise CallFailedError("configuration", f"{host}:{port}: {error}") from None
    except RefusedAddressError as error:
        raise CallFailedError("authorization", f"{host}:{port}: {error}") from None
    except OutboundError as error:
        raise CallFailedError("communication", f"{host}:{port}: {error}", status=503) from None
