"""Making gRPC calls."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf import message_factory
from google.protobuf.message import DecodeError
from stigmer_sandbox import OutboundPolicy
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.grpc.channels import Channels, Place, read_place
from workflow_runner.activities.grpc.description import Description, MethodDescriptor
from workflow_runner.activities.grpc.descriptions import Descriptions
from workflow_runner.activities.grpc.json_mapping import to_json, to_message
from workflow_runner.activities.grpc.statuses import failure
from workflow_runner.activities.resources import Resources
from workflow_runner.call_messages import GrpcArguments

_MOST_MESSAGES = 10_000
_MESSAGES = "messages"

Metadata = list[tuple[str, str]]


class GrpcCalls:
    """Makes gRPC calls through the outbound guard, over channels that are kept."""

    def __init__(
        self,
        calls: Calls,
        policy: OutboundPolicy,
        resources: Resources,
        authentication: Authentication,
        *,
        authorities: Path | None = None,
    ) -> None:
        """Trust the usual certificate authorities, and those of the PEM file `authorities`."""
        self._calls = calls
        self._policy = policy
        self._channels = Channels(policy, authorities=authorities)
        self._authentication = authentication
        self._descriptions = Descriptions(resources)

    async def close(self) -> None:
        """Close the connections."""
        await self._channels.close()

    @activity.defn(name=names.CALL_GRPC)
    async def call(self, call: Any) -> Any:
        """Make the call whose arguments are `GrpcArguments`; the output is the answer, or the array of them."""
        return await self._calls.make(call, self._exchange)

    async def _exchange(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("GrpcArguments", arguments)
        line = f"{given['service']}/{given['method']} at {given['host']}"
        place = read_place(given["host"], given["port"], tls=given["tls"])
        try:
            async with asyncio.timeout(seconds):
                return await self._answered(given, place, line, time.monotonic() + seconds)
        except TimeoutError:
            raise CallFailedError("timeout", f"{line}: no complete answer within {seconds:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise failure(line, error) from None

    async def _answered(self, given: GrpcArguments, place: Place, line: str, until: float) -> Any:
        """Make the call; once more with a new token, where the server refuses the one that it got."""
        metadata = await self._metadata(given, until, refused=False)
        try:
            return await self._once(given, place, metadata, line, until)
        except grpc.aio.AioRpcError as error:
            policy = given["authentication"] or {}
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or not {"oauth2", "oidc"} & set(policy):
                raise
        metadata = await self._metadata(given, until, refused=True)
        return await self._once(given, place, metadata, line, until)

    async def _metadata(self, given: GrpcArguments, until: float, *, refused: bool) -> Metadata:
        left = max(0.0, until - time.monotonic())
        headers = await self._authentication.headers(given["authentication"], refused=refused, seconds=left)
        return [(name.lower(), value) for name, value in headers.items()]

    async def _once(self, given: GrpcArguments, place: Place, metadata: Metadata, line: str, until: float) -> Any:
        async with self._channels.channel(place) as channel:
            description = await self._description(given, place, channel, metadata, until)
            method = description.method(given["service"], given["method"])
            requests = _requests(method, given.get("arguments"), description)
            answers = _Answers(method, description, self._policy.max_response_bytes, line)
            return await answers.get(channel, requests, metadata, max(0.0, until - time.monotonic()))

    async def _description(
        self, given: GrpcArguments, place: Place, channel: grpc.aio.Channel, metadata: Metadata, until: float
    ) -> Description:
        left = max(0.0, until - time.monotonic())
        if given["proto"] is not None:
            return await self._descriptions.of_proto(given["proto"], seconds=left)
        return await self._descriptions.of_server(channel, place, given["service"], metadata=metadata, seconds=left)


def _requests(method: MethodDescriptor, arguments: Any, description: Description) -> list[bytes]:
    """Return the messages to send: one, or for a method that takes a stream the items of a list."""
    kind: Any = message_factory.GetMessageClass(method.input_type)
    if not method.client_streaming:
        message = to_message(kind, {} if arguments is None else arguments, description.pool, what="`arguments`")
        return [message.SerializeToString()]
    items = _items(arguments, method)
    named = ((f"message {index} of `arguments`", item) for index, item in enumerate(items))
    return [to_message(kind, item, description.pool, what=what).SerializeToString() for what, item in named]


def _items(arguments: Any, method: MethodDescriptor) -> Sequence[Any]:
    if arguments is None:
        return ()
    if isinstance(arguments, dict) and _MESSAGES not in method.input_type.fields_by_name:
        members = cast("dict[str, Any]", arguments)
        if members.keys() == {_MESSAGES}:
            arguments = members[_MESSAGES]
    return cast("list[Any]", arguments) if isinstance(arguments, list) else [cast("Any", arguments)]


class _Answers:
    """What a method answers, read within bounds."""

    def __init__(self, method: MethodDescriptor, description: Description, most_bytes: int, line: str) -> None:
        self._method = method
        self._pool = description.pool
        self._kind: Any = message_factory.GetMessageClass(method.output_type)
        self._most_bytes = most_bytes
        self._line = line

    async def get(self, channel: grpc.aio.Channel, requests: list[bytes], metadata: Metadata, seconds: float) -> Any:
        """Send the requests and return the answer, or the array of all."""
        path = f"/{self._method.containing_service.full_name}/{self._method.name}"
        streams: tuple[bool, bool] = (self._method.client_streaming, self._method.server_streaming)
        make: Any = {
            (False, False): channel.unary_unary,
            (True, False): channel.stream_unary,
            (False, True): channel.unary_stream,
            (True, True): channel.stream_stream,
        }[streams]
        # Without serializers gRPC gives and takes bytes.
        call = make(path)(requests if streams[0] else requests[0], timeout=seconds, metadata=metadata)
        try:
            return await self._all(call) if streams[1] else self._read(await call)
        finally:
            call.cancel()

    async def _all(self, call: Any) -> list[Any]:
        found: list[Any] = []
        size = 0
        async for answer in call:
            size += len(answer)
            if len(found) >= _MOST_MESSAGES or size > self._most_bytes:
                bounds = f"{_MOST_MESSAGES} messages or {self._most_bytes} bytes"
                raise CallFailedError("communication", f"{self._line}: the stream is longer than {bounds}")
            found.append(self._read(answer))
        return found

    def _read(self, answer: bytes) -> Any:
        try:
            message = self._kind.FromString(answer)
        except DecodeError as error:
            name = self._method.output_type.full_name
            raise CallFailedError(
                "communication", f"{self._line}: the answer is no {name}: {error}", status=502
            ) from None
        return to_json(message, self._pool)
