"""Requests to OpenAI's API, with their messages put into the body as they are.

The package of the provider walks through every value of a request, to rename what it calls otherwise. In messages there
is no such thing; with a thousand of them the walk takes half a second, in which the event loop stands still.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from langchain_core.language_models import BaseChatModel

_MESSAGES, _BODY = "messages", "extra_body"


def unwalked(model: BaseChatModel) -> BaseChatModel:
    """The model, a `ChatOpenAI`, whose requests are the same, and made at once."""
    model.__class__ = _derived(type(model))
    return model


@functools.cache
def _derived(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    known: Any = kind  # pyright cannot derive from a class that it does not know

    class Unwalked(known):
        def _get_request_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            made: Any = super()
            return _moved(made._get_request_payload(*args, **kwargs))  # noqa: SLF001 - LangChain's hook

    Unwalked.__name__ = Unwalked.__qualname__ = kind.__name__
    return cast("type[BaseChatModel]", Unwalked)


def _moved(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload of a request, with its messages where they are taken as they are; the Responses API has none."""
    if _MESSAGES not in payload:
        return payload
    return {**payload, _MESSAGES: [], _BODY: {**(payload.get(_BODY) or {}), _MESSAGES: payload[_MESSAGES]}}
