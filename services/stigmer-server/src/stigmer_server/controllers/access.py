"""What organizations, API keys and identity accounts have beside the usual verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from google.protobuf.message_factory import GetMessageClass
from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors
from stigmer_sqlite.port import Record

from stigmer_server.access.callers import OPERATOR, RUNNER
from stigmer_server.access.keys import KIND as API_KEY
from stigmer_server.access.roles import CAN_VIEW, may
from stigmer_server.calls import SYSTEM, Caller, call_of
from stigmer_server.commands.create_key import create_key
from stigmer_server.encoding import delimited
from stigmer_server.errors import InvalidError, MissingError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.queries.all_of import all_of
from stigmer_server.queries.list_ import Listed, Listing, list_
from stigmer_server.resources import Resources

_ACCOUNTS = "ai.stigmer.iam.identityaccount.v1.IdentityAccountQueryController"


class Verbs(Protocol):
    """What the handlers of one kind share."""

    @property
    def kind(self) -> Kind:
        """The kind."""
        ...

    def of(self, context: CallContext) -> Resources:
        """Return the resources on behalf of the call."""
        ...


def _create_key(verbs: Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        return await create_key(verbs.of(context), verbs.kind, request)

    return handle


def _get_by_key_hash(verbs: Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        resources = verbs.of(context)
        for record in await all_of(resources, verbs.kind, {"key_hash": request.value}):
            return resources.shown(verbs.kind, record)
        raise MissingError.of(verbs.kind.title, "one with this hash")

    return handle


def _find_all_keys(verbs: Verbs) -> Handler:
    """Of its organization's keys, a caller that may not see them all is told its own."""

    async def handle(request: Message, context: CallContext) -> bytes:
        del request
        resources = verbs.of(context)
        caller = resources.call.caller
        sees_all = may(caller.role, CAN_VIEW, verbs.kind.name)
        records = await all_of(resources, verbs.kind)
        return _entries(resources, verbs.kind, (item for item in records if sees_all or item.id == caller.id))

    return handle


def _find_organizations(verbs: Verbs) -> Handler:
    answer = descriptors.message_type("ai.stigmer.tenancy.organization.v1.OrganizationList")
    number = answer.DESCRIPTOR.fields_by_name["entries"].number

    async def handle(request: Message, context: CallContext) -> bytes:
        resources = verbs.of(context)
        if request.kind not in ("", verbs.kind.title, verbs.kind.name):
            raise InvalidError.of("kind", "kind.organization", f"only {verbs.kind.title} resources are found here")
        size, page = (request.page.size, request.page.num) if request.HasField("page") else _page(request)
        listing = Listing(org=request.org, page_size=size, page_number=page)
        if not resources.call.caller.sees(request.org):
            return b""
        listed: Listed = await list_(resources, verbs.kind, listing)
        head: bytes = answer(total_pages=listed.total_pages).SerializeToString()
        return b"".join([head, *(delimited(number, entry) for entry in listed.entries)])

    return handle


def _page(request: Message) -> tuple[int, int]:
    return request.page_size, request.page_number


def _find_my_organizations(verbs: Verbs) -> Handler:
    async def handle(request: Message, context: CallContext) -> bytes:
        del request
        resources = verbs.of(context)
        return _entries(resources, verbs.kind, await all_of(resources, verbs.kind))

    return handle


def _entries(resources: Resources, kind: Kind, records: Iterable[Record]) -> bytes:
    """Return an answer whose first field is a list of resources."""
    return b"".join(delimited(1, resources.shown(kind, record)) for record in records)


SPECIAL: Mapping[tuple[str, str], Callable[[Verbs], Handler]] = {
    ("api_key", "create"): _create_key,
    ("api_key", "getByKeyHash"): _get_by_key_hash,
    ("api_key", "findAll"): _find_all_keys,
    ("organization", "find"): _find_organizations,
    ("organization", "findMyOrganizations"): _find_my_organizations,
}
"""Handlers by kind and method, in place of those that the method's name would get."""


def account_service(resources: Resources) -> Service:
    """Return the service of identity accounts, of which each caller has its own and nobody else's."""
    method = descriptors.pool().FindServiceByName(_ACCOUNTS).methods_by_name["whoAmI"]
    account_type = GetMessageClass(method.output_type)
    actor_type = descriptors.message_type("ai.stigmer.commons.apiresource.ApiResourceAuditActor")

    async def who_am_i(request: Message, context: CallContext) -> Message:
        del request
        caller = call_of(context).caller
        account: Message = account_type(api_version="iam.stigmer.ai/v1", kind="IdentityAccount")
        account.metadata.id, account.metadata.name = caller.id, await _name(resources, caller)
        account.metadata.org = caller.org or ""
        account.metadata.labels["stigmer.ai/role"] = caller.role.value
        account.spec.idp_id = caller.id
        account.spec.is_machine_account = True
        return account

    async def actor_info(request: Message, context: CallContext) -> Message:
        own = resources.on_behalf_of(call_of(context))
        if request.value not in _FIXED and request.value != own.call.caller.id:
            await own.record(own.kinds[API_KEY], request.value)
        return actor_type(id=request.value)

    why = "this server has no accounts: callers sign in with API keys, and whoAmI tells who a caller is"
    handlers = {"whoAmI": who_am_i, "getActorInfo": actor_info}
    return bind(descriptors.pool(), _ACCOUNTS, handlers, unimplemented=f"{why}; only Stigmer Cloud has more")


_FIXED = frozenset({SYSTEM.id, OPERATOR.id, RUNNER.id})


async def _name(resources: Resources, caller: Caller) -> str:
    if caller.id in _FIXED:
        return caller.id
    kind = resources.kinds[API_KEY]
    return kind.parse(resources.shown(kind, await resources.record(kind, caller.id))).metadata.name
