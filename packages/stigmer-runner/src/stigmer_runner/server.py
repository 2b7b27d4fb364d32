"""The runners' client of stigmer-server, and the environment of an execution.

Calls are repeated while the server is away, for a while: a longer absence is the caller's to wait out,
because only the caller can do so durably.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import getrandbits
from typing import TYPE_CHECKING, Any

from loguru import logger
from stigmer_grpc.channel import Channel
from stigmer_grpc.client import connect
from stigmer_grpc.credentials import client_credentials
from stigmer_grpc.errors import (
    REQUEST_ID,
    DeadlineExceededError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from stigmer_protos import descriptors

from stigmer_runner.errors import SettingsError
from stigmer_runner.layers import read_layers
from stigmer_runner.redaction import Redactor
from stigmer_runner.settings import RunnerSettings

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing

Message = Any
"""A protobuf message of the contract's descriptor pool."""

MINIMAL = {"x-stigmer-return": "minimal"}
"""Metadata of a command of which only the resource's metadata and phase are wanted back, however large it is."""
RUNTIME = "ai.stigmer.runtime.v1.ExecutionRuntimeController"
EXECUTION_TOKEN = "x-stigmer-execution-token"  # noqa: S105 - the name of a key
"""Call metadata: what the server gives the values of an execution for."""
_MARGIN_SECONDS = 60.0
"""Before its end after which a token is replaced: clocks differ, and a call takes time."""
_CALL_SECONDS = 10.0
_UPLOAD_SECONDS = 60.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class StigmerServer:
    """Calls stigmer-server. Every call it is used for may be repeated without harm."""

    def __init__(self, channel: Channel, *, patience: float = 2.0) -> None:
        """Use `channel`; repeat a call for up to `patience` seconds while the server is away."""
        self._channel = channel
        self._patience = patience

    async def call(
        self,
        service: str,
        method: str,
        request: Message | Mapping[str, Any],
        *,
        metadata: Mapping[str, str] | None = None,
        trailers: dict[str, str | bytes] | None = None,
    ) -> Message:
        """Return the answer of `service.method`; `metadata` goes with the call, `trailers` takes what comes after it.

        The call has one request id however often it is repeated, which the server logs as well as this process does
        when a call fails.

        Raises:
            UnavailableError: The server was away for longer than the client's patience.
            RpcError: The server refused.
        """
        stub = self._channel.service(service)

        async def once(sent: Mapping[str, str]) -> Message:
            return await stub.unary(method, request, timeout=_CALL_SECONDS, metadata=sent, trailers=trailers)

        return await self._repeated(f"{service}.{method}", once, metadata or {})

    async def upload(self, service: str, method: str, requests: Iterable[Message]) -> Message:
        """Return the answer of `service.method`, which takes several requests; repeated as `call` is.

        `requests` is gone through for each repetition, so it is no iterator.

        Raises:
            UnavailableError: The server was away for longer than the client's patience.
            RpcError: The server refused.
        """
        stub = self._channel.service(service)

        async def once(sent: Mapping[str, str]) -> Message:
            return await stub.client_stream(method, requests, timeout=_UPLOAD_SECONDS, metadata=sent)

        return await self._repeated(f"{service}.{method}", once, {})

    async def _repeated(
        self, what: str, once: Callable[[Mapping[str, str]], Awaitable[Message]], metadata: Mapping[str, str]
    ) -> Message:
        give_up = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        request_id = f"{getrandbits(64):016x}"
        sent = {REQUEST_ID: request_id, **metadata}
        while True:
            try:
                return await once(sent)
            except (UnavailableError, DeadlineExceededError) as error:
                if time.monotonic() + pause > give_up:
                    logger.warning("{} failed, request {}: {}", what, request_id, error.message)
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def stream(self, service: str, method: str, request: Message | Mapping[str, Any]) -> AsyncIterator[Message]:
        """Yield the answers of `service.method`, of which a lost connection is the end.

        Raises:
            RpcError: The server refused, or is away.
        """
        async for message in self._channel.service(service).stream(method, request):
            yield message


def server_channel(settings: RunnerSettings, tracing: "Tracing | None" = None) -> Channel:
    """Return a channel to the server of `settings`; it connects when it is first used. `tracing` follows its calls.

    Raises:
        SettingsError: The file of the token, or that of the authority, cannot be used.
    """
    key = settings.api_key or _read_key(settings.api_key_file)
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    try:
        sealed = settings.server_tls or settings.server_ca is not None
        credentials = client_credentials(authority=settings.server_ca) if sealed else None
        return connect(
            settings.server_address,
            pool=descriptors.pool(),
            metadata=metadata,
            credentials=credentials,
            tracing=tracing,
        )
    except ValueError as error:
        raise SettingsError([str(error)]) from error


def _read_key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError([f"--api-key-file (STIGMER_API_KEY_FILE): {path}: {error}"]) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEnvironment:
    """The layered variables and secrets of one execution. Never leaves the process."""

    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    redactor: Redactor

    @property
    def values(self) -> dict[str, str]:
        """Both together, by name."""
        return {**self.variables, **self.secrets}

    def __repr__(self) -> str:
        return f"ExecutionEnvironment({len(self.variables)} variables, {len(self.secrets)} secrets)"


@dataclass(slots=True)
class _Kept:
    """What is kept of an execution."""

    token: str = ""
    renew_at: float = 0.0
    """When the token is to be replaced, by the monotonic clock."""
    environment: ExecutionEnvironment | None = None
    read_at: float = 0.0
    run: str = ""
    """For which the environment was read."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What shows the token to the server."""
        return {EXECUTION_TOKEN: self.token}


class Environments:
    """Environments by execution, kept in memory for a short time, and the tokens that they are got with."""

    def __init__(self, server: StigmerServer, *, seconds: float = 30.0, most: int = 500) -> None:
        self._server = server
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def get(self, execution_id: str, *, run: str = "") -> ExecutionEnvironment:
        """Return the environment of `execution_id`, at most the given seconds old.

        Args:
            execution_id: The execution.
            run: Tells its runs apart: each gets the environment anew.

        Raises:
            RpcError: As `StigmerServer.call`.
        """
        kept = self._kept.get(execution_id) or _Kept()
        now = time.monotonic()
        if kept.environment is not None and kept.run == run and now - kept.read_at < self._seconds:
            return kept.environment
        kept.environment = made = await self._read(execution_id, kept)
        kept.read_at, kept.run = now, run
        self._kept[execution_id] = kept
        self._kept.move_to_end(execution_id)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made

    async def _read(self, execution_id: str, kept: _Kept) -> ExecutionEnvironment:
        try:
            values = await self._handed_out(execution_id, kept)
        except UnimplementedError:
            # The server seals nothing, and shows every value to who reads the resources.
            values = (await read_layers(self._server, execution_id)).values
        values = dict(sorted(values.items()))
        secrets = {name: value for name, (value, is_secret) in values.items() if is_secret}
        return ExecutionEnvironment(
            variables={name: value for name, (value, is_secret) in values.items() if not is_secret},
            secrets=secrets,
            redactor=Redactor(secrets.values()),
        )

    async def _handed_out(self, execution_id: str, kept: _Kept) -> Mapping[str, tuple[str, bool]]:
        request = {"executionId": execution_id}
        is_new = await self._renew(execution_id, kept)
        try:
            answer = await self._server.call(RUNTIME, "getEnvironment", request, metadata=kept.metadata)
        except UnauthenticatedError:
            if is_new:
                raise
            # Tokens are good for less time than was said where the server has other keys since.
            kept.token = ""
            await self._renew(execution_id, kept)
            answer = await self._server.call(RUNTIME, "getEnvironment", request, metadata=kept.metadata)
        return {name: (item.value, item.is_secret) for name, item in answer.values.items()}

    async def _renew(self, execution_id: str, kept: _Kept) -> bool:
        """Get a token unless there is one that is good for a while; tell whether it is new."""
        if kept.token and time.monotonic() < kept.renew_at:
            return False
        answer = await self._server.call(RUNTIME, "issueToken", {"executionId": execution_id})
        kept.token = answer.token
        kept.renew_at = time.monotonic() + answer.expires_at.seconds - time.time() - _MARGIN_SECONDS
        return True

    def forget(self, execution_id: str) -> None:
        """Drop what is kept of `execution_id`."""
        self._kept.pop(execution_id, None)
