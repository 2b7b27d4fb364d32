"""Schemas that stand elsewhere."""

import pytest
from workflow_runner.testing import Request, Response, Runs, Site

DEFINITION = """
use: {secrets: [TOKEN]}
input:
  schema: {resource: {endpoint: {uri: 'SITE/order', authentication: {bearer: {token: '${ $secrets.TOKEN }'}}}}}
do:
- outer:
    do:
    - inner: {set: {n: '${ .n }'}, output: {schema: {resource: {endpoint: 'SITE/result.yaml'}}}}
"""


@pytest.mark.requirement("schema.run")
async def test_a_schema_that_stands_elsewhere_is_fetched_and_holds(runs: Runs, site: Site) -> None:
    def order(request: Request) -> Response:
        known = request.headers.get("authorization") == "Bearer tok-1234"
        return Response({"required": ["n"]}, 200 if known else 401)

    site.page("/order", order)
    site.page("/result.yaml", Response(b"properties: {n: {type: integer}}"))
    text = DEFINITION.replace("SITE", site.url)
    assert await runs.output(text, {"n": 1}, secrets={"TOKEN": "tok-1234"}) == {"n": 1}
    error = await runs.error(text, {}, secrets={"TOKEN": "tok-1234"})
    assert "'n' is a required property" in error["detail"]
    error = await runs.error(text, {"n": "one"}, secrets={"TOKEN": "tok-1234"})
    assert error["instance"] == "/do/0/outer/do/0/inner"
    assert error["type"].endswith("/errors/validation")


async def test_schemas_that_cannot_be_had_are_told_together_before_the_run(runs: Runs, site: Site) -> None:
    site.page("/order", {"type": "thing"})
    error = await runs.error(DEFINITION.replace("SITE", site.url), {"n": 1}, secrets={"TOKEN": "tok-1234"})
    assert error["type"].endswith("/errors/configuration")
    assert "/input/schema/resource: " in error["detail"]
    assert "/order is no JSON Schema" in error["detail"]
    assert "/do/0/outer/do/0/inner/output/schema/resource: the schema cannot be fetched" in error["detail"]
    site.page("/broken", lambda request: Response(request.headers["authorization"], 500))
    error = await runs.error(DEFINITION.replace("SITE/order", f"{site.url}/broken"), secrets={"TOKEN": "tok-1234"})
    assert 'answered 500 Internal Server Error: "Bearer ***REDACTED***"' in error["detail"]
    computed = "input: {schema: {resource: {endpoint: 'http://x/{id}'}}}\ndo:\n- a: {set: {n: 1}}"
    assert "the address of a schema cannot be computed" in (await runs.error(computed))["detail"]
