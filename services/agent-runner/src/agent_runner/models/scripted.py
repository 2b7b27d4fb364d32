"""The scripted model: a chat model of LangChain that says what a script says.

It keeps no position of its own: the place in the script is read off the conversation that it is given, so a run that
is resumed in another process goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from agent_runner.errors import ScriptError
from agent_runner.models.marks import SENT, begins_turn, is_marked
from agent_runner.models.recorder import since, since_said
from agent_runner.models.script import Script, ScriptedTurn

_STATUS_CODES = {"rate_limit": 429, "overloaded": 529, "unavailable": 503, "bad_request": 400, "unauthorized": 401}


class ScriptedProviderError(Exception):
    """An error that the script asks for, shaped like those of real providers.

    Attributes:
        status_code: What a provider over HTTP would have answered.
    """

    def __init__(self, message: str, *, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class ScriptedChatModel(BaseChatModel):
    """Answers from a script.

    Attributes:
        script: What to say.
        agent: For which agent of the script; empty is the main one.
    """

    script: Script
    agent: str = ""

    @property
    def _llm_type(self) -> str:
        return "stigmer-scripted"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model itself: a script names the tools that it wants."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("the scripted model is asynchronous: use ainvoke or astream")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        turn = await self._next(messages)
        calls = [tool_call(name=call.name, args=dict(call.args), id=_call_id()) for call in turn.tool_calls]
        message = AIMessage(content=turn.text, tool_calls=calls, usage_metadata=_used(turn))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        turn = await self._next(messages)
        for number, word in enumerate(re.findall(r"\s*\S+\s*$|\s*\S+", turn.text)):
            if number and turn.pace:
                await asyncio.sleep(turn.pace)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word))
            if run_manager is not None:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk
        calls = [
            tool_call_chunk(name=call.name, args=json.dumps(call.args), id=_call_id(), index=index)
            for index, call in enumerate(turn.tool_calls)
        ]
        last = AIMessageChunk(content="", tool_call_chunks=calls, usage_metadata=_used(turn), chunk_position="last")
        yield ChatGenerationChunk(message=last)

    async def _next(self, messages: list[BaseMessage]) -> ScriptedTurn:
        said, after = since_said(messages)
        try:
            turn = self._turn(said, after)
        except ScriptError:
            # The script is at its end. What was said to the running agent is answered as if it had begun a turn.
            said, after = since(messages, lambda each: begins_turn(each) or is_marked(each, SENT))
            turn = self._turn(said, after)
        results = [message.text for message in after if isinstance(message, ToolMessage)]
        await asyncio.sleep(turn.delay)
        if turn.error is not None:
            raise ScriptedProviderError(turn.error.message, status_code=_STATUS_CODES[turn.error.kind])
        return turn.filled({"message": said, "result": results[-1] if results else ""})

    def _turn(self, said: str, after: Sequence[BaseMessage]) -> ScriptedTurn:
        position = sum(isinstance(message, AIMessage) for message in after)
        return self.script.turn(agent=self.agent, message=said, position=position)


def _used(turn: ScriptedTurn) -> UsageMetadata | None:
    if turn.usage is None:
        return None
    read, written = turn.usage.input, turn.usage.output
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex}"
