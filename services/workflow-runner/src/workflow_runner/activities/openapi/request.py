"""What is sent for an operation with certain values: its request, checked by the document."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from jsonschema.exceptions import SchemaError as SchemaFormError
from jsonschema.exceptions import UnknownType
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.problems import did_you_mean
from stigmer_dsl.schemas import violations

from workflow_runner.activities.bodies import FORM, JSON, MULTIPART, check_headers, decoded, encode
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.openapi.bundle import Document
from workflow_runner.activities.openapi.operation import Body, Operation, Parameter
from workflow_runner.activities.openapi.styles import in_cookie, in_header, in_path, in_query, plain

_DRAFT_4 = "http://json-schema.org/draft-04/schema#"
_MOST_TOLD = 10
_UNFILLED = re.compile(r"\{[^{}]*\}")
_TEXTUAL = re.compile(r"text/|.*[/+](json|xml|yaml)$|application/(javascript|graphql)$")
_UNFOLLOWABLE = (SchemaFormError, UnknownType, re.error, TypeError, AttributeError, ValueError, KeyError)
"""How checking fails where the schema itself is wrong: nothing is checked then, and the server has the last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None


def build(document: Document, operation: Operation, given: Mapping[str, Any]) -> Request:
    """Return the request of an operation with the parameters that are given; null is as good as not given.

    Raises:
        CallFailedError: One is missing, unknown or not what its schema says; tells all of them.
    """
    values = {name: value for name, value in given.items() if value is not None}
    problems: list[str] = []
    path, query, cookies = operation.path, list[str](), list[str]()
    headers: dict[str, str] = {"Accept": operation.accept} if operation.accept else {}
    taken: set[str] = set()
    for parameter in operation.parameters:
        taken.add(parameter.name)
        if parameter.name not in values:
            if parameter.required:
                problems.append(f"the parameter {parameter.name!r} in the {parameter.place} is missing")
            continue
        value = values[parameter.name]
        problems += _problems(document, parameter.schema, value, f"the parameter {parameter.name!r}", is_text=True)
        path = _place(parameter, value, path, query, headers, cookies)
    if not problems and (unsaid := _UNFILLED.search(path)):
        problems.append(f"its path names {unsaid[0]}, and no parameter is it")
    rest = {name: value for name, value in values.items() if name not in taken}
    content = None
    if operation.body is None:
        problems += [_unknown(name, operation) for name in rest]
    else:
        body = _body(document, operation, operation.body, rest, problems)
        if body is not None and not problems:
            headers["Content-Type"], content = _encoded(operation.body, body)
    if problems:
        told = "; ".join(problems[:_MOST_TOLD])
        raise CallFailedError("validation", f"the operation {operation.id!r} cannot be called so: {told}")
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    check_headers(headers)
    url = operation.server.rstrip("/") + path
    if query:
        url += ("&" if "?" in url else "?") + "&".join(query)
    return Request(method=operation.method, url=url, headers=headers, content=content)


def _place(
    parameter: Parameter, value: Any, path: str, query: list[str], headers: dict[str, str], cookies: list[str]
) -> str:
    """Put a value where it belongs, and return the path."""
    name, explode = parameter.name, parameter.explode
    written = json.dumps(value, ensure_ascii=False) if parameter.as_json else value
    if parameter.style == "tabDelimited" and isinstance(written, list):
        written = "\t".join(plain(item) for item in cast("list[Any]", written))
    match parameter.place:
        case "path":
            return path.replace(f"{{{name}}}", in_path(name, written, parameter.style, explode=explode))
        case "query":
            query += in_query(name, written, parameter.style, explode=explode, reserved=parameter.reserved)
        case "header":
            headers[name] = in_header(written, explode=explode)
        case "cookie":
            cookies += in_cookie(name, written, explode=explode)
    return path


def _body(document: Document, operation: Operation, body: Body, rest: Mapping[str, Any], problems: list[str]) -> Any:
    """Return the body: the parameter that is it, or the object of all parameters that stand nowhere else."""
    value: Any
    if body.name in rest and (len(rest) == 1 or body.name not in body.fields):
        problems += [_unknown(name, operation) for name in rest if name != body.name]
        value = rest[body.name]
    elif rest:
        value = {**rest}
        if body.fields and body.schema is None:
            problems += [_unknown(name, operation) for name in rest if name not in body.fields]
    elif body.required:
        problems.append(f"the body is missing; give it as {body.name!r}, or its properties by their names")
        return None
    else:
        return None
    if isinstance(value, dict) and body.kind.startswith((FORM, MULTIPART)):
        fields = cast("dict[str, Any]", value)
        problems += _form_problems(document, body, fields)
        # In the document's order: objects do not keep theirs on the way through history.
        order = [name for name in body.fields if name in fields]
        value = {name: fields[name] for name in dict.fromkeys([*order, *fields])}
    else:
        problems += _problems(document, body.schema, value, "the body")
    return cast("Any", value)


def _form_problems(document: Document, body: Body, fields: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a form: its fields are texts where they are sent, as parameters are."""
    problems = [f"the body lacks {name!r}" for name in sorted(body.needed - fields.keys())]
    for name, value in fields.items():
        if name in body.fields and name not in body.binary:
            problems += _problems(document, body.fields[name], value, f"the field {name!r}", is_text=True)
    return problems


def _encoded(body: Body, value: Any) -> tuple[str, bytes]:
    """Return a body as its type wants it. What is neither text nor form is given as base64."""
    kind = body.kind.partition(";")[0].strip().lower()
    if kind == JSON or kind.endswith("+json"):
        return body.kind, json.dumps(value, ensure_ascii=False).encode()
    if kind in (FORM, MULTIPART) or _TEXTUAL.match(kind):
        return encode(value, body.kind, binary=body.binary)
    return body.kind, decoded(value, "the body")


def _unknown(name: str, operation: Operation) -> str:
    known = {parameter.name for parameter in operation.parameters}
    if operation.body is not None:
        known |= {operation.body.name, *operation.body.fields}
    advice = did_you_mean(name, known, otherwise="see its document" if known else "it has none")
    return f"it has no parameter {name!r}; {advice}"


def _problems(document: Document, schema: str | None, value: Any, what: str, *, is_text: bool = False) -> list[str]:
    """Return what is wrong with a value; one that `is_text` where it is sent may be given as text or as it means."""
    if schema is None:
        return []
    found = _violations(document, schema, value, what)
    if found and is_text and any(not _violations(document, schema, other, what) for other in _readings(value)):
        return []
    return [f"{what}{pointer and f' at {pointer}'}: {message}" for pointer, message in found]


def _readings(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            return [json.loads(value)]
        except (ValueError, RecursionError):
            return []
    return [] if isinstance(value, (dict, list)) else [plain(value)]


def _violations(document: Document, schema: str, value: Any, what: str) -> list[tuple[str, str]]:
    whole = {**document.value, "$ref": f"#{schema}"}
    version = str(document.value.get("openapi") or "2")
    if version.startswith(("2", "3.0")):
        whole["$schema"] = _DRAFT_4
    try:
        return violations(whole, value, what)
    except WorkflowError as error:
        raise CallFailedError("configuration", error.detail) from None
    except _UNFOLLOWABLE:
        return []
