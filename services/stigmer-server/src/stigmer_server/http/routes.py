"""Which request is which RPC: the one map from paths to methods, made from the descriptors.

`TABLE` and its neighbours say where a method of some name goes; everything else follows by rule, so a kind or a method
that the contract adds has its paths without a word here:

- A kind's collection is its name in kebab case and the plural: `workflow_execution` is at `/v1/workflow-executions`.
- A method that no table names is `:name` of the resource whose id it takes, else `:name` of the collection. It is GET
  when it belongs to a query service and its request fits into a query string, else POST.
- Every method at all is POST `/rpc/<service>/<method>`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from stigmer_grpc import Method, Service
from stigmer_protos import descriptors

WHOLE = "*"
"""The body of a request is the whole message."""
ANY_ORG = "-"
"""Stands in a path for no organization in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the path space a method goes."""

    verb: str
    path: str
    """Below `/v1`; `{kinds}` is the kind's collection, every other brace a variable."""
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variable to the field of the request that it fills, where the names differ; "" is the request's id."""
    body: str | None = None
    """The field that the body is; None for a request without one."""
    through: str = ""
    """The method of the same kind that finds the resource which the request is about, before it can be made."""


TABLE: Mapping[str, Sequence[Place]] = {
    "create": [Place(verb="POST", path="/{kinds}", body=WHOLE)],
    "apply": [
        Place(
            verb="PUT",
            path="/orgs/{org}/{kinds}/{slug}",
            fields={"org": "metadata.org", "slug": "metadata.slug"},
            body=WHOLE,
        ),
        Place(verb="POST", path="/{kinds}:apply", body=WHOLE),
    ],
    "update": [
        Place(verb="PUT", path="/{kinds}/{id}", fields={"id": "metadata.id"}, body=WHOLE),
        Place(verb="PATCH", path="/{kinds}/{id}", fields={"id": "metadata.id"}, body=WHOLE, through="get"),
    ],
    "updateStatus": [Place(verb="PUT", path="/{kinds}/{id}/status", fields={"id": ""}, body="status")],
    "delete": [Place(verb="DELETE", path="/{kinds}/{id}", fields={"id": ""})],
    "get": [Place(verb="GET", path="/{kinds}/{id}", fields={"id": ""})],
    "getByReference": [Place(verb="GET", path="/orgs/{org}/{kinds}/{slug}")],
    "subscribe": [Place(verb="GET", path="/{kinds}/{id}/events", fields={"id": ""})],
    "getOutput": [Place(verb="GET", path="/{kinds}/{id}/output", fields={"id": ""})],
    "follow": [Place(verb="GET", path="/{kinds}/{id}/words", fields={"id": ""})],
    "pushParts": [Place(verb="POST", path="/{kinds}", body=WHOLE)],
    "getArtifactParts": [
        Place(verb="GET", path="/{kinds}/{id}/artifact", through="get"),
        Place(verb="GET", path="/orgs/{org}/{kinds}/{slug}/artifact", through="getByReference"),
        Place(verb="GET", path="/{kinds}:download"),
    ],
}
"""Methods of the services that belong to a kind."""

OF_EVERY_KIND: Mapping[str, Sequence[Place]] = {
    "ai.stigmer.resources.v1.ResourceController.list": [Place(verb="GET", path="/{kinds}")],
    "ai.stigmer.resources.v1.ResourceController.listRevisions": [Place(verb="GET", path="/{kinds}/{id}/revisions")],
    "ai.stigmer.resources.v1.ResourceController.getRevision": [
        Place(verb="GET", path="/{kinds}/{id}/revisions/{version}")
    ],
    "ai.stigmer.resources.v1.ResourceController.watch": [
        Place(verb="GET", path="/{kinds}:watch"),
        Place(verb="GET", path="/{kinds}/{id}:watch"),
    ],
    "ai.stigmer.resources.v1.ResourceCommandController.rollback": [
        Place(verb="POST", path="/{kinds}/{id}:rollback", body=WHOLE)
    ],
}
"""Methods that serve resources of any kind; the path says which, so the request's own field for it is filled."""

OF_NO_KIND: Mapping[str, Sequence[Place]] = {
    "ai.stigmer.events.v1.EventController.publish": [Place(verb="POST", path="/orgs/{org}/events", body=WHOLE)],
    "ai.stigmer.events.v1.EventController.list": [Place(verb="GET", path="/orgs/{org}/events")],
    "ai.stigmer.events.v1.EventController.subscribe": [Place(verb="GET", path="/orgs/{org}/events:subscribe")],
    "ai.stigmer.files.v1.FileCommandController.put": [
        Place(
            verb="PUT",
            path="/sessions/{id}/files/{path}",
            fields={"id": "header.session_id", "path": "header.path"},
            body=WHOLE,
        )
    ],
    "ai.stigmer.files.v1.FileCommandController.delete": [
        Place(verb="DELETE", path="/sessions/{id}/files/{path}", fields={"id": "session_id"})
    ],
    "ai.stigmer.files.v1.FileQueryController.list": [
        Place(verb="GET", path="/sessions/{id}/files", fields={"id": "resource_id"}),
        Place(verb="GET", path="/agent-executions/{id}/files", fields={"id": "resource_id"}),
    ],
    "ai.stigmer.files.v1.FileQueryController.get": [
        Place(verb="GET", path="/sessions/{id}/files/{path}", fields={"id": "resource_id"}),
        Place(verb="GET", path="/agent-executions/{id}/files/{path}", fields={"id": "resource_id"}),
    ],
    "ai.stigmer.operations.v1.ServerController.getStatus": [Place(verb="GET", path="/server/status")],
    "ai.stigmer.resources.v1.ResourceController.watch": [Place(verb="GET", path="/resources:watch")],
}
"""Methods that belong to no kind; what is not here is reached below `/rpc` only."""

SHORT: Mapping[str, str] = {
    "sendSignal": "signal",
    "submitApproval": "approve",
    "submitWorkflowTaskApproval": "approve",
}
"""What methods are called in paths, where that is shorter."""

RESOURCES = "ai.stigmer.resources.v1."
"""What the services for resources of any kind are called first."""
_ID_FIELDS = ("id", "execution_id", "resource_id")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """One way to call one method."""

    verb: str
    """GET, POST, PUT, PATCH or DELETE."""
    path: str
    """The template, such as `/v1/agents/{id}`; every variable is one segment, the verb after a colon is not of it."""
    method: Method
    fields: Mapping[str, str]
    """Variable of the path to the path of the field that it fills."""
    preset: Mapping[str, Any]
    """Fields that the path itself says, as proto-JSON by their names."""
    body: str | None
    """`*` for the whole request, the name of a field, or None."""
    kind: descriptors.Kind | None
    """The kind whose collection the path begins with."""
    through: Route | None = None
    """The route, with the same variables, of the method that finds the resource that this one is about."""

    @property
    def is_rpc(self) -> bool:
        """Whether this is the plain way, by the names of service and method."""
        return self.path.startswith("/rpc/")


def routes(services: Iterable[Service], kinds: Collection[str]) -> Iterator[Route]:
    """Yield every route to the methods of services.

    Args:
        services: What the server serves.
        kinds: Names of the kinds (`workflow_execution`) whose resources the server keeps.
    """
    services = tuple(services)
    methods = {method.path: method for service in services for method in service.methods.values()}
    for service in services:
        for method in service.methods.values():
            path = f"/rpc{method.path}"
            yield Route(verb="POST", path=path, method=method, fields={}, preset={}, body=WHOLE, kind=None)
            yield from _resource_routes(method, kinds, methods)


def collection(kind: descriptors.Kind) -> str:
    """Return the name of a kind's collection: `workflow-executions`, `iam-policies`."""
    name = kind.enum_name.replace("_", "-")
    return re.sub(r"([^aeiou])y$", r"\1ie", name) + "s"


def _resource_routes(method: Method, kinds: Collection[str], methods: Mapping[str, Method]) -> Iterator[Route]:
    full_name = f"{method.service}.{method.name}"
    kind = descriptors.service_kind(method.service)
    if kind is not None:
        for place in _places(method, kind):
            yield from _of_kind(method, place, kind, methods)
    for place in OF_NO_KIND.get(full_name, ()):
        yield _route(method, place, None, {})
    for each in descriptors.KINDS:
        if each.enum_name in kinds:
            for place in OF_EVERY_KIND.get(full_name, ()):
                yield _route(method, place, each, _kind_field(method, each))


def _places(method: Method, kind: descriptors.Kind) -> Sequence[Place]:
    places = TABLE.get(method.name, ())
    if kind.enum_name == "organization":
        # It belongs to no organization, and has its own slug where others have that of theirs.
        places = [place for place in places if not place.path.startswith("/orgs/")]
    if any("" in place.fields.values() for place in places) and _id_field(method, kind) is None:
        places = ()
    return places or [_by_rule(method, kind)]


def _of_kind(method: Method, place: Place, kind: descriptors.Kind, methods: Mapping[str, Method]) -> Iterator[Route]:
    preset = {"kind": kind.enum_name} if _refers(method) else {}
    route = _route(method, place, kind, preset)
    if not place.through:
        yield route
        return
    for finder in methods.values():
        if finder.name == place.through and finder.service in kind.services:
            for through in _of_kind(finder, TABLE[place.through][0], kind, methods):
                own: Mapping[str, str] = {} if place.verb == "GET" else route.fields
                yield replace(route, fields=own, through=through)


def _route(method: Method, place: Place, kind: descriptors.Kind | None, preset: Mapping[str, Any]) -> Route:
    path = f"/v1{place.path}".replace("{kinds}", collection(kind) if kind else "")
    names = re.findall(r"\{(\w+)\}", path)
    filled = {name: place.fields.get(name, name) or _id_field(method, kind) or "" for name in names}
    body = place.body
    return Route(verb=place.verb, path=path, method=method, fields=filled, preset=preset, body=body, kind=kind)


def _by_rule(method: Method, kind: descriptors.Kind) -> Place:
    name, id_field = SHORT.get(method.name, method.name), _id_field(method, kind)
    path = f"/{{kinds}}/{{id}}:{name}" if id_field else f"/{{kinds}}:{name}"
    fields = {"id": id_field} if id_field else {}
    if method.service.endswith("QueryController") and is_flat(method.descriptor.input_type):
        return Place(verb="GET", path=path, fields=fields)
    return Place(verb="POST", path=path, fields=fields, body=WHOLE)


def _id_field(method: Method, kind: descriptors.Kind | None) -> str | None:
    """Return the field in which a method takes the id of a resource of its kind, if it does."""
    request: Descriptor = method.descriptor.input_type
    if kind is not None and request.name in (f"{kind.name}Id", "ApiResourceId"):
        return "value"
    if "kind" in request.fields_by_name:
        return None  # It names resources of any kind.
    return next((name for name in _ID_FIELDS if name in request.fields_by_name), None)


def _refers(method: Method) -> bool:
    return method.descriptor.input_type.name == "ApiResourceReference"


def _kind_field(method: Method, kind: descriptors.Kind) -> dict[str, Any]:
    one = "kind" in method.descriptor.input_type.fields_by_name
    return {"kind": kind.enum_name} if one else {"kinds": [kind.enum_name]}


def is_flat(request: Descriptor) -> bool:
    """Whether a request fits into a query string: scalars, lists of them, and messages of scalars."""
    return all(_is_flat(each, 0) for each in request.fields)


def _is_flat(each: FieldDescriptor, depth: int) -> bool:
    if each.message_type is None:
        return True
    if each.message_type.GetOptions().map_entry:
        return _is_flat(each.message_type.fields_by_name["value"], depth + 1)
    own = each.message_type.full_name.startswith("ai.stigmer.")
    return own and not each.is_repeated and depth == 0 and all(_is_flat(inner, 1) for inner in each.message_type.fields)


class _Node:
    """What is known of paths that begin alike."""

    __slots__ = ("ends", "literals", "variable")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.ends: dict[str, dict[str, Route]] = {}
        """By what follows the colon ("" without one), then by HTTP verb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The routes of a path, and what its variables are."""

    routes: Mapping[str, Route]
    """By HTTP verb; never empty."""
    variables: Sequence[str]
    """In the order of the template, as in the path: still percent-encoded."""


class Router:
    """Finds routes by path, in time that does not grow with their number."""

    def __init__(self, all_routes: Iterable[Route]) -> None:
        """Take the routes. Raises: ValueError: two of them are for the same requests."""
        self._root = _Node()
        for route in all_routes:
            node = self._root
            *segments, last = route.path.split("/")[1:]
            last, _, name = last.partition(":")
            for segment in (*segments, last):
                node = self._step(node, segment)
            if route.verb in node.ends.setdefault(name, {}):
                msg = f"{route.verb} {route.path} is there twice"
                raise ValueError(msg)
            node.ends[name][route.verb] = route

    def find(self, raw_path: str) -> Match | None:
        """Return what answers to a path, as it came: percent-encoded, so that %2F is not taken for a slash."""
        *segments, last = raw_path.split("/")[1:] or [""]
        node, variables = self._walk(segments)
        if node is None:
            return None
        value, _, name = last.rpartition(":")
        # A colon is part of the value unless what follows is the name of something.
        for segment, suffix in ((value, name), (last, "")) if value else ((last, ""),):
            end, extra = self._enter(node, segment)
            if end is not None and suffix in end.ends:
                return Match(routes=end.ends[suffix], variables=(*variables, *extra))
        return None

    def _walk(self, segments: Sequence[str]) -> tuple[_Node | None, list[str]]:
        node: _Node | None = self._root
        variables: list[str] = []
        for segment in segments:
            node, extra = self._enter(node, segment)
            if node is None:
                break
            variables.extend(extra)
        return node, variables

    @staticmethod
    def _enter(node: _Node, segment: str) -> tuple[_Node | None, tuple[str, ...]]:
        known = node.literals.get(segment)
        if known is not None:
            return known, ()
        return (node.variable, (segment,)) if segment else (None, ())

    @staticmethod
    def _step(node: _Node, segment: str) -> _Node:
        if not segment.startswith("{"):
            return node.literals.setdefault(segment, _Node())
        if node.variable is None:
            node.variable = _Node()
        return node.variable
