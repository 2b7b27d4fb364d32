"""Ollama's chat, whose stream is one JSON document a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent_runner.loopback.server import ModelServer, Reply, tool_calls, usage, words


class OllamaServer(ModelServer):
    """A loopback server of Ollama's chat."""

    stream_type = "application/x-ndjson"

    def is_streamed(self, body: Mapping[str, Any]) -> bool:
        """See `ModelServer`."""
        return bool(body.get("stream", True))

    def error(self, reply: Reply) -> Any:
        """See `ModelServer`."""
        return {"error": reply.get("message", "no")}

    def document(self, reply: Reply, number: int) -> Any:
        """See `ModelServer`."""
        return _part(reply.get("text", ""), calls=_calls(reply), reply=reply)

    def parts(self, reply: Reply, number: int) -> Iterator[bytes]:
        """See `ModelServer`."""
        for word in words(reply):
            yield _line(_part(word))
        if calls := _calls(reply):
            yield _line(_part("", calls=calls))
        yield _line(_part("", reply=reply))


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [{"function": {"name": name, "arguments": args}} for name, args in tool_calls(reply)]


def _part(text: str, *, calls: list[dict[str, Any]] | None = None, reply: Reply | None = None) -> dict[str, Any]:
    """A part of an answer; with the reply itself, the last one."""
    message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    part = {"model": "test", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": reply is not None}
    if reply is not None:
        read, written = usage(reply)
        part |= {"done_reason": "stop", "prompt_eval_count": read, "eval_count": written}
    return part


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
