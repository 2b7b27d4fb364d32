"""What each method asks of its caller: read from the contract's options, and for the rest said here.

The contract names a permission, and where in the request the resource is that it is asked on. Some methods say that
they decide themselves whom they tell what, and some say nothing; each of these has a line in `_SAID_HERE`. One that has
neither is the operator's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from stigmer_protos import descriptors

from stigmer_server.access.roles import ANY, CAN_VIEW, Role, holders

_IDS = ("id", "value", "resource_id", "execution_id")
"""Fields that hold the id of the one resource that a request is about."""


class Scope(Enum):
    """How it is seen to that a caller gets at resources of its own organization only."""

    VERB = "verb"
    """By the verb, which reads the resource anyway, or lists what the caller may see."""
    RESOURCE = "resource"
    """Before the verb, which does not look whose the resource is."""
    ORGANIZATION = "organization"
    """Before the verb: the request names an organization."""
    NONE = "none"
    """There is nothing of an organization's in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a method asks of its caller."""

    permission: str
    """Empty: nothing but to be somebody."""
    kind: str = ANY
    """The kind of resource that the permission is asked on; ANY where the request or the id tells."""
    kind_path: str = ""
    """Field of the request that holds the number of the kind, or several."""
    path: str = ""
    """Where in the request the id, or the organization, is."""
    scope: Scope = Scope.VERB
    message: str = ""
    """What a refused caller is told; empty for the general message."""

    def roles(self, kind: str = "") -> frozenset[Role]:
        """Return who may call the method, on a resource of the kind."""
        return holders(self.permission, kind or self.kind) if self.permission else frozenset(Role)


def _view(kind: str = ANY, *, kind_path: str = "") -> Rule:
    return Rule(permission=CAN_VIEW, kind=kind, kind_path=kind_path)


_ANYBODY = Rule(permission="", scope=Scope.NONE)
_OPERATOR = Rule(permission="operator", kind="platform", scope=Scope.NONE)
_RUNNER = Rule(permission="runner", kind="platform", scope=Scope.NONE)
_APPLY, _CREATE, _RUN, _REPORT = "can_edit", "can_create_instance", "can_create_execution_in", "can_report"

_SAID_HERE: Mapping[str, Rule] = {
    # Commands that the contract leaves open: the resource is put into the caller's organization.
    "agent/apply": Rule(permission=_APPLY, kind="agent"),
    "agent_instance/apply": Rule(permission=_APPLY, kind="agent_instance"),
    "environment/apply": Rule(permission=_APPLY, kind="environment"),
    "mcp_server/apply": Rule(permission=_APPLY, kind="mcp_server"),
    "session/apply": Rule(permission=_APPLY, kind="session"),
    "workflow/apply": Rule(permission=_APPLY, kind="workflow"),
    "workflow_instance/apply": Rule(permission=_APPLY, kind="workflow_instance"),
    "execution_context/apply": _OPERATOR,
    "agent_instance/create": Rule(permission=_CREATE, kind="agent"),
    "workflow_instance/create": Rule(permission=_CREATE, kind="workflow"),
    "environment/create": Rule(permission=_APPLY, kind="environment"),
    "mcp_server/create": Rule(permission=_APPLY, kind="mcp_server"),
    "agent_execution/create": Rule(permission=_RUN, kind="agent"),
    "workflow_execution/create": Rule(permission=_RUN, kind="workflow"),
    "skill/pushParts": Rule(permission="can_create_skill", kind="organization"),
    # What runners do with executions, beside people: less than changing them at will.
    "agent_execution/updateStatus": Rule(permission=_REPORT, kind="agent_execution"),
    "agent_execution/tell": Rule(permission=_REPORT, kind="agent_execution"),
    "agent_execution/cancel": Rule(permission=_REPORT, kind="agent_execution"),
    "agent_execution/terminate": Rule(permission=_REPORT, kind="agent_execution"),
    "workflow_execution/updateStatus": Rule(permission=_REPORT, kind="workflow_execution"),
    "workflow_execution/cancel": Rule(permission=_REPORT, kind="workflow_execution"),
    "workflow_execution/terminate": Rule(permission=_REPORT, kind="workflow_execution"),
    "ExecutionRuntimeController/getWorkflowRun": Rule(permission=_REPORT, kind="workflow_execution"),
    # Queries: each finds only what the caller may see.
    "agent/getByReference": _view("agent"),
    "agent_instance/getByReference": _view("agent_instance"),
    "environment/getByReference": _view("environment"),
    "mcp_server/getByReference": _view("mcp_server"),
    "skill/getByReference": _view("skill"),
    "workflow/getByReference": _view("workflow"),
    "workflow_instance/getByReference": _view("workflow_instance"),
    "agent_execution/list": _view("agent_execution"),
    "agent_execution/listBySession": _view("agent_execution"),
    "agent_instance/getByAgent": _view("agent_instance"),
    "session/list": _view("session"),
    "session/listByAgent": _view("session"),
    "workflow_execution/list": _view("workflow_execution"),
    "workflow_execution/listByWorkflow": _view("workflow_execution"),
    "workflow_instance/getByWorkflow": _view("workflow_instance"),
    "skill/getArtifact": _view("skill"),
    "skill/getArtifactParts": _view("skill"),
    "ResourceController/list": _view(kind_path="kind"),
    "ResourceController/watch": _view(kind_path="kinds"),
    "ServerController/getStatus": _ANYBODY,
    # Organizations and keys. A caller belongs to one organization, so the operator makes them.
    "organization/apply": Rule(permission="can_edit", kind="organization"),
    "organization/create": _OPERATOR,
    "organization/find": _view("organization"),
    "organization/findMyOrganizations": _view("organization"),
    "api_key/create": Rule(permission="can_edit", kind="api_key"),
    "api_key/findAll": Rule(permission="", scope=Scope.VERB),
    "api_key/getByKeyHash": _OPERATOR,
    # What this server does not have, and says so.
    "identity_account/whoAmI": _ANYBODY,
    "identity_account/getActorInfo": Rule(permission=CAN_VIEW, kind="identity_account", scope=Scope.VERB),
    "identity_account/simulateSignupWebhook": _OPERATOR,
    "iam_policy/checkAuthorization": Rule(permission="can_view_access", scope=Scope.NONE),
    # Declared, but for others than the contract can say: what runners alone may do, and what is no resource.
    "ExecutionRuntimeController/issueToken": _RUNNER,
    "ExecutionRuntimeController/getEnvironment": _RUNNER,
    "ExecutionRuntimeController/saveCheckpoint": _RUNNER,
    "ExecutionRuntimeController/putValue": _RUNNER,
    "ExecutionRuntimeController/getValue": _RUNNER,
    "FileCommandController/put": Rule(permission=_REPORT, kind="session"),
    "FileCommandController/delete": Rule(permission=_REPORT, kind="session"),
    "EventListenerController/receive": _RUNNER,
    "ScheduleController/fire": _RUNNER,
    "EventController/publish": Rule(permission="can_edit", kind="event", path="org", scope=Scope.ORGANIZATION),
}

_CHECKED_BY_VERB = frozenset(
    {
        *(
            "get",
            "update",
            "delete",
            "subscribe",
            "follow",
            "updateStatus",
            "cancel",
            "terminate",
            "pause",
            "resume",
            "recover",
        ),
        *(
            "sendSignal",
            "sendMessage",
            "fork",
            "submitApproval",
            "submitWorkflowTaskApproval",
            "listRevisions",
            "getRevision",
            "rollback",
        ),
        *("create", "push", "getOutput"),
    }
)
"""Methods of kinds, and of resources of any kind, whose verbs read the resource on behalf of their caller."""
_ANY_KIND = "ai.stigmer.resources."


def name_of(method: MethodDescriptor) -> str:
    """Return the short name of a method: its kind, or else its service, and its name."""
    service = method.containing_service
    kind = descriptors.service_kind(service.full_name)
    return f"{kind.enum_name if kind is not None else service.name}/{method.name}"


def rule_of(method: MethodDescriptor) -> Rule:
    """Return what a method asks of its caller."""
    if descriptors.is_public(method):
        return _ANYBODY
    if (said := _SAID_HERE.get(name_of(method))) is not None:
        return said
    declared = descriptors.method_authorization(method)
    if declared is None:
        return _OPERATOR
    kind = declared.resource_kind.enum_name if declared.resource_kind is not None else ANY
    rule = Rule(
        permission=declared.permission, kind=kind, kind_path=declared.resource_kind_path, message=declared.error_msg
    )
    if declared.resource_id or not (declared.field_path or declared.resource_kind_path):
        return replace(rule, scope=Scope.NONE)
    service = method.containing_service.full_name
    of_kind = descriptors.service_kind(service) is not None or service.startswith(_ANY_KIND)
    if of_kind and method.name in _CHECKED_BY_VERB:
        return rule
    path = _id_path(method.input_type, declared.field_path)
    if not path:
        return _OPERATOR
    return replace(rule, path=path, scope=Scope.ORGANIZATION if kind == "organization" else Scope.RESOURCE)


def _id_path(request: Descriptor, declared: str) -> str:
    """Return where the request has the id: where the contract says, or, should it have no such field, where it does."""
    if declared and _is_text(request, declared):
        return declared
    return next((name for name in _IDS if _is_text(request, name)), "")


def _is_text(request: Descriptor, path: str) -> bool:
    """Tell whether the request has a text at the path."""
    first, _, rest = path.partition(".")
    field = request.fields_by_name.get(first)
    if field is None or field.is_repeated:
        return False
    if not rest:
        return field.type == FieldDescriptor.TYPE_STRING
    return field.message_type is not None and _is_text(field.message_type, rest)
