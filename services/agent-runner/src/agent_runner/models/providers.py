"""The providers of models: what the runner must know of each that LangChain does not tell in the same words for all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SCRIPTED = "scripted"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider.

    Attributes:
        prefix: What its variables begin with; empty when it has none.
        package: What LangChain calls it; empty when it is no provider of LangChain's.
        keyless: Whether it is asked without a key, too.
        address: Its own address, which its package would take from variables of this process otherwise.
        model: What to ask for when no model was named; empty when one must be.
        options: Arguments that every model of this provider gets.
        once: What its package calls asking once, and not again.
        end: Key of an answer's metadata that says why it ended; empty when its answers do not tell.
        walks: Whether its package walks through all that was said before it sends a request.
    """

    prefix: str = ""
    package: str = ""
    keyless: bool = False
    address: str = ""
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    once: int = 0
    end: str = ""
    walks: bool = False

    @property
    def key(self) -> str:
        """The variable that holds its key."""
        return self._variable("API_KEY")

    @property
    def base_url(self) -> str:
        """The variable that holds an address in place of its own."""
        return self._variable("BASE_URL")

    @property
    def headers(self) -> str:
        """The variable that holds headers of every request."""
        return self._variable("CUSTOM_HEADERS")

    @property
    def ca(self) -> str:
        """The variable that holds the authority of its certificate."""
        return self._variable("CA")

    @property
    def variables(self) -> tuple[str, ...]:
        """All variables that are there for it."""
        return (self.key, self.base_url, self.headers, self.ca) if self.prefix else ()

    def _variable(self, what: str) -> str:
        return f"{self.prefix}_{what}" if self.prefix else ""


# Chat completions, because every server that calls itself compatible speaks them; usage only comes when asked for.
_CHAT_COMPLETIONS: dict[str, Any] = {
    "package": "openai",
    "options": {"use_responses_api": False, "stream_usage": True},
    "end": "finish_reason",
    "walks": True,
}

PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(
        prefix="ANTHROPIC",
        package="anthropic",
        address="https://api.anthropic.com",
        model="claude-sonnet-4-6",
        end="stop_reason",
    ),
    "openai": Provider(prefix="OPENAI", address="https://api.openai.com/v1", **_CHAT_COMPLETIONS),
    "google_genai": Provider(
        prefix="GOOGLE",
        package="google_genai",
        address="https://generativelanguage.googleapis.com",
        model="gemini-2.5-flash",
        # Its package waits as it likes, and not as long as it is asked to: the turn does that.
        options={"max_retries": 1},
        once=1,
        end="finish_reason",
    ),
    "ollama": Provider(prefix="OLLAMA", package="ollama", keyless=True, model="qwen2.5-coder:7b", end="done_reason"),
    SCRIPTED: Provider(keyless=True, model="default"),
}
"""Those that the runner knows, in the order in which the first one with a key, or an address, is taken."""

_ALIASES = {"google": "google_genai"}


def provider_of(name: str, address: str = "") -> Provider:
    """What is known of a provider.

    One that is not in the table speaks OpenAI's API where it has an address, and is left to LangChain where not.
    """
    if name in PROVIDERS:
        return PROVIDERS[name]
    if address:
        return Provider(prefix=_prefix(name), keyless=True, **_CHAT_COMPLETIONS)
    return Provider(prefix=_prefix(name), package=name)


def canonical(name: str) -> str:
    """The provider's name in the table."""
    return _ALIASES.get(name, name)


def split(name: str, *variables: Mapping[str, str]) -> tuple[str, str]:
    """`provider:model` as its parts; a name of Ollama's (`qwen2.5-coder:7b`) has a colon too and no provider.

    A provider that is not in the table is one if its address is among the variables.
    """
    before, colon, model = name.partition(":")
    provider = canonical(before)
    if colon and (provider in PROVIDERS or _has_address(provider, variables)):
        return provider, model
    return "", name


def variables_of(models: Iterable[str]) -> frozenset[str]:
    """The variables that are there for models, whichever of `models` answers: no command of an agent needs them."""
    named = {canonical(name.partition(":")[0]) for name in models if ":" in name}
    known = [*PROVIDERS.values(), *(provider_of(name) for name in named if _NAME.fullmatch(name))]
    return frozenset(name for provider in known for name in provider.variables)


def _has_address(name: str, variables: Iterable[Mapping[str, str]]) -> bool:
    return _NAME.fullmatch(name) is not None and any(each.get(f"{_prefix(name)}_BASE_URL") for each in variables)


def _prefix(name: str) -> str:
    return name.upper().replace("-", "_")
