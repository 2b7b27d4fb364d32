"""Calling operations of OpenAPI documents."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakValueDictionary

from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.openapi.bundle import Document, bundle
from workflow_runner.activities.openapi.operation import Operation, find_operation
from workflow_runner.activities.openapi.request import build
from workflow_runner.activities.requests import Requests, described, same_origin
from workflow_runner.activities.resources import Resource, Resources
from workflow_runner.activities.responses import check_status, output
from workflow_runner.activities.structured import read
from workflow_runner.call_messages import EndpointArguments, OpenApiArguments

_WHAT = "the OpenAPI document"
_MOST_KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A document, and the operations of it that were called."""

    document: Document
    operations: dict[str, Operation] = field(default_factory=dict[str, Operation])


class OpenApiCalls:
    """Calls operations."""

    def __init__(self, calls: Calls, requests: Requests, resources: Resources, authentication: Authentication) -> None:
        self._calls = calls
        self._requests = requests
        self._resources = resources
        self._authentication = authentication
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @activity.defn(name=names.FIND_OPENAPI)
    async def find(self, call: Any) -> Any:
        """Return the method of the operation of `OpenApiArguments`: by it the workflow knows what may be repeated."""
        return await self._calls.make(call, self._method)

    @activity.defn(name=names.CALL_OPENAPI)
    async def call(self, call: Any) -> Any:
        """Call the operation of `OpenApiArguments`; the output is as their `output` says."""
        return await self._calls.make(call, self._exchange)

    async def _method(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("OpenApiArguments", arguments)
        _, operation = await self._operation(given, seconds)
        return operation.method

    async def _exchange(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("OpenApiArguments", arguments)
        until = asyncio.get_running_loop().time() + seconds
        document, operation = await self._operation(given, seconds)
        if operation.method != given["method"]:
            detail = f"the operation {operation.id!r} became a {operation.method} while it was to be called"
            raise CallFailedError("configuration", detail)
        request = build(document, operation, given["parameters"])
        answer = await self._requests.send(
            request.method,
            request.url,
            seconds=max(0.0, until - asyncio.get_running_loop().time()),
            headers=request.headers,
            content=request.content,
            auth=self._authentication.auth(given["authentication"]),
            redirect=given["redirect"],
        )
        line = described(request.method, request.url)
        check_status(line, answer, redirect=given["redirect"])
        sent = {"method": request.method, "uri": request.url, "headers": dict(request.headers)}
        return output(line, answer, given["output"], sent)

    async def _operation(self, given: OpenApiArguments, seconds: float) -> tuple[Document, Operation]:
        endpoint = given["document"]
        resource = await self._resources.fetch(endpoint, seconds=seconds, what=_WHAT)
        key = f"{resource.digest} {resource.url}"
        async with self._reading.setdefault(key, asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = _Kept(document=await self._read(resource, endpoint, seconds))
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        wanted = given["operation_id"]
        if wanted not in kept.operations:
            kept.operations[wanted] = find_operation(kept.document, wanted)
        return kept.document, kept.operations[wanted]

    async def _read(self, resource: Resource, endpoint: EndpointArguments, seconds: float) -> Document:
        async def load(address: str) -> tuple[str, Any]:
            # Only a file may name files; credentials stay with the origin that they are for.
            if address.lower().startswith("file:") and not resource.url.lower().startswith("file:"):
                raise CallFailedError("authorization", f"{_WHAT} refers to a file: {address}")
            policy = endpoint["authentication"] if same_origin(address, resource.url) else None
            other: EndpointArguments = {"uri": address, "template": None, "authentication": policy}
            found = await self._resources.fetch(other, seconds=seconds, what=address)
            return found.url, await _value(found, address)

        value: Any = await _value(resource, _WHAT)
        if not isinstance(value, dict):
            raise CallFailedError("configuration", f"{_WHAT} is no object")
        root = cast("dict[str, Any]", value)
        version = str(root.get("openapi") or root.get("swagger") or "")
        if not version.startswith(("2.0", "3.0", "3.1")):
            said = f"is of version {version}" if version else "names no version"
            raise CallFailedError("configuration", f"{_WHAT} {said}; 2.0, 3.0 and 3.1 are known")
        return await bundle(resource.url, root, load)


async def _value(resource: Resource, what: str) -> Any:
    try:
        return await asyncio.to_thread(read, resource.text)
    except ValueError as error:
        raise CallFailedError("configuration", f"{what} is neither JSON nor YAML: {error}") from None
