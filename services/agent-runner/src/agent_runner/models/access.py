"""How a provider is reached: key, address, headers and certificate authority, which belong together.

Whoever gives the key says where it goes: an address of an execution's environment is used with a key of the
environment only, and so are its headers. Otherwise whoever declares an environment could have the operator's key sent
anywhere.
"""

from __future__ import annotations

import functools
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from agent_runner.errors import ModelNotConfiguredError
from agent_runner.models.providers import Provider

Headers = tuple[tuple[str, str], ...]
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PEM = "-----BEGIN"
OF_HEADERS = "_CUSTOM_HEADERS"
"""What the names of variables end in that hold headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a provider is reached.

    Attributes:
        api_key: The key, if there is one.
        base_url: The address, if it is not the provider's own.
        headers: Headers of every request, beside those of the provider's package.
        ca: PEM text of certificate authorities that are trusted besides the usual ones.
        own: Whether the address is that of an execution's environment.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    headers: Headers = field(default=(), repr=False)
    ca: str = field(default="", repr=False)
    own: bool = False


def of_environment(provider: Provider, environment: Mapping[str, str]) -> Access | None:
    """What an execution's environment says; None when it brings no key, or no address where no key is needed.

    Raises:
        ModelNotConfiguredError: Headers or authorities cannot be read.
    """
    key, url = environment.get(provider.key, ""), environment.get(provider.base_url, "")
    if not key and not (url and provider.keyless):
        return None
    authority = environment.get(provider.ca, "")
    if authority and _PEM not in authority:
        raise ModelNotConfiguredError(f"{provider.ca} of an environment is the PEM text of certificates, and no path")
    return Access(
        api_key=key,
        base_url=url,
        headers=read_headers(provider.headers, environment.get(provider.headers, "")),
        ca=authority,
        own=bool(url),
    )


def read_headers(variable: str, text: str) -> Headers:
    """Headers, which `variable` gives as a JSON object or line by line, as `Name: value`.

    Raises:
        ModelNotConfiguredError: They cannot be read; what is in them is not told, it may be secret.
    """
    text = text.strip()
    pairs = _of_json(variable, text) if text.startswith("{") else _of_lines(variable, text)
    for name, value in pairs:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ModelNotConfiguredError(f"{variable}: header number {pairs.index((name, value)) + 1} is none")
    return tuple(pairs)


def secrets_in(secrets: Mapping[str, str]) -> list[str]:
    """The values of secret headers, each alone: a peer may tell one of them."""
    found: list[str] = []
    for variable, text in secrets.items():
        if variable.endswith(OF_HEADERS):
            try:
                values = [value for _, value in read_headers(variable, text)]
            except ModelNotConfiguredError:  # said when a model is chosen by it
                continue
            found += [part for value in values for part in (value, value.rpartition(" ")[2])]
    return found


def read_authority(variable: str, text: str) -> str:
    """The PEM text that a variable of the runner gives, itself or as a path.

    Raises:
        ModelNotConfiguredError: The file cannot be read.
    """
    if not text or _PEM in text:
        return text
    try:
        return Path(text).expanduser().read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no PEM text"
        raise ModelNotConfiguredError(f"{variable}: cannot read {text}: {reason}") from None


@functools.lru_cache(maxsize=32)
def trusting(variable: str, *authorities: str) -> ssl.SSLContext:
    """A context that trusts the usual authorities, and those of PEM texts.

    Raises:
        ModelNotConfiguredError: One of them holds no certificates.
    """
    context = httpx2.create_ssl_context(trust_env=False)
    for text in filter(None, authorities):
        try:
            context.load_verify_locations(cadata=text)
        except ssl.SSLError:
            raise ModelNotConfiguredError(f"{variable}: it holds no certificates that can be read") from None
    return context


def _of_json(variable: str, text: str) -> list[tuple[str, str]]:
    try:
        found: Any = json.loads(text)
    except ValueError:
        raise ModelNotConfiguredError(f"{variable} begins like a JSON object and is none") from None
    return [(str(name), value if isinstance(value, str) else json.dumps(value)) for name, value in found.items()]


def _of_lines(variable: str, text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        name, colon, value = line.partition(":")
        if not colon:
            raise ModelNotConfiguredError(f"{variable}: line {number} is no header: write `Name: value`")
        pairs.append((name.strip(), value.strip()))
    return pairs
