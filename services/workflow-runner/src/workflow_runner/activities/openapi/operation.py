"""One operation of an OpenAPI document of any version, in one form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from stigmer_dsl.problems import did_you_mean, pointer_to

from workflow_runner.activities.bodies import FORM, JSON, MULTIPART, OCTETS
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.openapi.bundle import Document, as_list, as_object
from workflow_runner.activities.openapi.servers import server_of

Place = Literal["path", "query", "header", "cookie"]

METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_PLACES = ("path", "query", "header", "cookie")
_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_COLLECTIONS = {"ssv": "spaceDelimited", "pipes": "pipeDelimited", "tsv": "tabDelimited"}
_SETTLED = frozenset({"accept", "content-type", "authorization"})
"""Headers that OpenAPI leaves to bodies, answers and security."""
_PREFERRED = (JSON, FORM, MULTIPART, "text/plain", OCTETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter beside the body."""

    name: str
    place: Place
    required: bool
    schema: str | None
    """Where its schema stands; None where it has none."""
    style: str
    explode: bool
    reserved: bool = False
    """Whether reserved characters stay as they are."""
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a request."""

    name: str
    """The parameter that is the body as a whole."""
    kind: str
    required: bool
    schema: str | None
    """Where its schema stands; None where it has none."""
    fields: Mapping[str, str]
    """The names of its properties, and where their schemas stand."""
    needed: frozenset[str]
    """The properties that it cannot lack, of a form."""
    binary: frozenset[str]
    """The properties that are given as base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation: what is sent where."""

    id: str
    method: str
    server: str
    path: str
    parameters: tuple[Parameter, ...]
    body: Body | None
    accept: str


def find_operation(document: Document, operation_id: str) -> Operation:
    """Return the operation of a document with this id.

    Raises:
        CallFailedError: There is none; says which there are. Or it is not written as it should be.
    """
    known: list[str] = []
    for method, path, pointer in _operations(document):
        found = document.at(pointer).get("operationId")
        if found == operation_id:
            return _Reader(document, pointer, path, method).operation(operation_id)
        known.append(str(found))
    advice = did_you_mean(operation_id, known, otherwise=f"it has {len(known)} others")
    raise CallFailedError("configuration", f"the OpenAPI document has no operation {operation_id!r}; {advice}")


def _operations(document: Document) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and pointer of every operation."""
    for path, written in as_object(document.value.get("paths")).items():
        item, at = document.resolved(written, pointer_to(["paths", path]))
        for method in METHODS:
            if isinstance(as_object(item).get(method), dict):
                yield method, path, f"{at}/{method}"


class _Reader:
    """Reads one operation."""

    def __init__(self, document: Document, pointer: str, path: str, method: str) -> None:
        self._document = document
        self._pointer = pointer
        self._path = path
        self._method = method
        self._item: dict[str, Any] = document.at(pointer.rpartition("/")[0])
        self._operation: dict[str, Any] = document.at(pointer)
        self._is_swagger = "swagger" in document.value

    def operation(self, operation_id: str) -> Operation:
        written = list(self._written_parameters())
        parameters = [self._parameter(each, at) for each, at in written if each.get("in") in _PLACES]
        return Operation(
            id=operation_id,
            method=self._method.upper(),
            server=server_of(self._document, self._operation, self._item),
            path=self._path,
            parameters=(*(each for each in parameters if each is not None), *self._keys(written)),
            body=self._swagger_body(written) if self._is_swagger else self._body(),
            accept=self._accept(),
        )

    def _written_parameters(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the parameters of the operation, and those of its path that it does not say itself."""
        own = self._pointer + "/parameters"
        shared = self._pointer.rpartition("/")[0] + "/parameters"
        seen: set[tuple[str, str]] = set()
        for holder, pointer in ((self._operation, own), (self._item, shared)):
            for index, each in enumerate(as_list(holder.get("parameters"))):
                found, at = self._document.resolved(each, f"{pointer}/{index}")
                parameter = as_object(found)
                key = (str(parameter.get("name")), str(parameter.get("in")))
                if key not in seen:
                    seen.add(key)
                    yield parameter, at

    def _parameter(self, written: dict[str, Any], at: str) -> Parameter | None:
        name, place = str(written.get("name")), cast("Place", written["in"])
        if place == "header" and name.lower() in _SETTLED:
            return None
        style = str(written.get("style") or _STYLES[place])
        explode = bool(written.get("explode", style == "form"))
        if self._is_swagger:
            collection = str(written.get("collectionFormat") or "csv")
            style = _COLLECTIONS.get(collection, _STYLES[place])
            explode = collection == "multi"
        content = written.get("content")
        return Parameter(
            name=name,
            place=place,
            required=place == "path" or bool(written.get("required")),
            schema=self._schema_of(written, at),
            style=style,
            explode=explode,
            reserved=bool(written.get("allowReserved")),
            as_json=isinstance(content, dict),
        )

    def _schema_of(self, written: Mapping[str, Any], at: str) -> str | None:
        """Return where the schema of a parameter stands: in Swagger 2 it is the parameter itself."""
        if "schema" in written:
            return at + "/schema"
        for kind, media in as_object(written.get("content")).items():
            return at + pointer_to(["content", kind, "schema"]) if "schema" in as_object(media) else None
        return at if self._is_swagger and written.get("type") != "file" else None

    def _keys(self, written: list[tuple[dict[str, Any], str]]) -> Iterator[Parameter]:
        """Yield the API keys of the operation's security schemes: they are given like parameters."""
        said = {str(each.get("name")).lower() for each, _ in written}
        root = self._document.value
        schemes = as_object(root.get("securityDefinitions") or as_object(root.get("components")).get("securitySchemes"))
        wanted = as_list(self._operation.get("security", root.get("security")))
        for name in dict.fromkeys(name for requirement in wanted for name in as_object(requirement)):
            found, _ = self._document.resolved(schemes.get(name), "")
            scheme = as_object(found)
            key, place = str(scheme.get("name")), str(scheme.get("in"))
            if scheme.get("type") == "apiKey" and place in _STYLES and key.lower() not in said:
                yield Parameter(
                    name=key,
                    place=cast("Place", place),
                    required=False,
                    schema=None,
                    style=_STYLES[place],
                    explode=False,
                )

    def _body(self) -> Body | None:
        written, at = self._document.resolved(self._operation.get("requestBody"), self._pointer + "/requestBody")
        body = as_object(written)
        if not body:
            return None
        content = as_object(body.get("content"))
        kind = _preferred(list(content)) if content else JSON
        has_schema = "schema" in as_object(content.get(kind))
        schema = at + pointer_to(["content", kind, "schema"]) if has_schema else None
        fields, needed, binary = self._properties(schema)
        return Body(
            name="body",
            kind=JSON if "*" in kind else kind,
            required=bool(body.get("required")),
            schema=schema,
            fields=fields,
            needed=needed,
            binary=binary,
        )

    def _properties(self, schema: str | None) -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
        """Return the properties that the schema of a body has at once, those it needs, and the binary ones."""
        if schema is None:
            return {}, frozenset(), frozenset()
        found, at = self._document.resolved(self._document.at(schema), schema)
        written = as_object(found)
        fields: dict[str, str] = {}
        binary: set[str] = set()
        for name, each in as_object(written.get("properties")).items():
            fields[name] = at + pointer_to(["properties", name])
            inner, _ = self._document.resolved(each, fields[name])
            items, _ = self._document.resolved(as_object(inner).get("items"), "")
            if _is_binary(inner) or _is_binary(items):
                binary.add(name)
        return fields, frozenset(map(str, as_list(written.get("required")))), frozenset(binary)

    def _swagger_body(self, written: list[tuple[dict[str, Any], str]]) -> Body | None:
        kinds = self._kinds("consumes")
        for each, at in written:
            if each.get("in") == "body":
                schema = at + "/schema" if "schema" in each else None
                fields, needed, binary = self._properties(schema)
                return Body(
                    name=str(each.get("name") or "body"),
                    kind=_preferred(kinds) if kinds else JSON,
                    required=bool(each.get("required")),
                    schema=schema,
                    fields=fields,
                    needed=needed,
                    binary=binary,
                )
        return _swagger_form(kinds, [(each, at) for each, at in written if each.get("in") == "formData"])

    def _accept(self) -> str:
        """Return the types in which the operation answers when it succeeds."""
        if self._is_swagger:
            return ", ".join(self._kinds("produces"))
        kinds: list[str] = []
        for status, each in as_object(self._operation.get("responses")).items():
            if status.startswith("2") or status == "default":
                found, _ = self._document.resolved(each, "")
                kinds += as_object(as_object(found).get("content"))
        return ", ".join(dict.fromkeys(kinds))

    def _kinds(self, name: str) -> list[str]:
        """Return the content types that a Swagger 2 document says for the operation, or for all."""
        return [str(kind) for kind in as_list(self._operation.get(name) or self._document.value.get(name))]


def _swagger_form(kinds: list[str], fields: list[tuple[dict[str, Any], str]]) -> Body | None:
    """Return the body that the form parameters of a Swagger 2 operation are."""
    if not fields:
        return None
    binary = frozenset(str(each.get("name")) for each, _ in fields if each.get("type") == "file")
    kind = MULTIPART if binary or (MULTIPART in kinds and FORM not in kinds) else FORM
    needed = frozenset(str(each.get("name")) for each, _ in fields if each.get("required"))
    return Body(
        name="body",
        kind=kind,
        required=bool(needed),
        schema=None,
        fields={str(each.get("name")): at for each, at in fields},
        needed=needed,
        binary=binary,
    )


def _is_binary(schema: Any) -> bool:
    return as_object(schema).get("format") == "binary"


def _preferred(kinds: list[str]) -> str:
    """Return which of several content types to send."""
    plain = {kind.partition(";")[0].strip().lower(): kind for kind in reversed(kinds)}
    for wanted in _PREFERRED:
        if wanted in plain:
            return plain[wanted]
    return next((kind for name, kind in plain.items() if name.endswith("+json")), kinds[0])
