"""Anthropic's messages, with the events of a stream in the order in which its package wants them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent_runner.loopback.server import ModelServer, Reply, arguments, text_of, tool_calls, usage, words

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_PIECE = 12
"""Characters of a tool's arguments that come at once."""


class AnthropicServer(ModelServer):
    """A loopback server of Anthropic's messages."""

    def system(self, body: Mapping[str, Any]) -> str:
        """See `ModelServer`."""
        return text_of(body.get("system", ""))

    def error(self, reply: Reply) -> Any:
        """See `ModelServer`."""
        kind = _ERRORS.get(reply["status"], "api_error")
        return {"type": "error", "error": {"type": kind, "message": reply.get("message", "no")}}

    def document(self, reply: Reply, number: int) -> Any:
        """See `ModelServer`."""
        content: list[Any] = [{"type": "text", "text": reply["text"]}] if reply.get("text") else []
        content += [{**call, "input": json.loads(given)} for call, given in _calls(reply, number)]
        read, written = usage(reply)
        return {
            **_head(number),
            "content": content,
            "stop_reason": _stop_reason(reply),
            "usage": {"input_tokens": read, "output_tokens": written},
        }

    def parts(self, reply: Reply, number: int) -> Iterator[bytes]:
        """See `ModelServer`."""
        read, written = usage(reply)
        begun: dict[str, Any] = {**_head(number), "content": [], "stop_reason": None}
        begun["usage"] = {"input_tokens": read, "output_tokens": 0}
        yield _event("message_start", message=begun)
        yield _event("ping")
        index = 0
        if reply.get("text"):
            deltas = [{"type": "text_delta", "text": word} for word in words(reply)]
            yield from _block(index, {"type": "text", "text": ""}, deltas)
            index += 1
        for call, given in _calls(reply, number):
            pieces = [given[at : at + _PIECE] for at in range(0, len(given), _PIECE)]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            yield from _block(index, {**call, "input": {}}, deltas)
            index += 1
        stopped = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        yield _event("message_delta", delta=stopped, usage={"input_tokens": read, "output_tokens": written})
        yield _event("message_stop")


def _block(index: int, block: Mapping[str, Any], deltas: list[dict[str, Any]]) -> Iterator[bytes]:
    yield _event("content_block_start", index=index, content_block=block)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _calls(reply: Reply, number: int) -> list[tuple[dict[str, Any], str]]:
    return [
        ({"type": "tool_use", "id": f"toolu_{number}_{index}", "name": name}, arguments(args))
        for index, (name, args) in enumerate(tool_calls(reply))
    ]


def _stop_reason(reply: Reply) -> str:
    return "tool_use" if tool_calls(reply) else "end_turn"


def _head(number: int) -> dict[str, Any]:
    return {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "test", "stop_sequence": None}


def _event(kind: str, **values: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **values})}\n\n".encode()
