"""Follow resources of any kind: what they are, if asked for, and from then on everything that happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from stigmer_sqlite.errors import CompactedError, NotFoundError
from stigmer_sqlite.port import Change, Changes, LabelTerm, Operation, Query, Record

from stigmer_server.access.roles import CAN_VIEW, may
from stigmer_server.errors import ExpiredError, InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources
from stigmer_server.tokens import WATCH, Tokens
from stigmer_server.watches import Watches

BOOKMARK_SECONDS = 15.0
"""How long a watch may say nothing before it says how far it is."""

_PAGE = 20
_UNTOLD = 200
"""Changes that are passed over without letting others have a turn."""


class EventType(Enum):
    """What an event says; the numbers are those of WatchEventType."""

    CREATED = 1
    UPDATED = 2
    DELETED = 3
    SYNCED = 4
    BOOKMARK = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What to follow."""

    kinds: Sequence[Kind] = ()
    """None: all."""
    org: str = ""
    """Slug of an organization; empty for every one that the caller may see."""
    id: str = ""
    """Only this resource; empty for all."""
    selector: Sequence[LabelTerm] = ()
    resume_token: str = ""
    """Go on after the event that came with it."""
    snapshot: bool = False
    """Without a token: tell what there is, first."""

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a resource with these labels is meant."""
        return all(term.matches(labels) for term in self.selector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a resource; or, without one, only how far the watch is."""

    type: EventType
    resume_token: str = ""
    """Where to go on after it; empty within a snapshot, which is of use only as a whole."""
    kind: Kind | None = None
    id: str = ""
    org: str = ""
    slug: str = ""
    state: bytes | None = None
    """The resource as it is now, encoded as a google.protobuf.Struct; None where it is gone or fits no more."""


async def watch(resources: Resources, watches: Watches, asked: Watching) -> AsyncGenerator[Event]:
    """Yield every change of the resources that are meant, in the order of their commits and each once.

    A watch begins with the changes after the call, or after its token; also when the server was started anew in
    between. Without a token it says at once where it begins: with a bookmark, or with the end of the snapshot.

    A resource that begins to fit is told as created, one that ceases to as deleted. A change that was overtaken comes
    with the newest state all the same. It ends, with a last bookmark, when the server stops.

    Raises:
        InvalidError: The token was not given by this database.
        ExpiredError: What happened next after the token is no longer kept.
        DeniedError: The caller may not see the organization.
    """
    follower = _Follower(resources, watches, asked, Tokens(await resources.store.identity()))
    changes = await follower.begin()
    with watches.opened(changes):
        if not asked.resume_token:
            since = changes.position
            if asked.snapshot:
                async for event in follower.snapshot(since):
                    yield event
            yield follower.mark(EventType.SYNCED if asked.snapshot else EventType.BOOKMARK, since)
        async for event in follower.follow(changes):
            yield event


class _Follower:
    """One watch."""

    def __init__(self, resources: Resources, watches: Watches, asked: Watching, tokens: Tokens) -> None:
        self._resources = resources
        self._watches = watches
        self._asked = asked
        self._tokens = tokens
        caller = resources.call.caller
        caller.confine(asked.org)
        known = asked.kinds or (kind for kind in resources.kinds.values() if may(caller.role, CAN_VIEW, kind.name))
        self._kinds = {kind.name: kind for kind in known}
        self._orgs = {kind.name: caller.among(asked.org, shared=kind.shared) for kind in self._kinds.values()}

    async def begin(self) -> Changes:
        """Register with the feed."""
        store, after = self._resources.store, None
        if self._asked.resume_token:
            after = self._tokens.decode(WATCH, self._asked.resume_token, field="resume_token")
            if after > await store.last_sequence():
                problem = "is of a time that this database has not seen, such as one from before it was restored"
                raise InvalidError.of("resume_token", "token.known", f"{problem}; start anew with a snapshot")
        return store.watch(after=after, kinds=tuple(self._kinds), id=self._asked.id)

    def mark(self, type_: EventType, position: int) -> Event:
        """Return the event that says only how far the watch is."""
        return Event(type=type_, resume_token=self._tokens.encode(WATCH, position))

    async def snapshot(self, since: int) -> AsyncIterator[Event]:
        """Yield what there is; what was created after the position is left for the changes to tell."""
        async for kind, record in self._records():
            if record.position <= since:
                state = await self._watches.state(kind, record)
                yield Event(
                    type=EventType.CREATED,
                    kind=kind,
                    id=record.id,
                    org=record.org_id,
                    slug=record.slug,
                    state=state,
                )

    async def follow(self, changes: Changes) -> AsyncIterator[Event]:
        """Yield what happens, until the watch is ended, and now and then how far it is."""
        loop = asyncio.get_running_loop()
        told, passed = loop.time(), 0
        while True:
            event = None
            try:
                async with asyncio.timeout_at(told + BOOKMARK_SECONDS):
                    change = await anext(changes)
            except TimeoutError:
                pass
            except StopAsyncIteration:
                yield self.mark(EventType.BOOKMARK, changes.position)
                return
            except CompactedError as error:
                problem = "what happened next after the resume token is no longer kept; start anew with a snapshot"
                raise ExpiredError(problem) from error
            else:
                event = await self._event(change)
                if event is None and loop.time() < told + BOOKMARK_SECONDS:
                    passed += 1
                    await _give_way(passed)
                    continue
            yield event or self.mark(EventType.BOOKMARK, changes.position)
            told = loop.time()

    async def _event(self, change: Change) -> Event | None:
        if not self._is_meant(change.kind, change.org_id):
            return None
        type_ = self._type(change)
        if type_ is None:
            return None
        kind = self._kinds[change.kind]
        return Event(
            type=type_,
            resume_token=self._tokens.encode(WATCH, change.sequence),
            kind=kind,
            id=change.id,
            org=change.org_id,
            slug=change.slug,
            state=None if type_ is EventType.DELETED else await self._state(kind, change),
        )

    def _type(self, change: Change) -> EventType | None:
        """Return what a change is in terms of the resources that fit; None when it is nothing."""
        fits = self._asked.fits(change.labels)
        if change.operation is Operation.DELETED:
            return EventType.DELETED if fits else None
        fitted = fits if change.former_labels is None else self._asked.fits(change.former_labels)
        if change.operation is Operation.CREATED or not fitted:
            return EventType.CREATED if fits else None
        return EventType.UPDATED if fits else EventType.DELETED

    async def _state(self, kind: Kind, change: Change) -> bytes | None:
        try:
            record = await self._resources.store.get(kind.name, change.id)
        except NotFoundError:
            return None
        # What has been made since with the id of a deleted one is another resource, perhaps of another organization.
        if record.position > change.sequence or record.org_id != change.org_id:
            return None
        return await self._watches.state(kind, record)

    async def _records(self) -> AsyncIterator[tuple[Kind, Record]]:
        for kind in self._kinds.values():
            if self._asked.id:
                if (record := await self._one(kind)) is not None:
                    yield kind, record
                continue
            query = Query(
                kind=kind.name,
                org_id=self._orgs[kind.name],
                selector=self._asked.selector,
                newest_first=False,
                limit=_PAGE,
            )
            while True:
                page = await self._resources.store.list(query)
                for record in page.records:
                    yield kind, record
                if not page.next_cursor:
                    break
                query = replace(query, cursor=page.next_cursor)

    async def _one(self, kind: Kind) -> Record | None:
        try:
            record = await self._resources.store.get(kind.name, self._asked.id)
        except NotFoundError:
            return None
        seen = self._is_meant(kind.name, record.org_id) and self._asked.fits(record.labels)
        return record if seen else None

    def _is_meant(self, kind: str, org: str) -> bool:
        """Tell whether what belongs to the organization is asked for, and for the caller to see."""
        orgs = self._orgs[kind]
        return orgs is None or org == orgs or (isinstance(orgs, tuple) and org in orgs)


async def _give_way(passed: int) -> None:
    """Let others have their turn now and then: changes that are at hand come without any wait."""
    if passed % _UNTOLD == 0:
        await asyncio.sleep(0)
