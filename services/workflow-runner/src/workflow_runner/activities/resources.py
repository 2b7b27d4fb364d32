"""External resources: documents that stand somewhere else, such as an OpenAPI document, a proto file or a script.

A call evaluates the resource in its workflow (`evaluate_resource`) and fetches it in its activity
(`Resources.fetch`). What `http` and `https` addresses give is kept for some minutes and asked for again by its
entity tag; `file` addresses are read below the folder that the operator allows, and nowhere else.
"""

import asyncio
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from stigmer_dsl import Problem
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import ExternalResource, Workflow
from stigmer_sandbox import Fetched

from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.requests import Requests, described, expand
from workflow_runner.activities.responses import refusal
from workflow_runner.call_messages import EndpointArguments
from workflow_runner.document import find

FOLDER = "STIGMER_RESOURCES_FOLDER"
"""The setting that allows files."""
_FRESH_SECONDS = 60.0
_KEPT_SECONDS = 600.0
_MOST_KEPT_BYTES = 64 * 2**20
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A document as it was fetched."""

    url: str
    """Where it came from, after redirects: relative references in it start from here."""
    content: bytes
    media_type: str
    """What its server calls it, without parameters; empty for files."""
    digest: str = field(default="")
    """SHA-256 of the content, in hex digits: by it whoever parses the content can keep what came of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.content).hexdigest())

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode("utf-8-sig", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    resource: Resource
    conditions: Mapping[str, str]
    fresh_until: float
    drop_at: float


class Resources:
    """Fetches external resources."""

    def __init__(self, requests: Requests, authentication: Authentication, *, most: int, folder: Path | None) -> None:
        """Fetch at most `most` bytes for each; `folder` is where files may be read, None where none may."""
        self._requests = requests
        self._authentication = authentication
        self._most = most
        self._folder = None if folder is None else folder.resolve()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def lacking(self, workflow: Workflow) -> list[Problem]:
        """Return the resources of a workflow that are files, where none may be read."""
        if self._folder is not None:
            return []
        return [
            Problem(code="unsupported", message=_no_files(), pointer=f"{pointer}/endpoint")
            for pointer, resource in find(workflow, ExternalResource)
            if not is_expression(resource.endpoint.uri) and resource.endpoint.uri.lower().startswith("file:")
        ]

    async def fetch(self, endpoint: EndpointArguments, *, seconds: float, what: str = "the resource") -> Resource:
        """Return the resource at `endpoint`.

        Args:
            endpoint: As `evaluate_resource` gives it, with its secrets filled in.
            seconds: How long that may take.
            what: What it is, for messages: `the OpenAPI document`.

        Raises:
            CallFailedError: It cannot be had, or is larger than allowed.
        """
        url = expand(endpoint)
        if url.lower().startswith("file:"):
            return await asyncio.to_thread(self._read, url, what)
        key = hashlib.sha256(json.dumps([url, endpoint["authentication"]], sort_keys=True).encode()).hexdigest()
        try:
            # Many calls at once fetch it once; a lock lives as long as somebody holds it or waits for it.
            async with asyncio.timeout(seconds), self._fetching.setdefault(key, asyncio.Lock()):
                return await self._download(key, url, endpoint, seconds)
        except CallFailedError as failure:
            raise failure.about(f"{what} cannot be fetched") from None
        except TimeoutError:
            raise CallFailedError("timeout", f"{what} was not fetched within {seconds:g} s") from None

    def _read(self, url: str, what: str) -> Resource:
        if self._folder is None:
            raise CallFailedError("configuration", f"{what} is {url}: {_no_files()}")
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise CallFailedError("configuration", f"{what} is {url}, which is no address: {error}") from None
        path = Path(unquote(parts.path))
        path = (self._folder / path).resolve() if path.is_absolute() else path
        if parts.netloc not in ("", "localhost") or not path.is_relative_to(self._folder):
            raise CallFailedError("authorization", f"{what} is {url}, outside the folder that {FOLDER} allows")
        try:
            with path.open("rb") as file:
                content = file.read(self._most + 1)
        except OSError as error:
            raise CallFailedError("configuration", f"{what} {url} cannot be read: {error.strerror}") from None
        if len(content) > self._most:
            raise CallFailedError("configuration", f"{what} {url} is larger than the cap of {self._most} bytes")
        return Resource(url=url, content=content, media_type="")

    async def _download(self, key: str, url: str, endpoint: EndpointArguments, seconds: float) -> Resource:
        kept = self._kept.get(key)
        now = time.monotonic()
        if kept is not None and now < kept.fresh_until:
            return kept.resource
        if kept is not None and now > kept.drop_at:
            kept = None
        answer = await self._requests.send(
            "GET",
            url,
            seconds=seconds,
            headers=kept.conditions if kept is not None else None,
            auth=self._authentication.auth(endpoint["authentication"]),
            redirect=True,
            most=self._most,
        )
        if kept is not None and answer.status == 304:
            return self._keep(key, kept.resource, answer, kept.conditions)
        if answer.status != 200:
            raise refusal(described("GET", url), answer)
        kind = dict(answer.headers).get("content-type", "").partition(";")[0].strip().lower()
        return self._keep(key, Resource(url=answer.url, content=answer.body, media_type=kind), answer, {})

    def _keep(self, key: str, resource: Resource, answer: Fetched, before: Mapping[str, str]) -> Resource:
        """Keep a resource as long as its server lets us, and return it."""
        headers = dict(answer.headers)
        control = headers.get("cache-control", "").lower()
        conditions = {**before, **_conditions(headers)}
        self._kept.pop(key, None)
        if "no-store" not in control:
            now = time.monotonic()
            said = _MAX_AGE.search(control)
            fresh = 0.0 if "no-cache" in control else float(said[1]) if said else _FRESH_SECONDS
            self._kept[key] = _Kept(
                resource=resource,
                conditions=conditions,
                fresh_until=now + min(fresh, _KEPT_SECONDS),
                drop_at=now + _KEPT_SECONDS,
            )
        while sum(len(kept.resource.content) for kept in self._kept.values()) > _MOST_KEPT_BYTES:
            self._kept.popitem(last=False)
        return resource


def _conditions(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what asks whether a resource is still the same."""
    pairs = (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
    return {ask: headers[told] for ask, told in pairs if told in headers}


def _no_files() -> str:
    return f"this runner reads no files; its operator can allow a folder with {FOLDER}"
