"""OpenAI's chat completions, as its package and everything compatible with it read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agent_runner.loopback.server import ModelServer, Reply, arguments, tool_calls, usage, words


class OpenAIServer(ModelServer):
    """A loopback server of OpenAI's chat completions."""

    base_path = "/v1"

    def error(self, reply: Reply) -> Any:
        """See `ModelServer`."""
        return {"error": {"message": reply.get("message", "no"), "type": "test"}}

    def document(self, reply: Reply, number: int) -> Any:
        """See `ModelServer`."""
        calls = _calls(reply)
        message = {"role": "assistant", "content": reply.get("text", ""), **({"tool_calls": calls} if calls else {})}
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 0,
            "model": "test",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
            "usage": _usage(reply),
        }

    def parts(self, reply: Reply, number: int) -> Iterator[bytes]:
        """See `ModelServer`."""
        calls = _calls(reply)
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in words(reply)]
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(calls)]
        head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 0, "model": "test"}
        for delta in deltas:
            yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        end: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
        yield _event({**head, "choices": [end]})
        yield _event({**head, "choices": [], "usage": _usage(reply)})
        yield b"data: [DONE]\n\n"


def _calls(reply: Reply) -> list[dict[str, Any]]:
    # Ids that repeat in every answer, as some servers of this API give them.
    return [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments(args)}}
        for index, (name, args) in enumerate(tool_calls(reply))
    ]


def _usage(reply: Reply) -> dict[str, int]:
    read, written = usage(reply)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
