"""The OpenAPI document of the server, made from the routes and the descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from stigmer_grpc import StatusCode
from stigmer_protos import descriptors

from stigmer_server.http import cloud_events, event_stream, patches, uploads
from stigmer_server.http.bodies import JSON
from stigmer_server.http.downloads import chunk_of, media_type_of
from stigmer_server.http.problems import MEDIA_TYPE as PROBLEM
from stigmer_server.http.problems import STATUS
from stigmer_server.http.routes import WHOLE, Route, collection
from stigmer_server.http.schemas import Schema, Schemas, is_required

_RESOURCE_FIELDS: Mapping[str, str] = {"ResourceList": "entries", "Resource": "resource", "WatchEvent": "state"}
"""Answers about resources of any kind, and the field that holds them: where the path says which, so does the schema."""

_OPTIONS = {
    "pretty": "Indent the answer.",
    "dry_run": "Keep nothing of what the call does; the answer says what would have been.",
    "force": "Delete what depends on the resource too.",
}
_HEADERS = {
    "x-request-id": "Names the request in the answer and in the server's log.",
    "grpc-timeout": "How long to wait: up to eight digits and one of H M S m u n, such as 5S.",
}
_IDEMPOTENCY = "x-stigmer-idempotency-key"

_DESCRIPTION = """\
The API of one Stigmer server: agents, workflows and what belongs to them, and the executions that run them.

Every method is at `POST /rpc/<service>/<method>`, and the methods of each kind of resource have paths of their own
below `/v1`. Requests and answers are proto-JSON; names of fields are taken in camelCase and in snake_case. Errors are
problem details (RFC 9457) with the code of gRPC.
"""


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of routes."""
    schemas = Schemas(descriptors.comments())
    paths: dict[str, dict[str, Any]] = {}
    taken: dict[str, int] = {}
    tags: dict[str, None] = {}
    for route in sorted(routes, key=lambda route: (route.is_rpc, route.path, route.verb)):
        if not route.method.implemented:
            continue
        operation = _Operation(route, schemas).described()
        name = operation["operationId"]
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            operation["operationId"] = f"{name}.{taken[name]}"
        tags.update(dict.fromkeys(operation["tags"]))
        paths.setdefault(route.path, {})[route.verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stigmer",
            "version": version("stigmer-server"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _problem(), **schemas.made},
            "responses": {
                "Problem": {
                    "description": "The request failed.",
                    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "parameters": {name: _header(name, told) for name, told in _HEADERS.items()}
            | {_IDEMPOTENCY: _header(_IDEMPOTENCY, "Names a creation: repeated, it returns what the first one made.")}
            | {name: _option(name, told) for name, told in _OPTIONS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token or an API key."}
            },
        },
    }


class _Operation:
    """One way to call one method, as the document describes it."""

    def __init__(self, route: Route, schemas: Schemas) -> None:
        self._route = route
        self._schemas = schemas
        self._request = route.method.descriptor.input_type
        self._answer = route.method.descriptor.output_type

    def described(self) -> dict[str, Any]:
        """Return the operation."""
        route = self._route
        comment = self._schemas.comment(f"{route.method.service}.{route.method.name}")
        operation: dict[str, Any] = {
            "operationId": self._id(),
            "tags": [self._tag()],
            "summary": re.split(r"(?<=[.;])\s", comment, maxsplit=1)[0].rstrip("."),
            "description": " ".join(filter(None, [comment.replace("\n", "\n\n"), self._permission()])),
            "parameters": self._parameters(),
            "responses": {
                **{status: self._success(status) for status in self._statuses()},
                "default": {"$ref": "#/components/responses/Problem"},
            },
        }
        if route.body is not None:
            operation["requestBody"] = {"required": True, "content": self._content()}
        if descriptors.is_public(route.method.descriptor):
            operation["security"] = []
        return operation

    def _id(self) -> str:
        route = self._route
        if route.is_rpc:
            return f"rpc.{route.method.path[1:].replace('/', '.')}"
        owner = collection(route.kind) if route.kind is not None else route.method.service.rpartition(".")[2]
        return f"{owner}.{'patch' if route.verb == 'PATCH' else route.method.name}"

    def _tag(self) -> str:
        route = self._route
        if route.is_rpc:
            return "RPC"
        return route.kind.display_name if route.kind is not None else route.method.service.split(".")[2].title()

    def _permission(self) -> str:
        asked = descriptors.method_authorization(self._route.method.descriptor)
        if asked is None:
            return ""
        whose = f" on the {asked.resource_kind.display_name.lower()}" if asked.resource_kind is not None else ""
        return f"Asks for the permission `{asked.permission}`{whose}."

    def _parameters(self) -> list[Schema]:
        route = self._route
        shared = ["x-request-id", "grpc-timeout"]
        if not route.method.server_streaming:
            shared.append("pretty")
        if route.verb != "GET":
            shared.append("dry_run")
        if route.verb == "DELETE" and "force" not in self._request.fields_by_name:
            shared.append("force")
        if route.method.name == "create":
            shared.append(_IDEMPOTENCY)
        return [
            *(self._variable(name) for name in re.findall(r"\{(\w+)\}", route.path)),
            *self._query(),
            *({"$ref": f"#/components/parameters/{name}"} for name in shared),
        ]

    def _variable(self, name: str) -> Schema:
        route = self._route.through or self._route
        descriptor, described = (route.method.descriptor.input_type, route.fields[name])
        *parents, last = described.split(".")
        for parent in parents:
            descriptor = descriptor.fields_by_name[parent].message_type
        schema = {**self._schemas.field(descriptor.fields_by_name[last]), "minLength": 1}
        told = schema.pop("description", "")
        return {"name": name, "in": "path", "required": True, "schema": schema, "description": told}

    def _query(self) -> list[Schema]:
        route = self._route
        if route.through is not None:
            route = route.through
        request = route.method.descriptor.input_type
        if route.method.client_streaming:
            shape = uploads.shape_of(request)
            if shape is None or shape.header.message_type is None:
                return []
            said = {path.rpartition(".")[2] for path in route.fields.values()}
            return [self._parameter(field) for field in shape.header.message_type.fields if field.name not in said]
        if route.body is not None:
            return []
        said = {path.partition(".")[0] for path in route.fields.values()} | set(route.preset)
        return [self._parameter(field) for field in request.fields if field.name not in said]

    def _parameter(self, field: FieldDescriptor) -> Schema:
        schema = self._schemas.field(field)
        parameter: Schema = {"name": field.name, "in": "query", "description": schema.pop("description", "")}
        if field.message_type is not None and not field.message_type.full_name.startswith("google."):
            parameter |= {"style": "deepObject", "explode": True}
        if is_required(field):
            parameter["required"] = True
        return {**parameter, "schema": schema}

    def _content(self) -> dict[str, Any]:
        route = self._route
        if route.method.client_streaming:
            return self._upload()
        if route.verb == "PATCH":
            return {patches.MEDIA_TYPE: {"schema": {"type": "object", "description": "A merge patch (RFC 7396)."}}}
        if route.body != WHOLE:
            return {JSON: {"schema": self._schemas.field(self._request.fields_by_name[route.body])}}
        schema = self._schemas.reference(self._request)
        said = {path for path in route.fields.values() if "." not in path} | set(route.preset)
        if said:
            schema = self._without(schema, said)
        if route.method.path == cloud_events.PUBLISH and not route.is_rpc:
            event: Schema = {"type": "object", "required": ["id", "source", "specversion", "type"]}
            several: Schema = {"type": "array", "items": event}
            return {
                JSON: {"schema": schema},
                cloud_events.EVENT: {"schema": event},
                cloud_events.BATCH: {"schema": several},
            }
        return {JSON: {"schema": schema}}

    def _without(self, schema: Schema, names: set[str]) -> Schema:
        """Return the schema of the request without what the path says already."""
        whole = self._schemas.made[schema["$ref"].rpartition("/")[2]]
        fields = [field for field in self._request.fields if field.name not in names]
        return {
            "type": "object",
            "properties": {field.json_name: whole["properties"][field.json_name] for field in fields},
            "required": [field.json_name for field in fields if is_required(field)],
            "additionalProperties": False,
        }

    def _upload(self) -> dict[str, Any]:
        message = self._schemas.reference(self._request)
        lines = {"schema": {"type": "string", "description": "One message a line."}, "x-item-schema": message}
        if uploads.shape_of(self._request) is None:
            return {uploads.LINES: lines}
        form: Schema = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
        return {**{name: {} for name in uploads.ARCHIVES}, uploads.FORM: {"schema": form}, uploads.LINES: lines}

    def _statuses(self) -> list[str]:
        """Return how the success of the operation is told; a creation that is not kept made nothing."""
        creates = self._route.method.name == "create" and not self._route.is_rpc
        return ["201", "200"] if creates else ["200"]

    def _success(self, status: str) -> Schema:
        route = self._route
        if route.method.server_streaming and not route.is_rpc and chunk_of(self._answer) is not None:
            return {"description": "The file.", "content": {media_type_of(self._answer): {}}}
        schema = self._answer_schema()
        if route.method.server_streaming:
            told = "Server-sent events; the data of each is one answer, as `x-item-schema` says."
            content = {event_stream.MEDIA_TYPE: {"schema": {"type": "string"}, "x-item-schema": schema}}
            return {"description": told, "content": content}
        headers = {"x-request-id": {"schema": {"type": "string"}}}
        if status == "201":
            headers["location"] = {"schema": {"type": "string"}}
        return {"description": "The answer.", "headers": headers, "content": {JSON: {"schema": schema}}}

    def _answer_schema(self) -> Schema:
        schema = self._schemas.reference(self._answer)
        kind, name = self._route.kind, _RESOURCE_FIELDS.get(self._answer.name)
        if kind is None or name is None or not kind.message:
            return schema
        whole = self._schemas.made[schema["$ref"].rpartition("/")[2]]
        resource = self._schemas.reference(descriptors.pool().FindMessageTypeByName(kind.message))
        several = self._answer.fields_by_name[name].is_repeated
        narrowed = {"type": "array", "items": resource} if several else resource
        return {**whole, "properties": {**whole["properties"], name: narrowed}}


def _header(name: str, told: str) -> Schema:
    return {"name": name, "in": "header", "description": told, "schema": {"type": "string"}}


def _option(name: str, told: str) -> Schema:
    return {"name": name, "in": "query", "description": told, "schema": {"type": "boolean"}}


def _problem() -> Schema:
    violation: Schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("field", "rule", "message")},
        "required": ["field", "rule", "message"],
    }
    codes = [code.name for code in StatusCode if code in STATUS]
    return {
        "type": "object",
        "description": "Problem details as in RFC 9457.",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "code": {"type": "string", "enum": codes, "description": "The code of gRPC."},
            "requestId": {"type": "string"},
            "violations": {"type": "array", "items": violation, "description": "The fields at fault."},
            "details": {"type": "array", "items": {"type": "object"}, "description": "More, of the types they name."},
        },
        "required": ["type", "title", "status", "detail", "code"],
    }
