"""The services of the kinds: each method is bound to its verb by its name and the shape of its messages.

A kind whose methods have the usual names needs nothing here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors

from stigmer_server.calls import FORCE, call_of, is_set
from stigmer_server.commands.answer import submit_approval, submit_task_approval
from stigmer_server.commands.apply import apply
from stigmer_server.commands.create import create
from stigmer_server.commands.delete import delete
from stigmer_server.commands.fork import fork
from stigmer_server.commands.pause import pause, resume
from stigmer_server.commands.push import push, push_parts
from stigmer_server.commands.recover import recover
from stigmer_server.commands.send_message import send_message
from stigmer_server.commands.send_signal import send_signal
from stigmer_server.commands.stop import stop
from stigmer_server.commands.tell import tell
from stigmer_server.commands.update import update
from stigmer_server.commands.update_status import update_status
from stigmer_server.controllers.access import SPECIAL
from stigmer_server.encoding import delimited
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import Filter
from stigmer_server.live import Live
from stigmer_server.messages import Message
from stigmer_server.queries.follow import follow
from stigmer_server.queries.get import get
from stigmer_server.queries.get_artifact import get_artifact, get_artifact_parts
from stigmer_server.queries.get_by_reference import get_by_reference
from stigmer_server.queries.get_output import get_output
from stigmer_server.queries.list_ import Listed, Listing, list_
from stigmer_server.queries.subscribe import subscribe
from stigmer_server.resources import Resources
from stigmer_server.streams import Streams

NEXT_PAGE = "x-next-page-token"
"""Trailing metadata with the cursor of the next page: the contract's lists have no field for it."""

_LARGEST_PAGE = 8 * 2**20
"""Bytes of encoded resources; a message has a limit, and takes some bytes of its own."""
_PAGING = frozenset({"page_size", "page_token", "page_info", "tags"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verbs:
    """What the handlers of one kind share."""

    resources: Resources
    streams: Streams
    live: Live
    kind: Kind

    def of(self, context: CallContext) -> Resources:
        """Return the resources on behalf of the call."""
        return self.resources.on_behalf_of(call_of(context))


def kind_services(resources: Resources, streams: Streams, live: Live) -> Iterator[Service]:
    """Yield every service of every kind, bound."""
    for kind in resources.kinds.values():
        verbs = _Verbs(resources=resources, streams=streams, live=live, kind=kind)
        for name in kind.described.services:
            methods = descriptors.pool().FindServiceByName(name).methods
            handlers = {method.name: _handler(verbs, method) for method in methods if _is_known(verbs, method)}
            yield bind(descriptors.pool(), name, handlers)


def _is_known(verbs: _Verbs, method: MethodDescriptor) -> bool:
    is_special = (verbs.kind.name, method.name) in SPECIAL
    return is_special or method.name in _HANDLERS or _entries(verbs, method.output_type) is not None


def _handler(verbs: _Verbs, method: MethodDescriptor) -> Handler:
    if (special := SPECIAL.get((verbs.kind.name, method.name))) is not None:
        return special(verbs)
    make = _HANDLERS.get(method.name)
    return make(verbs) if make is not None else _list(verbs, method)


def _writes(verb: Callable[..., object]) -> Callable[[_Verbs], Handler]:
    """Bind a verb that takes the request itself."""

    def make(verbs: _Verbs) -> Handler:
        async def handle(request: Message, context: CallContext) -> bytes:
            return await verb(verbs.of(context), verbs.kind, request)  # type: ignore[misc, no-any-return]

        return handle

    return make


def _delete(verbs: _Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        forced = is_set(context, FORCE) or getattr(request, "force", False)
        reason = getattr(request, "version_message", "")
        return await delete(verbs.of(context), verbs.kind, _id(request), force=forced, reason=reason)

    return handle


def _update_status(verbs: _Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        return await update_status(verbs.of(context), verbs.kind, request.execution_id, request.status)

    return handle


def _stop(*, at_once: bool) -> Callable[[_Verbs], Handler]:
    def make(verbs: _Verbs) -> Handler:
        async def handle(request: Message, context: CallContext) -> bytes:
            return await stop(verbs.of(context), verbs.kind, request.id, reason=request.reason, at_once=at_once)

        return handle

    return make


def _hold(verb: Callable[..., Awaitable[bytes]]) -> Callable[[_Verbs], Handler]:
    """Bind a verb that takes an execution's id and a reason."""

    def make(verbs: _Verbs) -> Handler:
        async def handle(request: Message, context: CallContext) -> bytes:
            return await verb(verbs.of(context), verbs.kind, request.id, reason=request.reason)

        return handle

    return make


def _recover(verbs: _Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        from_task = getattr(request, "from_task", None)
        return await recover(verbs.of(context), verbs.kind, request.id, reason=request.reason, from_task=from_task)

    return handle


def _send_signal(verbs: _Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        return await send_signal(
            verbs.of(context),
            verbs.kind,
            request.execution_id,
            request.signal_name,
            request.payload,
            key=request.idempotency_key,
        )

    return handle


def _get(verbs: _Verbs) -> Handler:
    def handle(request: Message, context: CallContext) -> Awaitable[bytes]:
        return get(verbs.of(context), verbs.kind, request.value)

    return handle


def _get_artifact(verbs: _Verbs) -> Handler:
    answer = descriptors.message_type("ai.stigmer.agentic.skill.v1.GetArtifactResponse")

    async def handle(request: Message, context: CallContext) -> Message:
        return answer(artifact=await get_artifact(verbs.of(context), request.artifact_storage_key))

    return handle


def _get_artifact_parts(verbs: _Verbs) -> Handler:
    answer = descriptors.message_type("ai.stigmer.agentic.skill.v1.ArtifactPart")

    async def handle(request: Message, context: CallContext) -> AsyncIterator[Message]:
        async for part in get_artifact_parts(verbs.of(context), request.artifact_storage_key):
            yield answer(chunk=part)

    return handle


def _get_output(verbs: _Verbs) -> Handler:
    answer = descriptors.message_type("ai.stigmer.agentic.workflowexecution.v1.OutputPart")

    async def handle(request: Message, context: CallContext) -> AsyncIterator[Message]:
        async for part in get_output(verbs.of(context), request):
            yield answer(chunk=part)

    return handle


def _subscribe(verbs: _Verbs) -> Handler:
    def handle(request: Message, context: CallContext) -> AsyncIterator[bytes]:
        return subscribe(verbs.of(context), verbs.streams, verbs.kind, _id(request))

    return handle


def _follow(verbs: _Verbs) -> Handler:
    def handle(request: Message, context: CallContext) -> AsyncIterator[bytes]:
        return follow(verbs.of(context), verbs.streams, verbs.live, verbs.kind, _id(request))

    return handle


def _tell(verbs: _Verbs) -> Handler:
    empty = descriptors.message_type("google.protobuf.Empty")

    async def handle(request: Message, context: CallContext) -> Message:
        await tell(verbs.of(context), verbs.live, verbs.kind, request.execution_id, request.deltas)
        return empty()

    return handle


def _list(verbs: _Verbs, method: MethodDescriptor) -> Handler:
    answer = GetMessageClass(method.output_type)
    entries = _entries(verbs, method.output_type)
    number = entries.number if entries is not None else 0
    in_pages = "total_pages" in method.output_type.fields_by_name

    async def handle(request: Message, context: CallContext) -> bytes:
        listed: Listed = await list_(verbs.of(context), verbs.kind, _listing(request))
        if listed.next_page_token:
            context.set_trailing_metadata({NEXT_PAGE: listed.next_page_token})
        total = answer(total_pages=listed.total_pages) if in_pages else answer(total_count=listed.total)
        return b"".join([total.SerializeToString(), *(delimited(number, entry) for entry in listed.entries)])

    return handle


def _listing(request: Message) -> Listing:
    """Return what a list request asks for: each of its own fields is a filter."""
    fields = request.DESCRIPTOR.fields_by_name
    filters: dict[str, Filter] = {}
    for field, value in request.ListFields():
        if field.name not in _PAGING:
            filters[field.name] = _phase(field, value) if field.enum_type is not None else value
    tags = tuple(request.tags) if "tags" in fields else ()
    listing = Listing(filters=filters, tags=tags, largest=_LARGEST_PAGE)
    if "page_info" in fields:
        return replace(listing, page_size=request.page_info.size, page_number=request.page_info.num)
    return replace(listing, page_size=request.page_size, page_token=request.page_token)


def _phase(field: FieldDescriptor, number: int) -> str:
    """Return the name of a phase, as the index holds it. Raises: InvalidError."""
    for value in field.enum_type.values if field.enum_type is not None else ():
        if value.number == number:
            return value.name
    raise InvalidError.of(field.name, "enum.defined_only", f"there is no phase {number}")


def _entries(verbs: _Verbs, answer: Descriptor) -> FieldDescriptor | None:
    """Return the field of a list's answer that holds the resources, or None when it is no such answer."""
    for field in answer.fields:
        if field.is_repeated and field.message_type is not None:
            return field if field.message_type.full_name == verbs.kind.described.message else None
    return None


def _id(request: Message) -> str:
    """Return the id that a request carries, whatever it calls it."""
    for name in ("value", "resource_id", "execution_id"):
        if name in request.DESCRIPTOR.fields_by_name:
            return getattr(request, name)
    msg = f"{request.DESCRIPTOR.full_name} names no resource"
    raise TypeError(msg)


def _get_by_reference(verbs: _Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        return await get_by_reference(verbs.of(context), verbs.kind, request)

    return handle


_HANDLERS: dict[str, Callable[[_Verbs], Handler]] = {
    "apply": _writes(apply),
    "create": _writes(create),
    "update": _writes(update),
    "push": _writes(push),
    "pushParts": _writes(push_parts),
    "delete": _delete,
    "updateStatus": _update_status,
    "cancel": _stop(at_once=False),
    "terminate": _stop(at_once=True),
    "pause": _hold(pause),
    "resume": _hold(resume),
    "recover": _recover,
    "sendSignal": _send_signal,
    "sendMessage": _writes(send_message),
    "fork": _writes(fork),
    "submitApproval": _writes(submit_approval),
    "submitWorkflowTaskApproval": _writes(submit_task_approval),
    "get": _get,
    "getByReference": _get_by_reference,
    "getArtifact": _get_artifact,
    "getArtifactParts": _get_artifact_parts,
    "getOutput": _get_output,
    "subscribe": _subscribe,
    "follow": _follow,
    "tell": _tell,
}
"""The verbs by the names of their methods; a method that answers with a list needs no name here."""
