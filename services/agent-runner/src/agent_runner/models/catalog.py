"""Which model answers, and with which key: `provider:model` in, a chat model of LangChain out.

The model's name comes from the execution, else from the runner; keys come from the execution's environment, else from
the runner. A base URL of the environment is used with a key of the environment only: otherwise whoever declares an
environment could have the operator's key sent anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_runner.errors import ModelNotConfiguredError
from agent_runner.models.script import load_script

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agent_runner.models.recorder import Recorder

SCRIPTED = "scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What the runner must know of a provider that LangChain does not tell in the same words for all.

    Attributes:
        key: Variable that holds the key; empty when the provider needs none.
        base_url: Variable that holds the address; empty when it cannot be changed.
        model: What to ask for when no model was named; empty when one must be.
        options: Arguments that every model of this provider gets.
        end: Key of an answer's metadata that says why it ended; empty when its answers do not tell.
        walks: Whether its package walks through all that was said before it sends a request.
    """

    key: str = ""
    base_url: str = ""
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    end: str = ""
    walks: bool = False


PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(
        key="ANTHROPIC_API_KEY", base_url="ANTHROPIC_BASE_URL", model="claude-sonnet-4-6", end="stop_reason"
    ),
    # Chat completions, because every server that calls itself compatible speaks them; usage only comes when asked for.
    "openai": Provider(
        key="OPENAI_API_KEY",
        base_url="OPENAI_BASE_URL",
        options={"use_responses_api": False, "stream_usage": True},
        end="finish_reason",
        walks=True,
    ),
    "google_genai": Provider(key="GOOGLE_API_KEY"),
    "ollama": Provider(base_url="OLLAMA_BASE_URL", model="qwen2.5-coder:7b", end="done_reason"),
    SCRIPTED: Provider(model="default"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The runner's side of the choice.

    Attributes:
        provider: Name of the provider, or empty to choose by what is configured.
        model: Name of the model, alone or as `provider:model`; empty is the provider's default.
        api_key: Key for `provider`, whichever it is.
        base_url: Address for `provider`, whichever it is.
        max_tokens: Longest answer; None leaves it to the provider.
        temperature: None leaves it to the provider.
        timeout: Seconds for one call of a model.
        scripts: Folder of scripts, if there is one.
        record: Folder where answers are written down as scripts, if they are to be.
        environment: Variables of the runner, where providers' keys are looked up.
    """

    provider: str = ""
    model: str = ""
    api_key: str = field(default="", repr=False)
    base_url: str = ""
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
        api_key: The key, if there is one.
        base_url: The address, if it is not the provider's own.
        fallback: Whether the scripted model answers only because none is configured.
        temperature: What the execution wants; None leaves it to the runner.
        max_tokens: Longest answer that is wanted; None leaves it to the runner.
        retries: How often the provider's package asks again by itself; None leaves it to the package.
    """

    provider: str
    model: str
    api_key: str = field(default="", repr=False)
    base_url: str = ""
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
        known = PROVIDERS.get(provider, Provider(key=f"{provider.upper()}_API_KEY"))
        model = model or known.model
        if not model:
            raise ModelNotConfiguredError(
                f"provider {provider!r} needs a model: "
                f"set STIGMER_LLM_MODEL, or the execution's model_name, to {provider}:NAME"
            )
        api_key, base_url = self._access(provider, known, environment)
        if known.key and not api_key:
            raise ModelNotConfiguredError(
                f"model {provider}:{model} needs a key: set {known.key} in the agent's environment or for the runner"
            )
        return ModelChoice(provider=provider, model=model, api_key=api_key, base_url=base_url)

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
        from langchain.chat_models import init_chat_model

        from agent_runner.models.bodies import unwalked
        from agent_runner.models.whole import whole

        try:
            make: Any = init_chat_model  # its type names classes of packages that are not installed
            made = make(choice.model, model_provider=choice.provider, **self._options(choice))
        except ImportError as error:
            raise ModelNotConfiguredError(
                f"provider {choice.provider!r} needs a package that is not installed: {error}"
            ) from None
        except ValueError as error:
            raise ModelNotConfiguredError(f"model {choice} cannot be used: {' '.join(str(error).split())}") from None
        known = PROVIDERS.get(choice.provider, Provider())
        made = unwalked(made) if known.walks else made
        return whole(made, name=str(choice), seconds=self._settings.timeout, end=known.end)

    def _names(self, name: str, environment: Mapping[str, str]) -> tuple[str, str]:
        provider, model = _split(name or self._settings.model)
        provider = provider or self._settings.provider
        if not provider:
            # Nothing was chosen: the first provider that has a key, and none without.
            provider = next(
                (each for each in ("anthropic", "openai") if self._variable(PROVIDERS[each].key, environment)), ""
            )
            if not provider and self._variable("OLLAMA_BASE_URL", environment):
                provider = "ollama"
            if not provider and model:
                raise ModelNotConfiguredError(
                    f"model {model!r} has no provider: write provider:{model}, or set STIGMER_LLM_PROVIDER"
                )
        return provider, model

    def _access(self, provider: str, known: Provider, environment: Mapping[str, str]) -> tuple[str, str]:
        settings = self._settings
        own_key, own_url = environment.get(known.key, ""), environment.get(known.base_url, "")
        if own_key or (own_url and not known.key):
            return own_key, own_url
        named = provider == settings.provider or provider == _split(settings.model)[0]
        key = (settings.api_key if named else "") or settings.environment.get(known.key, "")
        url = (settings.base_url if named else "") or settings.environment.get(known.base_url, "")
        return key, url

    def _variable(self, name: str, environment: Mapping[str, str]) -> str:
        return environment.get(name, "") or self._settings.environment.get(name, "")

    def _options(self, choice: ModelChoice) -> dict[str, Any]:
        settings, known = self._settings, PROVIDERS.get(choice.provider, Provider())
        options: dict[str, Any] = dict(known.options)
        if choice.api_key:
            options["api_key"] = choice.api_key
        if choice.base_url:
            options["base_url"] = choice.base_url
        temperature = settings.temperature if choice.temperature is None else choice.temperature
        if temperature is not None:
            options["temperature"] = temperature
        max_tokens = settings.max_tokens if choice.max_tokens is None else choice.max_tokens
        if max_tokens is not None:
            options["num_predict" if choice.provider == "ollama" else "max_tokens"] = max_tokens
        if choice.retries is not None and choice.provider != "ollama":  # which never asks again
            options["max_retries"] = choice.retries
        if choice.provider == "ollama":
            options["client_kwargs"] = {"timeout": settings.timeout}
        else:
            options["timeout"] = settings.timeout
        return options


def _split(name: str) -> tuple[str, str]:
    """`provider:model` as its parts; a name of Ollama's (`qwen2.5-coder:7b`) has a colon too and no provider."""
    provider, colon, model = name.partition(":")
    return (provider, model) if colon and provider in PROVIDERS else ("", name)
