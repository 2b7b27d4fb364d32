"""What a handler and an interceptor may know of the call they serve.

Made once per call by the dispatcher, so everything that costs is worked out when first asked for. The
transport stands behind `Call`, which grpc's own servicer context meets as it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from random import getrandbits
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from stigmer_grpc.errors import REQUEST_ID, RpcError

if TYPE_CHECKING:
    from stigmer_grpc.binding import Method

_ACCEPTABLE_ID = re.compile(r"[!-~]{1,128}").fullmatch


class Call(Protocol):
    """The transport's side of one call."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """What the caller sent, keys in lower case."""
        ...

    def peer(self) -> str:
        """Where the caller is."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None without one."""
        ...

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        """Call `callback` when the call has ended, however it did."""
        ...


class CallContext:
    """One call, as its handler and its interceptors see it."""

    __slots__ = (
        "_call",
        "_cancelled",
        "_metadata",
        "_request_id",
        "_sent",
        "_values",
        "aborted",
        "bound",
        "iterator",
        "stopping",
        "task",
        "trailing",
        "writing",
    )

    def __init__(self, method: Method, call: Call, stopping: asyncio.Event) -> None:
        self.bound = method
        """The method, as it was bound."""
        self._call = call
        self.stopping = stopping
        """Set when the server begins to stop. An endless stream that watches it ends in time by itself."""
        self.task: asyncio.Task[Any] | None = None
        """The task the handler runs in."""
        self.aborted: RpcError | None = None
        """How the server itself ended this call, before its handler was done with it."""
        self.iterator: Any = None
        """The handler's own response iterator, so that it is closed even if an interceptor forgets."""
        self.trailing: dict[str, str | bytes] | None = None
        self.writing = False
        """Whether a response is being handed over; gRPC cannot end a call properly while that is so."""
        self._sent: tuple[tuple[str, str | bytes], ...] | None = None
        self._metadata: Mapping[str, str | bytes] | None = None
        self._values: dict[str, object] | None = None
        self._cancelled: asyncio.Event | None = None
        self._request_id: str | None = None

    @property
    def method(self) -> str:
        """The full name on the wire, "/package.Service/method"."""
        return self.bound.path

    @property
    def service(self) -> str:
        """Full name of the service."""
        return self.bound.service

    @property
    def method_descriptor(self) -> Any:
        """The method's descriptor, from the pool it was bound with; options are read from it."""
        return self.bound.descriptor

    @property
    def implemented(self) -> bool:
        """False: no handler was bound, and the call will end with UNIMPLEMENTED."""
        return self.bound.implemented

    @property
    def request_id(self) -> str:
        """The caller's x-request-id if it is 1 to 128 printable ASCII characters, else one made here."""
        if self._request_id is None:
            self._request_id = _given_id(self._pairs()) or _new_id()
        return self._request_id

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """What the caller sent: keys in lower case, bytes for keys ending in "-bin".

        Values of a repeated key are joined by ", " as HTTP does; of a repeated binary key the last one counts.
        """
        if self._metadata is None:
            self._metadata = join_metadata(self._pairs())
        return self._metadata

    def sent_any(self, prefix: str) -> bool:
        """Tell whether the caller sent metadata under a key that begins with `prefix`; costs less than `metadata`."""
        for key, _ in self._pairs():  # noqa: SIM110 - a generator would cost more than all else here
            if key.startswith(prefix):
                return True
        return False

    def _pairs(self) -> tuple[tuple[str, str | bytes], ...]:
        # gRPC makes them anew whenever it is asked.
        if self._sent is None:
            self._sent = tuple(self._call.invocation_metadata())
        return self._sent

    @property
    def peer(self) -> str:
        """Where the caller is: "ipv4:127.0.0.1:5000", "unix:", "in-process"."""
        return self._call.peer()

    @property
    def deadline(self) -> float | None:
        """Seconds left until the caller gives up, never negative; None: it waits for ever."""
        return self._call.time_remaining()

    @property
    def cancelled(self) -> asyncio.Event:
        """Set once the call is over: cancelled, past its deadline, or answered.

        The handler's own task is cancelled too; this is for what the handler started beside itself.
        """
        if self._cancelled is None:
            self._cancelled = event = asyncio.Event()
            self._call.add_done_callback(lambda _: event.set())
        return self._cancelled

    @property
    def values(self) -> dict[str, object]:
        """What interceptors leave for each other and for the handler; lives as long as the call."""
        if self._values is None:
            self._values = {}
        return self._values

    def abort(self, error: RpcError) -> None:
        """End the call with `error` from outside of its handler, which is cancelled; the first abort counts.

        A response that is on its way to a slow reader is let through first. To be called on the server's event loop,
        once the call has begun. Harmless when it is over.
        """
        if self.task is not None and self.aborted is None:
            self.aborted = error
            if not self.writing:
                self.task.cancel()

    def set_trailing_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        """Add to what the caller gets after the last message, in success and in failure; same keys are replaced.

        Raises:
            ValueError: A key or value cannot be sent.
        """
        entries = dict(clean_metadata(metadata))
        if self.trailing is None:
            self.trailing = entries
        else:
            self.trailing.update(entries)


def _given_id(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _ACCEPTABLE_ID(value):
            return value
    return None


def _new_id() -> str:
    # An id and no secret: the operating system's randomness would cost a system call a call.
    return f"{getrandbits(64):016x}"


_KEY = re.compile(r"[0-9a-z_.-]+").fullmatch
_TEXT = re.compile(r"[ -~]*").fullmatch
MetadataInput: TypeAlias = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
"""Metadata to send: a mapping or pairs. Text must be printable ASCII; bytes go under keys ending in "-bin"."""


def clean_metadata(metadata: MetadataInput) -> tuple[tuple[str, str | bytes], ...]:
    """`metadata` as pairs that can go on the wire, keys in lower case.

    Raises:
        ValueError: A key has other characters than 0-9 a-z _ . -, a value is not printable ASCII, or bytes and
            "-bin" do not go together.
    """
    if not metadata:
        return ()
    pairs: Iterable[tuple[str, str | bytes]]
    pairs = cast("Any", metadata).items() if isinstance(metadata, Mapping) else metadata
    return tuple((_clean_key(key), _clean_value(key, value)) for key, value in pairs)


def _clean_key(key: str) -> str:
    lowered = key.lower()
    if not _KEY(lowered):
        raise ValueError(f"{key!r} is no metadata key")
    return lowered


def _clean_value(key: str, value: str | bytes) -> str | bytes:
    if isinstance(value, bytes) != key.lower().endswith("-bin"):
        raise ValueError(f"metadata {key!r}: keys ending in -bin carry bytes, all others text")
    if isinstance(value, str) and not _TEXT(value):
        raise ValueError(f"metadata {key!r}: the value is not printable ASCII")
    return value


def join_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> dict[str, str | bytes]:
    """One value per key; see `CallContext.metadata`."""
    joined: dict[str, str | bytes] = {}
    for key, value in pairs:
        earlier = joined.get(key)
        joined[key] = f"{earlier}, {value}" if isinstance(earlier, str) and isinstance(value, str) else value
    return joined
