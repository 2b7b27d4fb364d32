"""ResourceController and ResourceCommandController: resources of any kind, for people's tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors

from stigmer_server import selectors
from stigmer_server.calls import FORCE, call_of, is_set
from stigmer_server.commands.delete import delete_all
from stigmer_server.commands.rollback import rollback
from stigmer_server.encoding import delimited
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import Filter
from stigmer_server.messages import Message, fill_struct, to_plain
from stigmer_server.queries.get_revision import get_revision
from stigmer_server.queries.list_ import Listing, list_
from stigmer_server.queries.list_revisions import Revision, list_revisions
from stigmer_server.queries.watch import Event, Watching, watch
from stigmer_server.resources import Resources
from stigmer_server.watches import Watches

_PACKAGE = "ai.stigmer.resources.v1"
_LARGEST_PAGE = 2 * 2**20
"""Bytes of encoded resources; as JSON values they take about three times as many, and a message has a limit."""


def resource_services(resources: Resources, watches: Watches) -> Iterator[Service]:
    """Yield the services, bound."""
    reads = {
        "list": _list(resources),
        "listRevisions": _list_revisions(resources),
        "getRevision": _get_revision(resources),
        "watch": _watch(resources, watches),
    }
    yield bind(descriptors.pool(), f"{_PACKAGE}.ResourceController", reads)
    writes = {"rollback": _rollback(resources), "delete": _delete(resources)}
    yield bind(descriptors.pool(), f"{_PACKAGE}.ResourceCommandController", writes)


def _list(resources: Resources) -> Handler:
    answer = descriptors.message_type(f"{_PACKAGE}.ResourceList")

    async def handle(request: Message, context: CallContext) -> Message:
        kind = _kind(resources, request.kind)
        listing = Listing(
            filters=_phase(kind, request.phase),
            org=request.org,
            labels=dict(request.labels),
            selector=selectors.parse(request.selector),
            tags=tuple(request.tags),
            parent_id=request.parent_id,
            text=request.text,
            page_size=request.page_size,
            page_token=request.page_token,
            largest=_LARGEST_PAGE,
        )
        listed = await list_(resources.on_behalf_of(call_of(context)), kind, listing)
        response: Message = answer(next_page_token=listed.next_page_token, total_count=listed.total)
        for entry in listed.entries:
            fill_struct(response.entries.add(), to_plain(kind.parse(entry)))
        return response

    return handle


def _list_revisions(resources: Resources) -> Handler:
    answer = descriptors.message_type(f"{_PACKAGE}.RevisionList")

    async def handle(request: Message, context: CallContext) -> Message:
        kind = _kind(resources, request.kind)
        own = resources.on_behalf_of(call_of(context))
        listed = await list_revisions(own, kind, request.id, page_size=request.page_size, page_token=request.page_token)
        response: Message = answer(next_page_token=listed.next_page_token, total_count=listed.total)
        for revision in listed.entries:
            _fill_revision(response.entries.add(), revision)
        return response

    return handle


def _get_revision(resources: Resources) -> Handler:
    async def handle(request: Message, context: CallContext) -> Message:
        kind = _kind(resources, request.kind)
        own = resources.on_behalf_of(call_of(context))
        return _resource(kind, await get_revision(own, kind, request.id, request.version))

    return handle


def _rollback(resources: Resources) -> Handler:
    async def handle(request: Message, context: CallContext) -> Message:
        kind = _kind(resources, request.kind)
        own = resources.on_behalf_of(call_of(context))
        return _resource(kind, await rollback(own, kind, request.id, request.version, message=request.message))

    return handle


def _delete(resources: Resources) -> Handler:
    answer = descriptors.message_type(f"{_PACKAGE}.DeletedResources")

    async def handle(request: Message, context: CallContext) -> Message:
        kind = _kind(resources, request.kind)
        own = resources.on_behalf_of(call_of(context))
        forced = is_set(context, FORCE) or request.force
        response: Message = answer()
        deletion = await delete_all(own, kind, request.id, force=forced)
        response.total_count = deletion.total
        for gone in deletion.entries:
            response.entries.add(kind=gone.kind.described.number, id=gone.id, org=gone.org, slug=gone.slug)
        return response

    return handle


def _watch(resources: Resources, watches: Watches) -> Handler:
    event_type = descriptors.message_type(f"{_PACKAGE}.WatchEvent")
    state_number = event_type.DESCRIPTOR.fields_by_name["state"].number

    async def handle(request: Message, context: CallContext) -> AsyncIterator[bytes]:
        asked = Watching(
            kinds=[_kind(resources, number, f"kinds[{at}]") for at, number in enumerate(request.kinds)],
            org=request.org,
            id=request.id,
            selector=selectors.parse(request.selector),
            resume_token=request.resume_token,
            snapshot=request.snapshot,
        )
        async for event in watch(resources.on_behalf_of(call_of(context)), watches, asked):
            message: Message = event_type(type=event.type.value, resume_token=event.resume_token)
            _fill_event(message, event)
            encoded: bytes = message.SerializeToString()
            # The state is encoded already, once for everybody who watches.
            yield encoded if event.state is None else encoded + delimited(state_number, event.state)

    return handle


def _kind(resources: Resources, number: int, field: str = "kind") -> Kind:
    try:
        name = descriptors.kind_by_number(number).enum_name
    except KeyError:
        raise InvalidError.of(field, "kind.known", f"{number} is no kind of resource") from None
    if name not in resources.kinds:
        raise InvalidError.of(field, "kind.served", f"this server has no resources of kind {name}")
    return resources.kinds[name]


def _phase(kind: Kind, name: str) -> dict[str, Filter]:
    """Return the filter by phase, if there is to be one."""
    if not name:
        return {}
    if kind.phases is None:
        raise InvalidError.of("phase", "phase.kind", f"{kind.title} resources have no phases; executions have")
    if name not in kind.phase_names:
        known = ", ".join(kind.phase_names)
        raise InvalidError.of("phase", "phase.known", f"{kind.title} has no phase {name!r}; its phases: {known}")
    return {"phase": name}


def _resource(kind: Kind, wire: bytes) -> Message:
    answer: Message = descriptors.message_type(f"{_PACKAGE}.Resource")()
    fill_struct(answer.resource, to_plain(kind.parse(wire)))
    return answer


def _fill_revision(message: Message, revision: Revision) -> None:
    for name in ("version", "event", "tag", "hash", "actor", "message", "current"):
        setattr(message, name, getattr(revision, name))
    message.created_at.FromDatetime(revision.created_at)


def _fill_event(message: Message, event: Event) -> None:
    if event.kind is not None:
        summary = message.resource
        summary.kind = event.kind.described.number
        summary.id, summary.org, summary.slug = event.id, event.org, event.slug
