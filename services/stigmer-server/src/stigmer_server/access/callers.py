"""Whose token it is: the server's own, one of its runners', or an API key's.

A key that was verified is known from then on without reading it again, until it changes: the resources tell of every
change before whoever asked for it is answered, and with it end the streams that the key has opened.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger
from stigmer_grpc import CallContext, UnauthenticatedError
from stigmer_sqlite.errors import NotFoundError, StoreError
from stigmer_sqlite.port import Query

from stigmer_server.access.keys import KIND, caller_of
from stigmer_server.access.roles import Role
from stigmer_server.access.tokens import digest, read_token_file
from stigmer_server.calls import Caller
from stigmer_server.errors import MissingError
from stigmer_server.resources import Resources
from stigmer_server.unit import Unit, wire_of

OPERATOR = Caller(id="operator", role=Role.OPERATOR)
"""Whoever has the server's own token."""
RUNNER = Caller(id="runner", role=Role.RUNNER)
"""Whoever has the token of the server's runners."""
_USE_SECONDS = 60.0
"""How much later a use of a key must be than the one that was noted last, to be noted."""
_MOST_KNOWN = 10_000


@dataclass(slots=True)
class _Known:
    """A key that was verified."""

    caller: Caller
    digest: bytes
    noted: float
    """When its use was noted last, by the monotonic clock."""


class Callers:
    """Everybody who has a token; an `Authenticator`. Close it when no more calls come."""

    def __init__(self, fixed: Mapping[str, Caller], resources: Resources) -> None:
        """Know the tokens that stay the same for as long as the server runs, and look for others among the keys."""
        self._fixed = tuple((digest(token), caller) for token, caller in fixed.items())
        self._resources = resources
        self._kind = resources.kinds[KIND]
        self._known: dict[bytes, _Known] = {}
        self._keys: dict[str, _Known] = {}
        """The same by the id of the key."""
        self._noted: dict[str, float] = {}
        self._changes = 0
        self._prefix = f"{self._kind.described.id_prefix}-"
        self._streams: dict[str, dict[CallContext, Caller]] = {}
        """The streams of each key, and who it was when they began."""
        self._tasks: set[asyncio.Task[None]] = set()
        resources.observe(KIND, self._changed)

    async def close(self) -> None:
        """Wait until what is under way is done."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def recall(self, token: str) -> Caller | None:
        """See Authenticator."""
        given = digest(token)
        found = self._known.get(given)
        if found is not None:
            if _is_over(found.caller):
                return None
            if time.monotonic() - found.noted > _USE_SECONDS:
                self._note(found)
            return found.caller
        fixed = None
        for known, caller in self._fixed:
            # Without a way out as soon as one fits: all take the same time.
            if hmac.compare_digest(known, given):
                fixed = caller
        return fixed

    async def look_up(self, token: str) -> Caller | None:
        """See Authenticator."""
        given, before = digest(token), -1
        caller: Caller | None = None
        while before != self._changes:
            # What was read while a key changed may be out of date already.
            before = self._changes
            page = await self._resources.store.list(Query(kind=KIND, where={"key_hash": given.hex()}, limit=1))
            caller = caller_of(self._kind.parse(wire_of(page.records[0]))) if page.records else None
        if caller is not None:
            _check_end(caller)
            self._remember(caller, given)
        return caller

    def attend(self, identity: object, context: CallContext) -> Callable[[], None]:
        """See Authenticator."""
        if not isinstance(identity, Caller) or not identity.id.startswith(self._prefix):
            return _nothing
        id = identity.id
        streams = self._streams.setdefault(id, {})
        streams[context] = identity
        timer = None
        if identity.expires is not None:
            error = UnauthenticatedError(f"the API key {id} has expired")
            seconds = max(identity.expires - time.time(), 0)
            timer = asyncio.get_running_loop().call_later(seconds, context.abort, error)

        def over() -> None:
            if timer is not None:
                timer.cancel()
            streams.pop(context, None)
            if not streams and self._streams.get(id) is streams:
                del self._streams[id]

        return over

    def _remember(self, caller: Caller, given: bytes) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
            self._keys.clear()
        noted = self._noted.get(caller.id, time.monotonic() - 2 * _USE_SECONDS)
        known = self._known[given] = self._keys[caller.id] = _Known(caller, given, noted)
        if time.monotonic() - noted > _USE_SECONDS:
            self._note(known)

    def _changed(self, id: str) -> None:
        """Forget a key that was changed or deleted, and see what becomes of its streams."""
        self._changes += 1
        known = self._keys.pop(id, None)
        if known is not None:
            del self._known[known.digest]
        if id in self._streams:
            self._spawn(self._recheck(id))

    async def _recheck(self, id: str) -> None:
        """End the streams of a key that is gone, or means something else than it did."""
        caller, what = None, "changed: call again"
        try:
            caller = caller_of(self._kind.parse(wire_of(await self._resources.store.get(KIND, id))))
        except NotFoundError:
            what = "revoked"
        except StoreError as error:
            logger.warning("the API key {} cannot be read, its streams end: {}", id, error)
        for context, began_as in tuple(self._streams.get(id, {}).items()):
            if caller != began_as:
                context.abort(UnauthenticatedError(f"the API key {id} was {what}"))

    def _note(self, known: _Known) -> None:
        """Have it written down that a key is in use; nobody waits for that."""
        known.noted = self._noted[known.caller.id] = time.monotonic()
        self._spawn(self._write_use(known.caller.id))

    async def _write_use(self, id: str) -> None:
        def work(unit: Unit) -> None:
            message = unit.require(KIND, id)
            message.status.last_used_at.CopyFrom(unit.now)
            unit.replace_status(self._kind, message)

        try:
            await self._resources.transact(work)
        except MissingError:
            self._noted.pop(id, None)
        except StoreError as error:
            logger.warning("the use of API key {} could not be noted: {}", id, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="API keys")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def open_callers(token_file: Path, runner_token_file: Path, resources: Resources) -> Callers:
    """Return the callers whose tokens the files hold, and who have keys; files that are not there are made.

    Raises:
        StartupError: A file cannot be used.
    """
    fixed = {read_token_file(token_file, "sto"): OPERATOR, read_token_file(runner_token_file, "str"): RUNNER}
    return Callers(fixed, resources)


def _is_over(caller: Caller) -> bool:
    return caller.expires is not None and caller.expires <= time.time()


def _check_end(caller: Caller) -> None:
    """Raises: UnauthenticatedError."""
    if _is_over(caller):
        end = datetime.fromtimestamp(caller.expires or 0, UTC).isoformat(timespec="seconds")
        raise UnauthenticatedError(f"the API key {caller.id} expired at {end}; the owner of an organization gives keys")


def _nothing() -> None:
    pass
