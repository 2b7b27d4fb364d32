"""Which model answers, and with which key: `provider:model` in, a chat model of LangChain out.

The model's name comes from the execution, else from the runner; keys come from the execution's environment, else from
the runner (see `access`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_sandbox import (
    OutboundPolicy,
    RefusedAddressError,
    ResolutionError,
    TargetError,
    checked_addresses,
    read_target,
)

from agent_runner.errors import ModelNotConfiguredError
from agent_runner.models.access import Access, of_environment, read_authority, read_headers
from agent_runner.models.providers import PROVIDERS, SCRIPTED, canonical, provider_of, split
from agent_runner.models.script import load_script

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agent_runner.models.recorder import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The runner's side of the choice.

    Attributes:
        provider: Name of the provider, or empty to choose by what is configured.
        model: Name of the model, alone or as `provider:model`; empty is the provider's default.
        api_key: Key for `provider`, whichever it is.
        base_url: Address for `provider`, whichever it is.
        headers: Headers for `provider`, whichever it is, as `access.read_headers` takes them.
        ca: Certificate authority of `provider`, whichever it is: PEM text, or the path of a file that holds it.
        authorities: PEM text of authorities that all models are trusted by.
        outbound: Where addresses of executions' environments may lead.
        max_tokens: Longest answer; None leaves it to the provider.
        temperature: None leaves it to the provider.
        timeout: Seconds for one call of a model.
        scripts: Folder of scripts, if there is one.
        record: Folder where answers are written down as scripts, if they are to be.
        environment: Variables of the runner, where providers' keys and addresses are looked up.
    """

    provider: str = ""
    model: str = ""
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    headers: str = field(default="", repr=False)
    ca: str = ""
    authorities: str = field(default="", repr=False)
    outbound: OutboundPolicy = field(default_factory=OutboundPolicy)
    max_tokens: int | None = None
    temperature: float | None = None
    timeout: float = 600.0
    scripts: Path | None = None
    record: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model that is ready to be made.

    Attributes:
        provider: Name of the provider.
        model: Name of the model for that provider.
        access: How the provider is reached.
        fallback: Whether the scripted model answers only because none is configured.
        temperature: What the execution wants; None leaves it to the runner.
        max_tokens: Longest answer that is wanted; None leaves it to the runner.
        retries: How often the provider's package asks again by itself; None leaves it to the package.
    """

    provider: str
    model: str
    access: Access = field(default_factory=Access)
    fallback: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    retries: int | None = None

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"


class ModelCatalog:
    """Chooses models and makes them.

    Args:
        settings: What the runner was started with.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings

    @property
    def recorder(self) -> Recorder | None:
        """What writes down the answers of models, if they are to be."""
        if self._settings.record is None:
            return None
        from agent_runner.models.recorder import Recorder

        return Recorder(self._settings.record)

    def choose_all(
        self, names: Sequence[str], *, environment: Mapping[str, str], temperature: float | None = None
    ) -> tuple[ModelChoice, ...]:
        """The models called `names`, each once, or the runner's own when there are none.

        Raises:
            ModelNotConfiguredError: As `choose`, of any of them.
        """
        chosen = [self.choose(name, environment=environment) for name in names or ("",)]
        return tuple(replace(choice, temperature=temperature) for choice in dict.fromkeys(chosen))

    def choose(self, name: str, *, environment: Mapping[str, str]) -> ModelChoice:
        """The model called `name`, or the runner's when `name` is empty.

        Args:
            name: `provider:model`, or a model of the runner's provider, or empty.
            environment: Clear variables of the execution.

        Raises:
            ModelNotConfiguredError: The model's provider is not known, or its key or model is missing.
        """
        provider, model = self._names(name, environment)
        if not provider:
            return ModelChoice(provider=SCRIPTED, model=PROVIDERS[SCRIPTED].model, fallback=True)
        access = self._reached(provider, environment)
        known = provider_of(provider, access.base_url)
        model = model or known.model
        if not model:
            raise ModelNotConfiguredError(
                f"provider {provider!r} needs a model: "
                f"set STIGMER_LLM_MODEL, or the execution's model_name, to {provider}:NAME"
            )
        if not known.keyless and not access.api_key:
            other = "" if provider in PROVIDERS else f"; {known.base_url} leads to a server of OpenAI's API"
            raise ModelNotConfiguredError(
                f"model {provider}:{model} needs a key: give the run {known.key} (--secret {known.key}), "
                f"or an environment of the agent's instance, or the runner"
                f"{other}"
            )
        return ModelChoice(provider=provider, model=model, access=access)

    async def check(self, choices: Sequence[ModelChoice]) -> None:
        """Refuse addresses of executions' environments where the runner's rules for outbound requests do.

        Raises:
            ModelNotConfiguredError: They do.
        """
        for choice in choices:
            if not choice.access.own:
                continue
            try:
                target = read_target(choice.access.base_url)
                await checked_addresses(self._settings.outbound, target.host, target.port)
            except (RefusedAddressError, TargetError) as error:
                variable = provider_of(choice.provider, choice.access.base_url).base_url
                raise ModelNotConfiguredError(f"model {choice} cannot be asked: {variable}: {error}") from None
            except ResolutionError:
                continue  # it may be known later: the call tells

    def warm(self) -> str:
        """Import what the runner's own model needs, so that the first run need not wait; says which model that is.

        Blocks for as long as the import takes: call it in a thread.

        Raises:
            ConfigurationError: The runner's model cannot be used; an execution may still bring what is missing.
        """
        choice = self.choose("", environment={})
        self.make(choice)
        return f"{choice}, because none is configured" if choice.fallback else str(choice)

    def make(self, choice: ModelChoice, *, agent: str = "") -> BaseChatModel:
        """The chat model of `choice`; `agent` is the name of the sub-agent that it is for.

        Raises:
            ScriptError: The scripted model was chosen and its script is missing or not valid.
            ModelNotConfiguredError: The provider's package is not installed, or refuses the settings.
        """
        if choice.provider == SCRIPTED:
            from agent_runner.models.scripted import ScriptedChatModel

            return ScriptedChatModel(script=load_script(choice.model, folder=self._settings.scripts), agent=agent)
        # Each provider's package costs 0.3 to 1 s to import: only the one that is used is.
        from agent_runner.models.making import made

        return made(choice, self._settings)

    def _names(self, name: str, environment: Mapping[str, str]) -> tuple[str, str]:
        settings = self._settings
        provider, model = split(name or settings.model, environment, settings.environment)
        provider = provider or canonical(settings.provider)
        if not provider:
            # Nothing was chosen: the first provider that has a key, or an address where it needs none.
            provider = next((each for each in PROVIDERS if self._is_given(each, environment)), "")
            if not provider and model:
                raise ModelNotConfiguredError(
                    f"model {model!r} has no provider: write provider:model, or set STIGMER_LLM_PROVIDER"
                )
        return provider, model

    def _is_given(self, provider: str, environment: Mapping[str, str]) -> bool:
        known = PROVIDERS[provider]
        name = known.base_url if known.keyless else known.key
        return bool(environment.get(name) or self._settings.environment.get(name))

    def _reached(self, provider: str, environment: Mapping[str, str]) -> Access:
        given, address = self._access(provider), environment.get(provider_of(provider).base_url, "")
        own = of_environment(provider_of(provider, address), environment)
        if own is None:
            return given
        if not own.base_url and provider not in PROVIDERS:
            return replace(given, api_key=own.api_key)  # there is no address but the runner's
        return own

    def _access(self, provider: str) -> Access:
        """What the runner was started with."""
        settings, known = self._settings, provider_of(provider)
        given = settings.environment
        named = provider in (canonical(settings.provider), split(settings.model, given)[0])
        headers = settings.headers if named else ""
        authority = settings.ca if named else ""
        return Access(
            api_key=(settings.api_key if named else "") or given.get(known.key, ""),
            base_url=(settings.base_url if named else "") or given.get(known.base_url, ""),
            headers=read_headers("STIGMER_LLM_CUSTOM_HEADERS", headers)
            or read_headers(known.headers, given.get(known.headers, "")),
            ca=read_authority("STIGMER_LLM_CA", authority) or read_authority(known.ca, given.get(known.ca, "")),
        )
