"""What callers may do: asked before every call, by the rules of its method.

A role that never may is refused without a look at the resource, so that nobody learns from a refusal what there is.
Whether the resource is the caller's is seen to by the verb that reads it, or, where that does not, here; what is
another organization's is not found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

from stigmer_grpc import CallContext, CallNext, CallNextStream, Service
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors

from stigmer_server.access.roles import ANY, Role
from stigmer_server.access.rules import Rule, Scope, rule_of
from stigmer_server.calls import CALLER, Caller, call_of
from stigmer_server.errors import DeniedError, MissingError
from stigmer_server.messages import at_path
from stigmer_server.resources import Resources


class Authorization:
    """Refuses what the caller of `context.values` may not do; for use after authentication, before validation."""

    def __init__(self, services: list[Service], resources: Resources) -> None:
        self._resources = resources
        methods = [method for service in services for method in service.methods.values()]
        self._rules = {method.path: rule_of(method.descriptor) for method in methods}

    def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Awaitable[Message | bytes]:
        """See UnaryInterceptor."""
        rule = self._rule_to_look_up(request, context)
        return call_next(request, context) if rule is None else self._looked_up(rule, call_next, request, context)

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        rule = self._rule_to_look_up(request, context)
        if rule is not None:
            await self._look_up(rule, request, context)
        async for response in call_next(request, context):
            yield response

    def _rule_to_look_up(self, request: Any, context: CallContext) -> Rule | None:
        """Return the rule by which what the request names has to be looked up; None: the call may go on as it is.

        Raises:
            DeniedError: The caller's role never may.
        """
        caller: Any = context.values[CALLER]
        if caller.role is Role.OPERATOR:
            return None
        rule, streams = self._rules[context.method], context.bound.client_streaming
        _check_role(rule, caller, None if streams else request)
        return rule if caller.org is not None and rule.scope in _LOOKED_UP and not streams else None

    async def _looked_up(self, rule: Rule, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        await self._look_up(rule, request, context)
        return await call_next(request, context)

    async def _look_up(self, rule: Rule, request: Any, context: CallContext) -> None:
        """Make sure that what the request names is the caller's.

        Raises:
            MissingError: It is not, or there is no such thing.
            DeniedError: It is the platform's, and more than looking is asked.
        """
        own = self._resources.on_behalf_of(call_of(context))
        caller, named = own.call.caller, at_path(request, rule.path)
        if not named:
            # Whether something has to be named is for the request's own rules to say.
            return
        if rule.scope is Scope.ORGANIZATION:
            await _check_organization(own, named)
            return
        for kind in _kinds(rule, request, own, named):
            record = await own.record(own.kinds[kind], named)
            if rule.permission != "can_view" and not caller.may_write(record.org_id):
                raise DeniedError(_refusal(rule, caller))


_LOOKED_UP = frozenset({Scope.RESOURCE, Scope.ORGANIZATION})


def _check_role(rule: Rule, caller: Caller, request: Any) -> None:
    """Raises: DeniedError."""
    kinds = [""] if request is None or not rule.kind_path else _named_kinds(request, rule.kind_path)
    for kind in kinds or [""]:
        if caller.role not in rule.roles(kind):
            raise DeniedError(_refusal(rule, caller, kind))


def _named_kinds(request: Any, path: str) -> list[str]:
    """Return the kinds that a request names by number, as far as there are such."""
    value = at_path(request, path)
    return [_NAMES[number] for number in ([value] if isinstance(value, int) else value) if number in _NAMES]


def _kinds(rule: Rule, request: Any, resources: Resources, id: str) -> list[str]:
    """Return the kind of the resource that the request names."""
    if rule.kind != ANY:
        return [rule.kind] if rule.kind in resources.kinds else []
    named = _named_kinds(request, rule.kind_path) if rule.kind_path else []
    kinds = named or [kind.enum_name for kind in descriptors.KINDS if kind.id_prefix == id.partition("-")[0]]
    return [kind for kind in kinds if kind in resources.kinds]


async def _check_organization(resources: Resources, named: str) -> None:
    """Make sure that the organization, given by slug or id, is the caller's. Raises: MissingError."""
    if named == resources.call.caller.org:
        return
    try:
        await resources.record(resources.kinds["organization"], named)
    except MissingError:
        raise MissingError.of("Organization", named) from None


def _refusal(rule: Rule, caller: Caller, kind: str = "") -> str:
    if rule.message:
        return rule.message
    kind = kind or rule.kind
    verb, is_verb = rule.permission.removeprefix("can_").replace("_", " "), rule.permission.startswith("can_")
    what = verb if is_verb else "do this"
    on = "" if kind in (ANY, "platform") or not is_verb else f" {kind.replace('_', ' ')} resources"
    who = " or ".join(sorted(role.value for role in rule.roles(kind)))
    return f"{caller.id} is {_article(caller.role)} and may not {what}{on} here; that is for: {who}"


def _article(role: Role) -> str:
    return f"{'an' if role.value[0] in 'aeio' else 'a'} {role.value}"


_NAMES = {kind.number: kind.enum_name for kind in descriptors.KINDS}
