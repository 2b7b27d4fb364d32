"""Finding out where an operation of a document leads: which server, by which protocol, at which address."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stigmer_sandbox import TargetError, read_host

from workflow_runner.activities.asyncapi.document import Document, Operation, Server
from workflow_runner.activities.asyncapi.port import Credentials, MessageProtocol, Route
from workflow_runner.activities.asyncapi.protocols import extra_for, protocol_of, schemes
from workflow_runner.activities.calls import CallFailedError

_VARIABLE = re.compile(r"\{([^{}/]+)\}")


def choose(
    document: Document, operation: Operation, *, name: str | None, protocol: str | None
) -> tuple[Server, MessageProtocol]:
    """Return the server to use: the one with the name, or the first that has the channel and a protocol we speak.

    Raises:
        CallFailedError: There is none; says why.
    """
    servers = [each for each in document.servers if not operation.servers or each.name in operation.servers]
    if name is not None:
        servers = [each for each in servers if each.name == name]
    if protocol is not None:
        family = schemes(protocol)
        servers = [each for each in servers if each.protocol in family or each.protocol == protocol]
    for server in servers:
        found = protocol_of(server.protocol)
        if found is not None:
            return server, found
    if servers:
        raise _none(" or ".join(extra_for(each.protocol) for each in servers[:3]))
    listed = ", ".join(f"{each.name} ({each.protocol})" for each in document.servers) or "none"
    asked = " and ".join(
        part for part in (f"named {name!r}" if name else "", f"that speaks {protocol}" if protocol else "") if part
    )
    raise _none(f"the AsyncAPI document has no server {asked or 'for this channel'}; it has: {listed}")


def route_to(
    server: Server,
    operation: Operation,
    protocol: MessageProtocol,
    *,
    variables: Mapping[str, Any],
    credentials: Credentials,
    headers: Mapping[str, str],
    most_bytes: int,
) -> Route:
    """Return the route to an operation on a server.

    Raises:
        CallFailedError: A variable has no value, or the address is not written as addresses are.
    """
    declared = {key: each.get("default") for key, each in server.variables.items()}
    _check_values(server, variables)
    url = _filled(server.url, {**declared, **variables}, f"the address of the server {server.name}")
    scheme, host, port, path = _split(url, server.protocol)
    tls, usual = protocol.schemes.get(scheme, protocol.schemes.get(server.protocol, (False, 0)))
    family = schemes(server.protocol)
    return Route(
        scheme=scheme,
        tls=tls,
        host=host,
        port=port or usual,
        path=path,
        channel=_filled(operation.address, {**operation.parameters, **variables}, "the channel"),
        credentials=credentials,
        headers=headers,
        operation=_binding(operation.bindings, family),
        binding=_binding(operation.channel_bindings, family),
        most_bytes=most_bytes,
    )


def _check_values(server: Server, variables: Mapping[str, Any]) -> None:
    for name, value in variables.items():
        allowed = [str(each) for each in server.variables.get(name, {}).get("enum") or ()]
        if allowed and str(value) not in allowed:
            raise _none(f"the server variable {name} is {value!r}, and may be: {', '.join(allowed)}")


def _filled(template: str, values: Mapping[str, Any], what: str) -> str:
    missing = [name for name in _VARIABLE.findall(template) if values.get(name) is None]
    if missing:
        names = ", ".join(missing)
        raise _none(f"{what} is {template!r}, and {names} has no value; give it in `server.variables`")
    return _VARIABLE.sub(lambda match: str(values[match[1]]), template)


def _split(url: str, protocol: str) -> tuple[str, str, int | None, str]:
    whole = url if "://" in url else f"{protocol}://{url}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname or "", parts.port
        if "@" in parts.netloc:
            raise _none("the server's address holds a user; use `authentication` instead")
        read_host(f"[{host}]" if ":" in host else host)
    except (ValueError, TargetError) as error:
        raise _none(f"the server's address {url!r} cannot be used: {error}") from None
    return parts.scheme.lower(), host, port, parts.path.rstrip("/")


def _binding(bindings: Mapping[str, Any], family: frozenset[str]) -> Mapping[str, Any]:
    nothing: Mapping[str, Any] = {}
    return next((each for name, each in bindings.items() if name in family), nothing)


def _none(sentence: str) -> CallFailedError:
    return CallFailedError("configuration", sentence)
