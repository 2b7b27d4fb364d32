"""Calling agents that speak Agent2Agent: JSON-RPC over HTTP, and server-sent events for what streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import httpx2
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.requests import Requests, described, expand, same_origin
from workflow_runner.activities.resources import Resources
from workflow_runner.activities.responses import refusal
from workflow_runner.call_messages import A2aArguments, EndpointArguments

_CARD = "/.well-known/agent-card.json"
_STREAMS = frozenset({"message/stream", "tasks/resubscribe"})
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_EVENTS = {**_JSON, "Accept": "text/event-stream, application/json"}
_ID = "1"
"""One request goes over a connection, so every one may have the same id."""


class A2aCalls:
    """Calls agents."""

    def __init__(self, calls: Calls, requests: Requests, resources: Resources, authentication: Authentication) -> None:
        self._calls = calls
        self._requests = requests
        self._resources = resources
        self._authentication = authentication

    @activity.defn(name=names.CALL_A2A)
    async def call(self, call: Any) -> Any:
        """Make the call whose arguments are `A2aArguments`; the output is the result, or an array of what streamed."""
        return await self._calls.make(call, self._exchange)

    async def _exchange(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        a2a = cast("A2aArguments", arguments)
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(a2a, seconds)
        except TimeoutError:
            raise CallFailedError("timeout", f"the agent gave no complete answer within {seconds:g} s") from None

    async def _ask(self, a2a: A2aArguments, seconds: float) -> Any:
        endpoint = a2a["endpoint"]
        url = await self._address(endpoint, seconds, is_card=a2a["is_card"])
        # A card that somebody else wrote must not choose where credentials go.
        policy = endpoint["authentication"] if same_origin(url, expand(endpoint)) else None
        auth = self._authentication.auth(policy)
        body = {"jsonrpc": "2.0", "id": _ID, "method": a2a["method"], "params": a2a["parameters"]}
        content = json.dumps(body).encode()
        if a2a["method"] in _STREAMS:
            return [event async for event in self._stream(url, content, auth)]
        answer = await self._requests.send("POST", url, seconds=seconds, headers=_JSON, content=content, auth=auth)
        line = described("POST", url)
        found = _parsed(answer.body)
        if answer.status >= 300 and "error" not in found:
            raise refusal(line, answer)
        return _result(found, line)

    async def _address(self, endpoint: EndpointArguments, seconds: float, *, is_card: bool) -> str:
        """Return where the agent takes JSON-RPC."""
        if is_card:
            card = await self._resources.fetch(endpoint, seconds=seconds, what="the agent's card")
            return _rpc_address(_parsed(card.content), expand(endpoint))
        root = expand(endpoint)
        at: EndpointArguments = {**endpoint, "uri": root.rstrip("/") + _CARD, "template": None}
        try:
            card = await self._resources.fetch(at, seconds=seconds, what="the agent's card")
        except CallFailedError as failure:
            if failure.error.status in (404, 405):
                return root  # it tells nobody who it is, and may be asked all the same
            raise
        return _rpc_address(_parsed(card.content), at["uri"])

    async def _stream(self, url: str, content: bytes, auth: httpx2.Auth | None) -> AsyncIterator[Any]:
        """Yield the results that an agent sends, until it says that one is the last."""
        line = described("POST", url)
        async with self._requests.stream("POST", url, headers=_EVENTS, content=content, auth=auth) as answer:
            kind = dict(answer.headers).get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                found = _parsed(b"".join([part async for part in answer.body]))
                if answer.status >= 300 and "error" not in found:
                    raise CallFailedError("communication", f"{line} answered {answer.status}", status=answer.status)
                yield _result(found, line)
                return
            async for data in _events(answer.body):
                result = _result(_parsed(data), line)
                yield result
                if isinstance(result, dict) and cast("dict[str, Any]", result).get("final") is True:
                    return


async def _events(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events."""
    waiting, data = b"", list[bytes]()
    async for part in parts:
        *lines, waiting = (waiting + part).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data.clear()


def _rpc_address(card: Mapping[str, Any], where: str) -> str:
    """Return the address at which a card says that JSON-RPC is spoken."""
    listed = [
        *([{"url": card.get("url"), "transport": card.get("preferredTransport", "JSONRPC")}] if "url" in card else []),
        *cast("list[Any]", card.get("additionalInterfaces") or []),
        *cast("list[Any]", card.get("supportedInterfaces") or []),
    ]
    for one in listed:
        if isinstance(one, dict):
            offered = cast("dict[str, Any]", one)
            if str(offered.get("transport") or offered.get("protocolBinding")).upper() == "JSONRPC":
                return str(offered.get("url"))
    raise CallFailedError("configuration", f"the agent's card at {where} names no address for JSON-RPC")


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _result(message: Mapping[str, Any], line: str) -> Any:
    error: Any = message.get("error")
    if isinstance(error, dict):
        told = cast("dict[str, Any]", error)
        data = f"; {json.dumps(told['data'], ensure_ascii=False)}" if told.get("data") else ""
        said = f"the agent answered with error {told.get('code')}: {told.get('message')}{data}"
        raise CallFailedError("runtime", said)
    if "result" not in message:
        raise CallFailedError("communication", f"{line}: the agent's answer is no JSON-RPC")
    return message["result"]
