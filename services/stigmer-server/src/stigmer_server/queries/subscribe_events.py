"""Follow the events of an organization: every one that is meant, in order and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

import orjson
from stigmer_sqlite.errors import CompactedError, NotFoundError
from stigmer_sqlite.port import Changes, Operation, Query

from stigmer_server import cloud_events
from stigmer_server.cloud_events import Selection
from stigmer_server.errors import ExpiredError, InvalidError
from stigmer_server.resources import Resources
from stigmer_server.tokens import EVENTS, Tokens
from stigmer_server.unit import wire_of
from stigmer_server.watches import Watches

BOOKMARK_SECONDS = 15.0
"""How long a subscription may say nothing before it says how far it is."""

_PAGE = 100
_UNTOLD = 200
"""Changes that are passed over without letting others have a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event, and where to go on after it."""

    event: bytes | None
    """The event, encoded; None where only the token is told."""
    resume_token: str


async def subscribe_events(
    resources: Resources, watches: Watches, selection: Selection, *, resume_token: str = "", from_start: bool = False
) -> AsyncGenerator[Delivery]:
    """Yield events in the order in which they were published, each once, and go on with those that are published next.

    Begins with the next one; with a token, after the event that came with it, also when the server was started anew
    in between; or with the oldest that is kept. Says at once where it begins, and now and then how far it is: whoever
    keeps the newest token does not lose its place while other events than those it means come and go. Ends, with a
    last token, when the server stops.

    Raises:
        InvalidError: The token was not given by this database.
        ExpiredError: Events after the token were dropped already.
        DeniedError: The caller may not see the organization.
    """
    resources.call.caller.confine(selection.org)
    subscription = _Subscription(resources, watches, selection, Tokens(await resources.store.identity()))
    await subscription.begin(resume_token, from_start=from_start)
    async for delivery in subscription.follow():
        yield delivery


class _Subscription:
    """One subscriber's place among the events: all up to `_position` were delivered or are not meant."""

    def __init__(self, resources: Resources, watches: Watches, selection: Selection, tokens: Tokens) -> None:
        self._store = resources.store
        self._watches = watches
        self._selection = selection
        self._tokens = tokens
        self._position = 0
        self._anywhere = False
        """Whether nothing was delivered yet, and the oldest event that is kept is as good a beginning as any."""

    async def begin(self, token: str, *, from_start: bool) -> None:
        """Find the place to begin at."""
        newest = await self._store.last_sequence()
        if token:
            self._position = self._tokens.decode(EVENTS, token, field="resume_token")
            if self._position > newest:
                problem = "is of a time that this database has not seen, such as one from before it was restored"
                raise InvalidError.of("resume_token", "token.known", problem)
        elif from_start:
            self._anywhere = True
        else:
            self._position = newest

    async def follow(self) -> AsyncIterator[Delivery]:
        """Yield what there is after the place, and then what comes."""
        await self._check_kept()
        yield self._mark()
        while True:
            changes = self._store.watch(kinds=(cloud_events.EVENT,))
            with self._watches.opened(changes):
                async for delivery in self._stored():
                    yield delivery
                try:
                    async for delivery in self._live(changes):
                        yield delivery
                except CompactedError:
                    # So slow a reader that the feed goes without it; the events themselves may be there yet.
                    continue
            yield self._mark()
            return

    async def _stored(self) -> AsyncIterator[Delivery]:
        """Yield the events after the place that are stored already.

        The database may show more than its feed has told yet; that is left for the feed to tell.
        """
        newest = await self._store.last_sequence()
        query = Query(
            kind=cloud_events.EVENT,
            org_id=self._selection.org,
            where=self._selection.where,
            created_after=self._position,
            newest_first=False,
            limit=_PAGE,
        )
        while True:
            page = await self._store.list(query)
            # Asked afterwards: what was not dropped by now was there when the page was read.
            await self._check_kept()
            for record in page.records:
                if record.position > newest:
                    break
                delivery = self._delivery(wire_of(record), record.position)
                if delivery is not None:
                    yield delivery
            if not page.next_cursor or page.records[-1].position > newest:
                break
            query = replace(query, cursor=page.next_cursor)
        self._position = max(self._position, newest)

    async def _live(self, changes: Changes) -> AsyncIterator[Delivery]:
        """Yield events as they are published, until the watch is ended."""
        loop = asyncio.get_running_loop()
        told, passed = loop.time(), 0
        while True:
            delivery = None
            try:
                async with asyncio.timeout_at(told + BOOKMARK_SECONDS):
                    change = await anext(changes)
            except TimeoutError:
                self._position = max(self._position, changes.position)
            except StopAsyncIteration:
                return
            else:
                mine = change.operation is Operation.CREATED and change.org_id == self._selection.org
                if mine and change.sequence > self._position:
                    delivery = await self._published(change.id, change.sequence)
                self._position = max(self._position, change.sequence)
                if delivery is None and loop.time() < told + BOOKMARK_SECONDS:
                    passed += 1
                    if passed % _UNTOLD == 0:
                        await asyncio.sleep(0)
                    continue
            yield delivery or self._mark()
            told = loop.time()

    async def _published(self, id: str, position: int) -> Delivery | None:
        try:
            record = await self._store.get(cloud_events.EVENT, id)
        except NotFoundError:
            # Dropped before this reader came to it.
            await self._check_kept()
            return None
        return self._delivery(wire_of(record), position)

    def _delivery(self, wire: bytes, position: int) -> Delivery | None:
        self._position = max(self._position, position)
        self._anywhere = False
        if not self._selection.fits(cloud_events.parse(wire)):
            return None
        return Delivery(event=wire, resume_token=self._tokens.encode(EVENTS, position))

    def _mark(self) -> Delivery:
        return Delivery(event=None, resume_token=self._tokens.encode(EVENTS, self._position))

    async def _check_kept(self) -> None:
        dropped = await self._dropped()
        if self._anywhere:
            self._position = max(self._position, dropped)
        elif dropped > self._position:
            problem = "events after the resume token are no longer kept; subscribe from the start to get what is"
            raise ExpiredError(problem)

    async def _dropped(self) -> int:
        """Return the position up to which events of the organization were dropped."""
        try:
            record = await self._store.get(cloud_events.LOG, cloud_events.log_id(self._selection.org))
        except NotFoundError:
            return 0
        return int(orjson.loads(record.data)["dropped"])
