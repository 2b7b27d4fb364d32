"""A server somewhere: its address as people write it, and what it takes to be let in there.

host:port                     in clear, or TLS with `--tls` or `--ca`
https://host:port             TLS; also grpcs://
http://host:port              in clear, on purpose; also grpc://
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.environment import Environment
from stigmer_cli.errors import InvalidInputError, UnavailableError

if TYPE_CHECKING:
    from grpc import ChannelCredentials

_ADDRESS = re.compile(
    r"(?:(?P<scheme>[A-Za-z]+)://)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
_SEALED = {"https": True, "grpcs": True, "http": False, "grpc": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server is, and how it is talked to."""

    address: str
    """host:port."""
    tls: bool
    token: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """What goes with every call."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


def resolve(given: str, environment: Environment) -> Target:
    """Return the server that a person named.

    Raises:
        InvalidInputError: It is no address, its token cannot be one, or it would go to another machine in clear.
    """
    found = _ADDRESS.fullmatch(given.strip())
    scheme = (found["scheme"] or "").lower() if found else ""
    if found is None or scheme not in {"", *_SEALED}:
        msg = f"{given!r} is no address of a server"
        raise InvalidInputError(msg, hint="write host:port, or https://host:port for a server that speaks TLS")
    tls = _SEALED.get(scheme, False) or environment.tls or bool(environment.ca)
    port = found["port"] or ("443" if tls else "")
    if not port:
        msg = f"{given!r} names no port"
        raise InvalidInputError(msg, hint="the local stack has 7234, `stigmer-server` by itself 8080")
    token = read_token(environment)
    if token and not tls and not scheme and not _is_local(found["host"]):
        msg = f"the token would go to {given} in clear"
        raise InvalidInputError(
            msg, hint=f"write https://{given} if the server speaks TLS, or http://{given} to send it as it is"
        )
    return Target(address=f"{found['host']}:{port}", tls=tls, token=token)


def read_token(environment: Environment) -> str:
    """Return the token of `--token`, or else of the file that is named; "" when neither is given.

    Raises:
        InvalidInputError: The file cannot be read, or what it holds cannot be a token.
    """
    token = environment.token
    if not token and environment.token_file:
        token = _read(Path(environment.token_file).expanduser())
    if not token.isascii() or not token.isprintable() or " " in token:
        msg = "the token cannot be one: it has to be a single word of printable ASCII characters"
        raise InvalidInputError(msg, hint="correct --token, STIGMER_TOKEN, or the file that holds it")
    return token


def stack_token(environment: Environment) -> str:
    """Return the token of this home's stack. Raises: UnavailableError: it cannot be read."""
    try:
        return environment.home.token.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        msg = f"the token of the stack cannot be read: {error}"
        raise UnavailableError(msg, hint="start the stack anew: `stigmer down`, then `stigmer up --detach`") from error


def credentials(target: Target, environment: Environment) -> ChannelCredentials | None:
    """Return what a channel to the server needs for TLS. Raises: InvalidInputError: the authority is none."""
    if not target.tls:
        return None
    from stigmer_grpc.credentials import client_credentials
    from stigmer_grpc.errors import CredentialsError

    try:
        return client_credentials(authority=Path(environment.ca).expanduser() if environment.ca else None)
    except CredentialsError as error:
        raise InvalidInputError(str(error), hint="correct --ca (STIGMER_CA)") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        msg = f"the token file {path} cannot be read: {error}"
        raise InvalidInputError(msg, hint="correct --token-file (STIGMER_TOKEN_FILE)") from error


def _is_local(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
