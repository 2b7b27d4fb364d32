"""Operations of OpenAPI documents, against a real site that serves the documents too."""

import asyncio
import base64
import email
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflow_runner.testing import Request, Response, Runs, Site, StartRunner

TEXT = {"type": "string"}
OK: dict[str, Any] = {"200": {"description": "ok", "content": {"application/json": {}}}}


def call(site: Site, operation: str, parameters: Any = None, **more: Any) -> str:
    """A workflow that calls an operation of the site's document."""
    given = {"document": {"endpoint": f"{site.url}/api"}, "operationId": operation, **more}
    if parameters is not None:
        given["parameters"] = parameters
    return "do:\n- call: " + json.dumps({"call": "openapi", "with": given})


def serve(site: Site, *operations: dict[str, Any], version: str = "3.1.0", **more: Any) -> dict[str, Any]:
    """Serve a document; each operation has its method and path besides what OpenAPI says."""
    paths: dict[str, Any] = {}
    for each in operations:
        path, method = each.pop("path"), each.pop("method", "get")
        paths.setdefault(path, {})[method] = {"responses": OK, **each}
        site.page(path, echo)
    key = {"swagger": version} if version == "2.0" else {"openapi": version}
    document = {**key, "info": {"title": "t", "version": "1"}, "paths": paths, **more}
    site.page("/api", document)
    return document


def echo(request: Request) -> Response:
    return Response({"method": request.method, "path": request.path, "query": request.query})


def parameter(name: str, place: str, schema: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema or TEXT, **more}


@pytest.mark.requirement("openapi.operation")
async def test_an_operation_is_found_by_its_id_and_called(runs: Runs, site: Site) -> None:
    pet = parameter("id", "path", {"type": "integer"}, required=True)
    serve(site, {"operationId": "getPet", "path": "/pets/{id}", "parameters": [pet]})
    site.page("/pets/7", {"name": "Rex"})
    assert await runs.output(call(site, "getPet", {"id": 7})) == {"name": "Rex"}
    assert site.seen("/pets/7")[0].headers["accept"] == "application/json"
    assert len(site.seen("/api")) == 1
    data = {"operation": "getPet", "args": {"id": "7"}}
    assert await runs.output(call(site, "${ .operation }", "${ .args }"), data) == {"name": "Rex"}


@pytest.mark.requirement("openapi.operation")
async def test_documents_of_every_version_are_read_from_json_and_yaml(runs: Runs, site: Site) -> None:
    for version in ("2.0", "3.0.3", "3.1.0"):
        document = serve(site, {"operationId": "get", "path": "/base/x"}, version=version)
        document["paths"] = {"/x": document["paths"]["/base/x"]}
        document |= {"basePath": "/base"} if version == "2.0" else {"servers": [{"url": "/base"}]}
        site.page(f"/{version}", Response(yaml.safe_dump(document).encode(), headers={"content-type": "text/yaml"}))
        definition = call(site, "get").replace("/api", f"/{version}")
        assert (await runs.output(definition))["path"] == "/base/x"


STYLES: list[tuple[dict[str, Any], Any, str]] = [
    ({}, "a b", "v=a%20b"),
    ({}, ["a", "b,c"], "v=a&v=b%2Cc"),
    ({"explode": False}, ["a", "b,c"], "v=a,b%2Cc"),
    ({}, {"k": 1, "l": True}, "k=1&l=true"),
    ({"explode": False}, {"k": 1, "l": True}, "v=k,1,l,true"),
    ({"style": "spaceDelimited", "explode": False}, [1, 2], "v=1%202"),
    ({"style": "pipeDelimited", "explode": False}, [1, 2], "v=1%7C2"),
    ({"style": "deepObject"}, {"k": {"l": 1}, "m": [2, 3]}, "v[k][l]=1&v[m]=2&v[m]=3"),
    ({"allowReserved": True}, "a/b?c", "v=a/b?c"),
    ({"content": {"application/json": {}}}, {"k": [1]}, "v=%7B%22k%22%3A%20%5B1%5D%7D"),
]


@pytest.mark.requirement("openapi.parameters")
async def test_parameters_stand_in_the_query_as_their_style_says(runs: Runs, site: Site) -> None:
    operations: list[dict[str, Any]] = [
        {"operationId": f"get{index}", "path": f"/{index}", "parameters": [{"name": "v", "in": "query", **style}]}
        for index, (style, _, _) in enumerate(STYLES)
    ]
    serve(site, *operations)
    calls = (runs.output(call(site, f"get{index}", {"v": value})) for index, (_, value, _) in enumerate(STYLES))
    assert [output["query"] for output in await asyncio.gather(*calls)] == [query for _, _, query in STYLES]


@pytest.mark.requirement("openapi.parameters")
async def test_parameters_stand_in_path_header_and_cookie_as_their_style_says(runs: Runs, site: Site) -> None:
    path = "/{plain}/{label}/{matrix}/{spread}/{object}"
    parameters: list[dict[str, Any]] = [
        {"name": "plain", "in": "path"},
        {"name": "label", "in": "path", "style": "label", "explode": True},
        {"name": "matrix", "in": "path", "style": "matrix"},
        {"name": "spread", "in": "path", "style": "matrix", "explode": True},
        {"name": "object", "in": "path", "explode": True},
        {"name": "X-List", "in": "header"},
        {"name": "session", "in": "cookie"},
        {"name": "Accept", "in": "header", "required": True},
    ]
    serve(site, {"operationId": "get", "path": path, "parameters": parameters})
    expected = "/a%2Fb/.1.2/;matrix=1,2/;spread=1;spread=2/k=1,l=2"
    site.page(expected, echo)
    given = {"plain": "a/b", "object": {"k": 1, "l": 2}, "X-List": ["a b", 2], "session": "s 1"}
    output = await runs.output(call(site, "get", given | {name: [1, 2] for name in ("label", "matrix", "spread")}))
    assert output["path"] == expected
    request = site.seen(expected)[0]
    assert (request.headers["x-list"], request.headers["cookie"]) == ("a b,2", "session=s%201")


async def test_swagger_collections_keys_and_forms_are_written_as_they_say(runs: Runs, site: Site) -> None:
    items: dict[str, Any] = {"type": "array", "items": {"type": "integer"}, "in": "query"}
    serve(
        site,
        {
            "operationId": "get",
            "path": "/x",
            "parameters": [
                {"name": "csv", **items},
                {"name": "pipes", "collectionFormat": "pipes", **items},
                {"name": "multi", "collectionFormat": "multi", **items},
            ],
            "security": [{"key": []}],
        },
        {
            "operationId": "send",
            "path": "/send",
            "method": "post",
            "parameters": [
                {"name": "title", "in": "formData", "type": "string", "required": True},
                {"name": "file", "in": "formData", "type": "file"},
            ],
        },
        version="2.0",
        securityDefinitions={"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    )
    lists = {name: [1, 2] for name in ("csv", "pipes", "multi")}
    output = await runs.output(call(site, "get", {**lists, "X-Key": "k1"}))
    assert output["query"] == "csv=1,2&pipes=1%7C2&multi=1&multi=2"
    assert site.seen("/x")[0].headers["x-key"] == "k1"
    await runs.output(call(site, "send", {"title": "t", "file": base64.b64encode(b"\x00\xff").decode()}))
    sent = site.seen("/send")[0]
    head = f"content-type: {sent.headers['content-type']}\r\n\r\n".encode()
    parts: Any = email.message_from_bytes(head + sent.body).get_payload()
    assert [part.get_payload(decode=True) for part in parts] == [b"t", b"\x00\xff"]
    assert parts[1].get_filename() == "file"
    error = await runs.error(call(site, "send", {"file": "!"}))
    assert "the body lacks 'title'" in error["detail"]


PET = {"type": "object", "required": ["name"], "properties": {"name": TEXT, "age": {"type": "integer"}}}


@pytest.mark.requirement("openapi.parameters")
async def test_a_body_is_one_parameter_or_all_that_stand_nowhere_else(runs: Runs, site: Site) -> None:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}
    serve(
        site,
        {
            "operationId": "add",
            "path": "/pets",
            "method": "post",
            "parameters": [parameter("dry", "query", {"type": "boolean"})],
            "requestBody": {"required": True, "content": content},
        },
        components={"schemas": {"Pet": PET}},
    )
    for given in ({"body": {"name": "Rex"}, "dry": True}, {"name": "Rex", "dry": True}):
        assert (await runs.output(call(site, "add", given)))["query"] == "dry=true"
    assert [request.json for request in site.seen("/pets")] == [{"name": "Rex"}] * 2
    error = await runs.error(call(site, "add", {"name": "Rex", "age": "old"}))
    assert error["type"].endswith("/errors/validation")
    assert "the body at /age: 'old' is not of type 'integer'" in error["detail"]
    assert "the body is missing" in (await runs.error(call(site, "add")))["detail"]
    assert len(site.seen("/pets")) == 2


async def test_a_body_is_written_as_its_content_type_says(runs: Runs, site: Site) -> None:
    bodies: dict[str, tuple[Any, bytes]] = {
        "application/x-www-form-urlencoded": ({"name": "R x", "age": 3}, b"name=R+x&age=3"),
        "text/plain": ("words", b"words"),
        "application/octet-stream": (base64.b64encode(b"\x00\xff").decode(), b"\x00\xff"),
        "application/merge-patch+json": ({"name": "Rex"}, b'{"name": "Rex"}'),
        "application/xml": ("<pet/>", b"<pet/>"),
    }
    operations: list[dict[str, Any]] = [
        {
            "operationId": kind,
            "path": f"/{kind}",
            "method": "post",
            "requestBody": {"content": {kind: {"schema": PET} if isinstance(body, dict) else {}}},
        }
        for kind, (body, _) in bodies.items()
    ]
    serve(site, *operations, version="3.0.0")
    await asyncio.gather(*(runs.output(call(site, kind, {"body": body})) for kind, (body, _) in bodies.items()))
    for kind, (_, sent) in bodies.items():
        (request,) = site.seen(f"/{kind}")
        assert (request.headers["content-type"], request.body) == (kind, sent)


async def test_a_call_that_its_document_does_not_allow_is_refused_before_it_is_made(runs: Runs, site: Site) -> None:
    parameters = [
        parameter("id", "path", {"type": "integer"}, required=True),
        parameter("size", "query", {"enum": ["S", "L"]}),
        parameter("none", "query", {"type": "integer", "nullable": True}),
    ]
    serve(site, {"operationId": "getPet", "path": "/pets/{id}", "parameters": parameters}, version="3.0.1")
    error = await runs.error(call(site, "getPets"))
    assert error["type"].endswith("/errors/configuration")
    assert "has no operation 'getPets'; did you mean 'getPet'?" in error["detail"]
    assert error["instance"] == "/do/0/call"
    assert "'id' in the path is missing" in (await runs.error(call(site, "getPet")))["detail"]
    detail = (await runs.error(call(site, "getPet", {"id": "x", "size": "M", "sise": 1})))["detail"]
    assert "the parameter 'id': 'x' is not of type 'integer'" in detail
    assert "the parameter 'size': 'M' is not one of ['S', 'L']" in detail
    assert "it has no parameter 'sise'; did you mean 'size'?" in detail
    assert {request.path for request in site.requests} == {"/api"}


async def test_references_lead_inside_the_document_and_to_others(runs: Runs, site: Site) -> None:
    serve(site, {"operationId": "get", "path": "/x", "parameters": [{"$ref": "shared/common.yaml#/parameters/Id"}]})
    common = {
        "parameters": {"Id": {"name": "id", "in": "query", "schema": {"$ref": "#/types/Id"}}},
        "types": {"Id": {"$ref": "../api#/components/schemas/Number"}},
        "unused": {"$ref": "nowhere.json"},
    }
    site.page("/shared/common.yaml", Response(yaml.safe_dump(common).encode()))
    document = serve(
        site, {"operationId": "get", "path": "/x", "parameters": [{"$ref": "shared/common.yaml#/parameters/Id"}]}
    )
    site.page("/api", {**document, "components": {"schemas": {"Number": {"type": "integer"}}}})
    assert (await runs.output(call(site, "get", {"id": 5})))["query"] == "id=5"
    assert "not of type 'integer'" in (await runs.error(call(site, "get", {"id": "five"})))["detail"]


BOMB = b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1) if n else b"x"] * 20)) for n in range(9))


async def test_a_document_that_is_none_is_a_clear_error(runs: Runs, site: Site) -> None:
    documents = [
        (b"openapi: [", "is neither JSON nor YAML"),
        (b"[" * 5000, "nested too deep"),
        (b"[" * 150 + b"]" * 150, "is no object"),
        (BOMB, "holds more than"),
        (b"{}", "names no version"),
        (b"openapi: 4.0.0", "is of version 4.0.0"),
        (b"openapi: 3.0.0\npaths: {/x: {$ref: '#/paths/~1x'}}", "lead in circles"),
        (b"openapi: 3.0.0\npaths: {/x: {$ref: 'missing.yaml'}}", "refers to another"),
        (b"openapi: 3.0.0\npaths: {/x: {$ref: 'file:///etc/passwd'}}", "refers to a file"),
        (b"openapi: 3.0.0\npaths: [1]", "has no operation 'get'"),
    ]
    for index, (document, _) in enumerate(documents):
        site.page(f"/api{index}", Response(document))
    calls = [call(site, "get").replace("/api", f"/api{index}") for index in range(len(documents))]
    errors = await asyncio.gather(*map(runs.error, calls))
    for (_, said), error in zip(documents, errors, strict=True):
        assert said in error["detail"]
        assert error["instance"] == "/do/0/call"


@pytest.mark.requirement("openapi.operation")
async def test_the_nearest_server_is_asked_with_its_variables_filled_in(runs: Runs, site: Site) -> None:
    variable = {"url": "{host}/v{n}/", "variables": {"host": {"default": site.url}, "n": {"default": "2"}}}
    serve(
        site,
        {"operationId": "far", "path": "/far"},
        {"operationId": "near", "path": "/near", "servers": [{"url": f"{site.url}/own"}]},
        servers=[variable],
    )
    for operation, path in (("far", "/v2/far"), ("near", "/own/near")):
        site.page(path, echo)
        assert (await runs.output(call(site, operation)))["path"] == path


@pytest.mark.requirement("openapi.output", "resource.authentication")
async def test_document_and_operation_authenticate_each_for_itself_and_outputs_are_those_of_http(
    runs: Runs, site: Site
) -> None:
    serve(site, {"operationId": "get", "path": "/x"}, {"operationId": "move", "path": "/from"})
    site.page("/from", Response({}, 302, {"location": "/x"}))
    bearer = {"endpoint": {"uri": f"{site.url}/api", "authentication": {"bearer": {"token": "t-doc"}}}}
    more = {"document": bearer, "authentication": {"bearer": {"token": "t-op"}}}
    whole = await runs.output(call(site, "get", **more, output="response"))
    assert (whole["statusCode"], whole["content"]["path"]) == (200, "/x")
    assert whole["request"]["uri"] == f"{site.url}/x"
    assert site.seen("/api")[0].headers["authorization"] == "Bearer t-doc"
    assert site.seen("/x")[0].headers["authorization"] == "Bearer t-op"
    raw = await runs.output(call(site, "get", output="raw"))
    assert json.loads(base64.b64decode(raw))["path"] == "/x"
    assert (await runs.error(call(site, "move")))["status"] == 302
    assert (await runs.output(call(site, "move", redirect=True)))["path"] == "/x"


async def test_a_document_is_asked_for_again_by_its_tag(runs: Runs, site: Site) -> None:
    document = serve(site, {"operationId": "get", "path": "/x"})

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == '"v1"':
            return Response(b"", 304, {"etag": '"v1"'})
        return Response(document, headers={"etag": '"v1"', "cache-control": "no-cache"})

    site.page("/api", answer)
    assert (await runs.output(call(site, "get")))["path"] == "/x"
    assert [request.headers.get("if-none-match") for request in site.seen("/api")] == [None, '"v1"']


async def test_many_calls_at_once_fetch_a_document_once(runs: Runs, site: Site) -> None:
    document = serve(site, {"operationId": "get", "path": "/x"})
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: Request) -> Response:
        asked.set()
        await go_on.wait()
        return Response(document)

    site.page("/api", answer)
    calls = asyncio.gather(*(runs.output(call(site, "get")) for _ in range(4)))
    await asyncio.wait_for(asked.wait(), 30)
    go_on.set()
    assert [output["path"] for output in await calls] == ["/x"] * 4
    assert len(site.seen("/api")) == 1


@pytest.mark.requirement("resource.fetch", "resource.bounds")
async def test_files_are_read_where_the_operator_allows_a_folder_and_nowhere_else(
    start_runner: StartRunner, site: Site, tmp_path: Path
) -> None:
    folder = tmp_path / "allowed"
    folder.mkdir()
    document = serve(site, {"operationId": "get", "path": "/x"}, servers=[{"url": site.url}])
    (folder / "api.json").write_text(json.dumps(document))
    (tmp_path / "secret.json").write_text(json.dumps(document))
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    runs = await start_runner(resources_folder=folder)

    def of(path: Path | str) -> str:
        return call(site, "get").replace(f"{site.url}/api", f"file://{path}")

    assert (await runs.output(of(folder / "api.json")))["path"] == "/x"
    for path in (tmp_path / "secret.json", folder / "link.json", f"{folder}/../secret.json"):
        error = await runs.error(of(path))
        assert error["status"] == 403
        assert "outside the folder" in error["detail"]
    assert "No such file" in (await runs.error(of(folder / "none.json")))["detail"]
    refused = await (await start_runner()).error(of(folder / "api.json"))
    assert "this runner reads no files" in refused["detail"]
    assert "/do/0/call/with/document/endpoint" in refused["detail"]


@pytest.mark.requirement("resource.bounds")
async def test_a_resource_larger_than_allowed_is_a_clear_error(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(max_resource_bytes=1000)
    site.page("/api", Response(b"x" * 2000))
    error = await runs.error(call(site, "get"))
    assert "the OpenAPI document cannot be fetched" in error["detail"]
    assert "the cap of 1000" in error["detail"]
