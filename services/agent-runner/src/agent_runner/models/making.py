"""Making chat models: what each provider's package calls what all of them can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain.chat_models import init_chat_model

from agent_runner.errors import ModelNotConfiguredError
from agent_runner.models.access import trusting
from agent_runner.models.bodies import unwalked
from agent_runner.models.providers import Provider, provider_of
from agent_runner.models.whole import whole

if TYPE_CHECKING:
    import ssl

    from langchain_core.language_models import BaseChatModel

    from agent_runner.models.catalog import ModelChoice, ModelSettings


def made(choice: ModelChoice, settings: ModelSettings) -> BaseChatModel:
    """The chat model of `choice`, which is none of the scripted one.

    Raises:
        ModelNotConfiguredError: The provider's package is not installed, or refuses the settings.
    """
    known = provider_of(choice.provider, choice.access.base_url)
    trust = _trust(known, choice, settings)
    try:
        make: Any = init_chat_model  # its type names classes of packages that are not installed
        options = {**_options(known, choice, settings), **_transport(known, choice, settings, trust)}
        model = make(choice.model, model_provider=known.package, **options)
    except ImportError as error:
        raise ModelNotConfiguredError(
            f"provider {choice.provider!r} needs a package that is not installed: {error}"
        ) from None
    except ValueError as error:
        raise ModelNotConfiguredError(f"model {choice} cannot be used: {' '.join(str(error).split())}") from None
    if trust is not None and known.package == "anthropic":
        _trust_of_anthropic(model, trust)
    model = unwalked(model) if known.walks else model
    return whole(model, name=str(choice), seconds=settings.timeout, end=known.end)


def _options(known: Provider, choice: ModelChoice, settings: ModelSettings) -> dict[str, Any]:
    """What is said to the model."""
    options: dict[str, Any] = dict(known.options)
    temperature = settings.temperature if choice.temperature is None else choice.temperature
    if temperature is not None:
        options["temperature"] = temperature
    max_tokens = settings.max_tokens if choice.max_tokens is None else choice.max_tokens
    if max_tokens is not None:
        options["num_predict" if known.package == "ollama" else "max_tokens"] = max_tokens
    if choice.retries is not None and known.package != "ollama":  # which never asks again
        options["max_retries"] = choice.retries or known.once
    return options


def _transport(
    known: Provider, choice: ModelChoice, settings: ModelSettings, trust: ssl.SSLContext | None
) -> dict[str, Any]:
    """How the provider is reached, in the words of its package."""
    access, headers = choice.access, dict(choice.access.headers)
    options: dict[str, Any] = {}
    if access.base_url or known.address:
        options["base_url"] = access.base_url or known.address
    if known.package == "ollama":
        if access.api_key:
            headers.setdefault("Authorization", f"Bearer {access.api_key}")
        client = {"timeout": settings.timeout, "headers": headers, **({} if trust is None else {"verify": trust})}
        return {**options, "client_kwargs": client}
    options["timeout"] = settings.timeout
    # A server that needs no key gets one all the same: its package asks for it.
    options["api_key"] = access.api_key or "none"
    if headers:
        options["additional_headers" if known.package == "google_genai" else "default_headers"] = headers
    if trust is not None and known.package == "google_genai":
        options["client_args"] = {"verify": trust}
    if trust is not None and known.package == "openai":
        from openai import DefaultAsyncHttpxClient

        options["http_async_client"] = DefaultAsyncHttpxClient(verify=trust)
    return options


def _trust(known: Provider, choice: ModelChoice, settings: ModelSettings) -> ssl.SSLContext | None:
    """What the connection trusts; None leaves it to the provider's package."""
    if not (choice.access.ca or settings.authorities):
        return None
    return trusting(known.ca if choice.access.ca else "STIGMER_OUTBOUND_CA", choice.access.ca, settings.authorities)


def _trust_of_anthropic(model: Any, trust: ssl.SSLContext) -> None:
    """Give a model the client that its package would make, which takes no such thing."""
    from anthropic import AsyncClient, DefaultAsyncHttpxClient

    params: dict[str, Any] = model._client_params  # noqa: SLF001 - the package has no other way
    model.__dict__["_async_client"] = AsyncClient(**params, http_client=DefaultAsyncHttpxClient(verify=trust))
