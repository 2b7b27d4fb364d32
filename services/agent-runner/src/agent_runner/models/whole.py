"""Answers that are whole: streams that end in time and at their end, and tool calls whose arguments are JSON.

LangChain makes the best of what came: of a stream that broke off it takes the half that is there as the answer, and of
arguments that are no JSON the longest beginning that is. An agent would act on both.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGenerationChunk

from agent_runner.errors import ModelCallError

_NOT_JSON = "not_json"
"""The one argument of a call whose arguments are none: the text that came in their place."""


def not_json(args: Mapping[str, Any]) -> str | None:
    """What a model sent as a tool's arguments when it is no JSON; None when they are as they should be."""
    return str(args[_NOT_JSON]) if set(args) == {_NOT_JSON} else None


def whole(model: BaseChatModel, *, name: str, seconds: float, end: str) -> BaseChatModel:
    """The model, whose streamed answers are whole.

    Args:
        model: A model of a provider's package; its class is replaced by one that is derived from it.
        name: What errors call it.
        seconds: How long an answer may take, from its request to its last word.
        end: Key of an answer's metadata that says why it ended; an answer without is half of one. Empty: not known.
    """
    model.__class__ = _derived(type(model), name, seconds, end)
    return model


@functools.cache
def _derived(kind: type[BaseChatModel], name: str, seconds: float, end: str) -> type[BaseChatModel]:
    made: Any = kind  # pyright cannot derive from a class that it does not know

    class Whole(made):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            calls: list[AIMessageChunk] = []
            ended = not end
            async with aclosing(_stream(super(), *args, **kwargs)) as stream:
                async for chunk in _in_time(stream, name, seconds):
                    message = cast("AIMessageChunk", chunk.message)
                    ended = ended or bool({**message.response_metadata, **(chunk.generation_info or {})}.get(end))
                    if message.tool_call_chunks:
                        calls.append(AIMessageChunk(content="", tool_call_chunks=message.tool_call_chunks))
                        chunk.message = message.model_copy(update=_NO_CALLS)
                    yield chunk
            if not ended:
                raise ModelCallError(
                    f"the model {name} broke off in the middle of its answer", detail="", transient=True
                )
            if calls:
                yield ChatGenerationChunk(message=_whole_calls(calls))

    Whole.__name__ = Whole.__qualname__ = kind.__name__
    return cast("type[BaseChatModel]", Whole)


def _stream(model: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[ChatGenerationChunk]:
    return model._astream(*args, **kwargs)  # noqa: SLF001 - LangChain's hook, which is overridden here


_NO_CALLS: dict[str, Any] = {"tool_call_chunks": [], "tool_calls": [], "invalid_tool_calls": []}


async def _in_time(
    stream: AsyncGenerator[ChatGenerationChunk], name: str, seconds: float
) -> AsyncIterator[ChatGenerationChunk]:
    """The stream, as long as it ends in time: also one that is kept alive with nothing in it, or repeated inside."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise _failed(f"the model {name} did not end its answer within {seconds:g} s") from None
        if chunk is None:
            return
        yield chunk


def _failed(summary: str) -> ModelCallError:
    return ModelCallError(summary, detail="", transient=True)


def _whole_calls(parts: list[AIMessageChunk]) -> AIMessageChunk:
    """All tool calls of an answer at once, those with broken arguments marked as such."""
    chunks = add_ai_message_chunks(*parts).tool_call_chunks
    for chunk in chunks:
        chunk["args"] = _arguments(chunk["args"] or "")
    return AIMessageChunk(content="", tool_call_chunks=chunks)


def _arguments(text: str) -> str:
    """Arguments as they came when they are a JSON object or nothing, else an object that holds them."""
    try:
        fits = not text.strip() or isinstance(json.loads(text), dict)
    except ValueError:
        fits = False
    return text if fits else json.dumps({_NOT_JSON: text})
