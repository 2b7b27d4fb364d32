"""Google's Gemini API: contents with parts, and a stream of whole responses, each with a part more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from agent_runner.loopback.server import ModelServer, Reply, text_of, tool_calls, usage, words

_ERRORS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
_ROLES = {"model": "assistant", "function": "tool"}


class GoogleServer(ModelServer):
    """A loopback server of Google's Gemini API."""

    def read(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> dict[str, Any]:
        """See `ModelServer`."""
        messages = [_message(each) for each in body.get("contents", ())]
        return {**body, "messages": messages, "stream": ":streamGenerateContent" in handler.path}

    def key(self, headers: Any) -> str:
        """See `ModelServer`."""
        return str(headers.get("x-goog-api-key", ""))

    def system(self, body: Mapping[str, Any]) -> str:
        """See `ModelServer`."""
        return text_of(body.get("systemInstruction", {}).get("parts", []))

    def error(self, reply: Reply) -> Any:
        """See `ModelServer`."""
        status = reply["status"]
        told = {"code": status, "message": reply.get("message", "no"), "status": _ERRORS.get(status, "UNAVAILABLE")}
        return {"error": {**told, "details": list(reply.get("details", ()))}}

    def document(self, reply: Reply, number: int) -> Any:
        """See `ModelServer`."""
        parts = [{"text": reply["text"]}] if reply.get("text") else []
        return _response([*parts, *_calls(reply, number)], reply)

    def parts(self, reply: Reply, number: int) -> Iterator[bytes]:
        """See `ModelServer`."""
        for word in words(reply):
            yield _event(_response([{"text": word}]))
        yield _event(_response(_calls(reply, number), reply))


def _message(content: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, in the form in which the others have it."""
    parts: list[Any] = content["parts"]
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    if results:
        return {"role": "tool", "content": json.dumps([each["response"] for each in results])}
    role = content.get("role", "user")
    return {"role": _ROLES.get(role, role), "content": "".join(part.get("text", "") for part in parts)}


def _calls(reply: Reply, number: int) -> list[dict[str, Any]]:
    return [
        {"functionCall": {"id": f"call_{number}_{index}", "name": name, "args": args}}
        for index, (name, args) in enumerate(tool_calls(reply))
    ]


def _response(parts: list[dict[str, Any]], reply: Reply | None = None) -> dict[str, Any]:
    """A part of an answer; with the reply itself, the last one."""
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if reply is None:
        return {"candidates": [candidate]}
    read, written = usage(reply)
    used = {"promptTokenCount": read, "candidatesTokenCount": written, "totalTokenCount": read + written}
    return {"candidates": [{**candidate, "finishReason": "STOP"}], "usageMetadata": used}


def _event(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\r\n\r\n".encode()
