"""Where the description of a service comes from, and how long it is kept: a .proto, or the server itself."""

import hashlib
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.grpc.channels import Place
from workflow_runner.activities.grpc.description import Description, described_by
from workflow_runner.activities.grpc.protos import compiled, gather
from workflow_runner.activities.grpc.reflection import Metadata, reflect
from workflow_runner.activities.requests import expand, same_origin
from workflow_runner.activities.resources import Resources
from workflow_runner.call_messages import EndpointArguments

_MOST_KEPT = 64
_REFLECTED_SECONDS = 60.0
_NOT_THERE = (403, 404, 410)
"""Some stores of files say 403 of what they do not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    description: Description
    until: float = float("inf")


class Descriptions:
    """Descriptions of services, each made once: of protos by their content, of servers for a minute."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def of_proto(self, endpoint: EndpointArguments, *, seconds: float) -> Description:
        """Return what the .proto at `endpoint` describes.

        Raises:
            CallFailedError: It, or what it imports, cannot be had or is not valid.
        """
        until = time.monotonic() + seconds
        reader = _Reader(self._resources, endpoint, until)
        sources = await gather(await reader.root(), reader.read)
        found = self._find(sources.digest)
        if found is None:
            descriptors = await compiled(sources, until - time.monotonic())
            found = self._keep(sources.digest, _Kept(description=described_by(descriptors)))
        return found

    async def of_server(
        self, channel: grpc.aio.Channel, place: Place, service: str, *, metadata: Metadata, seconds: float
    ) -> Description:
        """Return what the server at `place` says of `service`.

        Raises:
            AioRpcError: It cannot be reached, or refuses.
            CallFailedError: It does not describe itself.
        """
        # What a server tells may depend on who asks.
        asked = json.dumps([str(place), place.tls, service, list(metadata)])
        key = hashlib.sha256(asked.encode()).hexdigest()
        found = self._find(key)
        if found is None:
            description = await reflect(channel, service, metadata=metadata, seconds=seconds)
            kept = _Kept(description=description, until=time.monotonic() + _REFLECTED_SECONDS)
            found = self._keep(key, kept) if service_is_in(description, service) else description
        return found

    def _find(self, key: str) -> Description | None:
        kept = self._kept.get(key)
        if kept is None or time.monotonic() > kept.until:
            return None
        self._kept.move_to_end(key)
        return kept.description

    def _keep(self, key: str, kept: _Kept) -> Description:
        self._kept[key] = kept
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept.description


def service_is_in(description: Description, service: str) -> bool:
    """Whether a description has a service, by its full name or its last word."""
    return any(service in (name, name.rpartition(".")[2]) for name in description.services)


class _Reader:
    """Reads a .proto and what it imports."""

    def __init__(self, resources: Resources, endpoint: EndpointArguments, until: float) -> None:
        self._resources = resources
        self._endpoint = endpoint
        self._until = until
        self._texts: dict[str, bytes] = {}

    async def root(self) -> str:
        """Read the .proto and return where it came from: from there its imports are looked for."""
        found = await self._fetch(self._endpoint, "the proto")
        self._texts[found.url] = found.content
        return found.url

    async def read(self, url: str) -> bytes:
        """See `protos.Read`."""
        if url in self._texts:
            return self._texts[url]
        authentication = self._endpoint["authentication"] if same_origin(url, expand(self._endpoint)) else None
        try:
            found = await self._fetch(
                {"uri": url, "template": None, "authentication": authentication}, "what the proto imports"
            )
        except CallFailedError as failure:
            if failure.error.status in _NOT_THERE or urlsplit(url).scheme == "file":
                raise LookupError(url) from None
            raise
        return found.content

    async def _fetch(self, endpoint: EndpointArguments, what: str) -> Any:
        left = self._until - time.monotonic()
        return await self._resources.fetch(endpoint, seconds=max(0.0, left), what=what)
