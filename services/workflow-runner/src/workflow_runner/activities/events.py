"""Publishing events, and looking for those that a run listens for, at the server's event service."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, cast

from google.protobuf.json_format import ParseError
from stigmer_dsl.secrets import find_secrets
from stigmer_grpc.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RpcError,
    UnimplementedError,
)
from stigmer_protos import descriptors
from stigmer_runner import Environments, StigmerServer, fill_value, is_too_deep
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.call_messages import EmitArguments, ReceiveArguments, Received
from workflow_runner.messages import Call

_PACKAGE = "ai.stigmer.events.v1"
_PUBLISHER = f"{_PACKAGE}.EventController"
_LISTENERS = f"{_PACKAGE}.EventListenerController"
_FIELDS = {
    "id": "id",
    "source": "source",
    "specversion": "spec_version",
    "type": "type",
    "subject": "subject",
    "datacontenttype": "data_content_type",
    "dataschema": "data_schema",
}
_REFUSALS: Mapping[type[RpcError], str] = {
    InvalidArgumentError: "validation",
    PermissionDeniedError: "authorization",
    NotFoundError: "configuration",
    FailedPreconditionError: "configuration",
    UnimplementedError: "configuration",
}
"""What the server says for good, and which standard error that is. Anything else may be otherwise the next time."""

Message = Any


class Events:
    """The event service, for the tasks that emit and listen."""

    def __init__(self, server: StigmerServer, calls: Calls, environments: Environments) -> None:
        self._server = server
        self._calls = calls
        self._environments = environments

    @activity.defn(name=names.EMIT)
    async def emit(self, call: Any) -> Any:
        """Publish the event of `EmitArguments`, once however often this is repeated; the output is the event."""

        async def publish(arguments: Mapping[str, Any], _: float) -> Any:
            await self._refuse_secrets(call)
            given = cast("EmitArguments", arguments)
            request: Message = descriptors.message_type(f"{_PACKAGE}.PublishEventsRequest")(org=given["org"])
            _fill(request.events.add(), given["event"])
            await self._ask(_PUBLISHER, "publish", request)
            return given["event"]

        return await self._calls.make(call, publish)

    @activity.defn(name=names.RECEIVE_EVENTS)
    async def receive(self, call: Any) -> Any:
        """Look for the events of `ReceiveArguments`; the output is a `Received`."""

        async def look(arguments: Mapping[str, Any], _: float) -> Any:
            given = cast("ReceiveArguments", arguments)
            request: Message = descriptors.message_type(f"{_PACKAGE}.ReceiveEventsRequest")(
                execution_id=call["execution_id"], listener=given["listener"], after=given["after"]
            )
            for pattern in given["patterns"]:
                request.patterns.add(**pattern)
            answer = await self._ask(_LISTENERS, "receive", request)
            found = [{"event": json.loads(item.json), "position": item.position} for item in answer.events]
            received: Received = {"events": found, "position": answer.position, "waiting": answer.waiting}
            return received

        return await self._calls.make(call, look)

    async def _refuse_secrets(self, call: Call) -> None:
        """Raise CallFailedError when the event would tell a secret: events are kept, and shown to whoever may look."""
        used = find_secrets(call["arguments"], nonce=call["nonce"]) if call["has_secrets"] else set[str]()
        if not used:
            return
        environment = await self._environments.get(call["execution_id"], run=call.get("run", ""))
        if secret := sorted(used & environment.secrets.keys()):
            detail = f"the event would hold the secret {', '.join(secret)}; events are kept and read by others"
            raise CallFailedError("authorization", detail)

    async def _ask(self, service: str, method: str, request: Message) -> Message:
        try:
            return await self._server.call(service, method, request)
        except RpcError as error:
            if type(error) not in _REFUSALS:
                raise
            raise CallFailedError(_REFUSALS[type(error)], f"the event service says: {error.message}") from None


def _fill(message: Message, event: Mapping[str, Any]) -> None:
    """Fill in a CloudEvent from its JSON form."""
    for name, value in event.items():
        if name in _FIELDS:
            setattr(message, _FIELDS[name], value)
        elif name == "time":
            _fill_time(message, value)
        elif name == "data_base64":
            message.binary_data = _bytes(value)
        elif name != "data":
            message.extensions[name] = value
    if "data" not in event:
        return
    if isinstance(event["data"], str) and not _is_json(message.data_content_type):
        message.text_data = event["data"]
    elif is_too_deep(event["data"]):
        raise CallFailedError("validation", "the event's data is nested too deep: 25 objects or 37 arrays at most")
    else:
        fill_value(message.json_data, event["data"])


def _fill_time(message: Message, value: str) -> None:
    try:
        message.time.FromJsonString(value)
    except (ParseError, ValueError) as error:
        raise CallFailedError("validation", f"the event's time {value!r} is none of RFC 3339: {error}") from None


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise CallFailedError("validation", f"the event's data_base64 is no base64: {error}") from None


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return not kind or kind.endswith(("/json", "+json"))
