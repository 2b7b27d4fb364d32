"""Daytona's HTTP API, as far as workspaces need it: sandboxes, and what their toolbox does inside.

Addresses are those of the API's description (`/sandbox…` of the platform, `/process…` and `/files…` of the toolbox). It
knows nothing of workspaces. Every connection goes through the guard, and the key is sent to nobody but the platform and
the toolbox that it names.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
from stigmer_sandbox import (
    Fetched,
    OutboundError,
    OutboundPolicy,
    ResponseTooLargeError,
    SandboxUnavailableError,
    fetch,
)

from agent_runner.workspace.daytona.settings import DaytonaSettings

POLICY = OutboundPolicy(max_response_bytes=64 * 2**20)
"""The operator names the address, so it may be one of this machine or of a private network."""
_ANSWER_SECONDS = 60.0
_TRANSFER_SECONDS = 1800.0
_ATTEMPTS = 4
_FIRST_PAUSE = 0.25
_OK = range(200, 300)
_UNAUTHORIZED, _FORBIDDEN, _MISSING, _TIMEOUT, _CONFLICT, _TOO_OFTEN = 401, 403, 404, 408, 409, 429
_PASSING = frozenset({_TOO_OFTEN, 502, 503, 504})
_EXCERPT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A sandbox as the platform tells of it."""

    id: str
    name: str
    state: str
    toolbox: str
    blocked: bool
    """Whether it has no network."""
    reason: str = ""
    """Why it is in error."""


class DaytonaError(SandboxUnavailableError):
    """The platform or a toolbox refused something, or cannot be reached.

    Attributes:
        status: What it answered; 0: nothing.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_missing(self) -> bool:
        """Whether there is no such thing."""
        return self.status == _MISSING

    @property
    def is_conflict(self) -> bool:
        """Whether it is taken, or busy with something else."""
        return self.status == _CONFLICT

    @property
    def is_timeout(self) -> bool:
        """Whether a command took too long for the toolbox."""
        return self.status == _TIMEOUT


class DaytonaApi:
    """A client of the API.

    Args:
        client: A client whose connections are guarded.
        settings: How Daytona is reached.
    """

    def __init__(self, client: httpx2.AsyncClient, settings: DaytonaSettings) -> None:
        self._client = client
        self._settings = settings
        self._url = settings.api_url.rstrip("/")

    async def check(self) -> None:
        """Find out whether the key is good. Raises: DaytonaError."""
        if not self._settings.api_key:
            raise DaytonaError("there is no key: set DAYTONA_API_KEY")
        await self._platform("GET", "/sandbox?limit=1")

    async def find(self, name: str) -> Box | None:
        """A sandbox by its name or id; None: there is none. Raises: DaytonaError."""
        try:
            return self._box(await self._platform("GET", f"/sandbox/{quote(name, safe='')}"))
        except DaytonaError as error:
            if error.is_missing:
                return None
            raise

    async def create(self, name: str, labels: Mapping[str, str], *, network: bool, delete_minutes: int) -> Box:
        """Make a sandbox, which is not ready yet. Raises: DaytonaError, a conflict when the name is taken."""
        settings = self._settings
        wanted: dict[str, Any] = {
            "name": name,
            "labels": dict(labels),
            "public": False,
            "networkBlockAll": not network,
            "autoStopInterval": max(1, round(settings.idle_seconds / 60)),
            "autoDeleteInterval": delete_minutes,
        }
        if settings.target:
            wanted["target"] = settings.target
        if settings.snapshot:
            wanted["snapshot"] = settings.snapshot
        return self._box(await self._platform("POST", "/sandbox", wanted))

    async def start(self, box: Box) -> None:
        """Start a sandbox that was stopped. Raises: DaytonaError."""
        await self._platform("POST", f"/sandbox/{box.id}/start")

    async def allow_network(self, box: Box, *, network: bool) -> None:
        """Give a sandbox the network, or take it. Raises: DaytonaError."""
        await self._platform("POST", f"/sandbox/{box.id}/network-settings", {"networkBlockAll": not network})

    async def delete(self, box: Box) -> None:
        """Delete a sandbox; one that is gone is no error. Raises: DaytonaError."""
        try:
            await self._platform("DELETE", f"/sandbox/{box.id}")
        except DaytonaError as error:
            if not error.is_missing:
                raise

    async def execute(self, box: Box, command: str, *, folder: str, seconds: float) -> str:
        """What a command of the shell says, on both of its outputs. Raises: DaytonaError."""
        asked = {"command": command, "cwd": folder, "timeout": int(seconds) + 1}
        url, content = self._toolbox(box, "/process/execute"), json.dumps(asked).encode()
        answer = await self._ask(
            "POST", url, content, "application/json", seconds=seconds + _ANSWER_SECONDS, again=False
        )
        return str(_read(answer).get("result") or "")

    async def upload(self, box: Box, path: str, content: bytes) -> None:
        """Write a file. Raises: DaytonaError."""
        boundary = uuid.uuid4().hex
        kind = f"multipart/form-data; boundary={boundary}"
        url = self._toolbox(box, "/files/bulk-upload")
        await self._ask("POST", url, _form(boundary, path, content), kind, seconds=_TRANSFER_SECONDS)

    async def download(self, box: Box, path: str, *, most: int) -> bytes:
        """Read a file. Raises: DaytonaError, also when it has more than `most` bytes."""
        url = self._toolbox(box, f"/files/download?{urlencode({'path': path})}")
        return (await self._ask("GET", url, seconds=_TRANSFER_SECONDS, most=most)).body

    def _toolbox(self, box: Box, path: str) -> str:
        return f"{box.toolbox or f'{self._url}/toolbox'}/{box.id}{path}"

    async def _platform(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        # What makes something is not repeated when its answer was lost.
        again = method != "POST" or not path.endswith("/sandbox")
        return _read(await self._ask(method, f"{self._url}{path}", content, "application/json", again=again))

    async def _ask(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        kind: str = "",
        *,
        seconds: float = _ANSWER_SECONDS,
        most: int = POLICY.max_response_bytes,
        again: bool = True,
    ) -> Fetched:
        """Make a request, a few times where that may help and does no harm. Raises: DaytonaError."""
        headers = {"authorization": f"Bearer {self._settings.api_key}", "accept": "*/*", "x-daytona-source": "stigmer"}
        if content is not None:
            headers["content-type"] = kind
        pause = _FIRST_PAUSE
        for left in reversed(range(_ATTEMPTS)):
            try:
                answer = await fetch(
                    self._client,
                    POLICY,
                    method=method,
                    url=url,
                    headers=headers,
                    content=content,
                    seconds=seconds,
                    max_bytes=most,
                )
            except ResponseTooLargeError as error:
                raise DaytonaError(f"Daytona answers too much: {error}") from error
            except (OutboundError, httpx2.HTTPError) as error:
                if not left or not again:
                    why = str(error) or type(error).__name__
                    raise DaytonaError(f"Daytona cannot be reached: {why} (DAYTONA_API_URL)") from error
            else:
                if answer.status in _OK:
                    return answer
                # One that is asked too often says so before it does anything.
                if not left or answer.status not in _PASSING or not (again or answer.status == _TOO_OFTEN):
                    raise _refusal(answer)
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def _box(self, told: Mapping[str, Any]) -> Box:
        return Box(
            id=str(told.get("id") or ""),
            name=str(told.get("name") or ""),
            state=str(told.get("state") or "unknown"),
            toolbox=str(told.get("toolboxProxyUrl") or "").rstrip("/"),
            blocked=bool(told.get("networkBlockAll")),
            reason=str(told.get("errorReason") or ""),
        )


def _form(boundary: str, path: str, content: bytes) -> bytes:
    """A form with one file; paths are ours, and hold nothing that would have to be escaped."""
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="files[0].'
    kind = "Content-Type: application/octet-stream"
    head = f'{part}path"\r\n\r\n{path}\r\n{part}file"; filename="{path}"\r\n{kind}\r\n\r\n'
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode()


def _read(answer: Fetched) -> dict[str, Any]:
    try:
        told: Any = json.loads(answer.body) if answer.body else {}
    except ValueError:
        raise DaytonaError("Daytona answers what is no JSON (DAYTONA_API_URL)", status=answer.status) from None
    return told if isinstance(told, dict) else {"items": told}  # pyright: ignore[reportUnknownVariableType] - JSON


def _refusal(answer: Fetched) -> DaytonaError:
    if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
        return DaytonaError("Daytona refuses the key (DAYTONA_API_KEY), or what it may do", status=answer.status)
    try:
        told: dict[str, Any] = json.loads(answer.body)
        said = str(told.get("message") or told.get("error") or "")
    except (ValueError, AttributeError):
        said = answer.body.decode("utf-8", "replace")
    return DaytonaError(f"Daytona answers {answer.status}: {said[:_EXCERPT]}", status=answer.status)
