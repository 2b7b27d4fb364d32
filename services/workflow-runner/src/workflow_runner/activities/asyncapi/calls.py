"""Publishing and consuming messages as AsyncAPI documents describe it."""

import asyncio
import base64
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from loguru import logger
from stigmer_dsl import Problem
from stigmer_dsl.model import AsyncApiArguments, Workflow
from stigmer_sandbox import OutboundPolicy
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.asyncapi.document import Document, Operation, Server, read_document
from workflow_runner.activities.asyncapi.messages import inbound, outbound
from workflow_runner.activities.asyncapi.port import Credentials, Feed, MessageProtocol, Route, Tools
from workflow_runner.activities.asyncapi.protocols import extra_for
from workflow_runner.activities.asyncapi.routes import choose, route_to
from workflow_runner.activities.asyncapi.sessions import Sessions
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.requests import Requests, trusting
from workflow_runner.activities.resources import Resources
from workflow_runner.call_messages import (
    AsyncApiTarget,
    ConsumeArguments,
    ConsumedBatch,
    PublishArguments,
    SettleArguments,
)
from workflow_runner.document import find


class AsyncApiCalls:
    """Publishes and consumes messages."""

    def __init__(
        self,
        calls: Calls,
        policy: OutboundPolicy,
        requests: Requests,
        resources: Resources,
        authentication: Authentication,
        *,
        authorities: Path | None = None,
    ) -> None:
        """Trust the usual certificate authorities, and those of the PEM file `authorities`."""
        self._calls = calls
        self._policy = policy
        self._resources = resources
        self._authentication = authentication
        self._sessions = Sessions()
        self._tools = Tools(policy=policy, requests=requests, trust=partial(trusting, authorities))

    @property
    def activities(self) -> list[Any]:
        """What a worker offers."""
        return [self.publish, self.consume, self.settle]

    async def lacking(self, workflow: Workflow) -> list[Problem]:
        """Return the protocols that a workflow names and this runner does not speak."""
        return [
            Problem(code="unsupported", message=reason, pointer=f"{pointer}/protocol")
            for pointer, arguments in find(workflow, AsyncApiArguments)
            if arguments.protocol is not None and (reason := extra_for(arguments.protocol))
        ]

    async def close(self) -> None:
        """Close the subscriptions."""
        await self._sessions.close()

    @activity.defn(name=names.PUBLISH_MESSAGE)
    async def publish(self, call: Any) -> Any:
        """Publish the message of `PublishArguments`; there is no output."""
        return await self._calls.make(call, self._publish)

    @activity.defn(name=names.CONSUME_MESSAGES)
    async def consume(self, call: Any) -> Any:
        """Return the next messages of the subscription of `ConsumeArguments`, as `ConsumedBatch`."""
        return await self._calls.make(call, self._consume)

    @activity.defn(name=names.SETTLE_MESSAGES)
    async def settle(self, call: Any) -> Any:
        """Tell the broker of the subscription of `SettleArguments` what is done; there is no output."""
        return await self._calls.make(call, self._settle)

    async def _publish(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("PublishArguments", arguments)
        until = time.monotonic() + seconds
        operation, protocol, route = await self._found(given, publishes=True, seconds=seconds)
        message = outbound(given["payload"], given["headers"], operation.messages)
        try:
            left = max(0.0, until - time.monotonic())
            with _in_our_words(route):
                await protocol.publish(route, message, self._tools, seconds=left)
        except TimeoutError:
            raise CallFailedError("timeout", f"nothing was heard of the message to {route} in time") from None

    async def _consume(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("ConsumeArguments", arguments)
        until = time.monotonic() + seconds
        operation, protocol, route = await self._found(given, publishes=False, seconds=seconds)

        async def open_() -> Feed:
            position = given["position"]
            return await protocol.subscribe(
                route, self._tools, name=given["subscription"], position=position, most=given["most"]
            )

        # An answer has to be back in time: what is taken from a broker is not left behind.
        left = max(0.0, until - time.monotonic() - 0.5)
        wait = min(given["seconds"], left)
        try:
            with _in_our_words(route):
                taking = self._sessions.take(given["subscription"], open_, most=given["most"], seconds=wait)
                found, settles = await taking
        except TimeoutError:
            raise CallFailedError("communication", f"{route} does not answer", status=503) from None
        if not found and wait < given["seconds"] and activity.info().is_local:
            # The next one waits as long as it takes, where waiting holds nobody up.
            raise CallFailedError("timeout", f"no message came from {route} within {seconds:g} s")
        for message in found:
            if len(message.body) > self._policy.max_response_bytes:
                raise CallFailedError("communication", f"a message from {route} is larger than allowed", status=413)
        batch: ConsumedBatch = {
            "messages": [inbound(message, operation.messages) for message in found],
            "positions": [message.position for message in found],
            "settles": settles,
        }
        return batch

    async def _settle(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("SettleArguments", arguments)
        if given["done"] is not None:
            await self._sessions.settle(given["subscription"], given["done"])
        if given["over"]:
            await self._sessions.end(given["subscription"], over=True)

    async def _found(
        self, given: AsyncApiTarget, *, publishes: bool, seconds: float
    ) -> tuple[Operation, MessageProtocol, Route]:
        resource = await self._resources.fetch(given["document"], seconds=seconds, what="the AsyncAPI document")
        document: Document = await asyncio.to_thread(read_document, resource.text)
        operation = document.operation(channel=given["channel"], operation=given["operation"], publishes=publishes)
        server, protocol = choose(document, operation, name=given["server"], protocol=given["protocol"])
        headers = await self._authentication.headers(given["authentication"], seconds=seconds)
        route = route_to(
            server,
            operation,
            protocol,
            variables=given["variables"],
            credentials=_credentials(headers.get("Authorization", ""), server),
            headers=headers,
            most_bytes=self._policy.max_response_bytes,
        )
        return operation, protocol, route


@contextmanager
def _in_our_words(route: Route) -> Generator[None]:
    """Let what goes wrong in a client library be a failure of the call: made again, it would only go wrong again."""
    try:
        yield
    except (CallFailedError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001 - libraries fail in many ways on what brokers should not say
        logger.opt(exception=error).debug("{} is not understood", route)
        reason = f"{type(error).__name__}: {error}"
        raise CallFailedError("communication", f"{route} is not understood: {reason}", status=502) from None


def _credentials(authorization: str, server: Server) -> Credentials:
    """Return what an Authorization header says, for those who ask for it in other ways."""
    mechanism = next((each for each in server.security if each), "")
    kind, _, value = authorization.partition(" ")
    if kind == "Bearer":
        return Credentials(token=value, mechanism=mechanism)
    if kind == "Basic":
        username, _, password = base64.b64decode(value).decode().partition(":")
        return Credentials(username=username, password=password, mechanism=mechanism)
    return Credentials(mechanism=mechanism)
