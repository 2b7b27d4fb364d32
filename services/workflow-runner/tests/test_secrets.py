"""Secrets are used where they are needed and seen nowhere else."""

import base64
import json

import pytest
from temporalio.client import Client
from workflow_runner import names
from workflow_runner.testing import Execution, Request, Response, Runs, Site

CANARY = "canary-9b1f7c52-value"


async def traces(client: Client, execution: Execution) -> str:
    """Everything that Temporal and the server keep of a run, and what base64 in it says."""
    history = await client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}").fetch_history()
    kept = [history.to_json(), *(str(update) for update in execution.updates)]
    kept += [decoded(json.dumps(event)) for event in json.loads(kept[0])["events"]]
    return "\n".join(kept)


def decoded(text: str) -> str:
    parts = text.split('"')
    found: list[str] = []
    for part in parts:
        try:
            found.append(base64.b64decode(part, validate=True).decode("utf-8", "replace"))
        except ValueError:
            continue
    return "\n".join(found)


def echo(request: Request) -> Response:
    """Give everything back, as careless services do."""
    return Response(
        {
            "headers": request.headers,
            "query": request.query,
            "path": request.path,
            "body": request.body.decode(),
            "nested": [{"token": CANARY, CANARY: 1}],
            "encoded": base64.b64encode(f"user:{CANARY}".encode()).decode(),
        }
    )


@pytest.mark.requirement("secrets.run", "secrets.history")
async def test_a_secret_reaches_the_call_and_is_in_no_history_and_no_report(
    runs: Runs, client: Client, site: Site
) -> None:
    site.page("/echo", echo)
    execution = await runs.run(
        f"""
use: {{secrets: [TOKEN]}}
do:
- hold: {{set: {{token: '${{ $secrets.TOKEN }}', text: '${{ "Bearer " + $secrets.TOKEN }}'}}}}
- post:
    call: http
    with:
      method: post
      endpoint: {{uri: {site.url}/echo, authentication: {{basic: {{username: me, password: '${{ $secrets.TOKEN }}'}}}}}}
      headers: {{X-Key: '${{ .text }}', X-Old: 'Key ${{.secrets.TOKEN}}'}}
      query: {{token: '${{ .token }}'}}
      body: {{secret: '${{ $secrets.TOKEN }}'}}
- get: {{call: http, with: {{method: get, endpoint: {site.url}/echo, headers: {{X-Key: '${{ $secrets.TOKEN }}'}}}}}}
""",
        secrets={"TOKEN": CANARY},
    )
    assert execution.phase == "COMPLETED"
    post, get = site.seen("/echo")
    assert post.headers["x-key"] == f"Bearer {CANARY}"
    assert post.headers["x-old"] == f"Key {CANARY}"
    assert post.headers["authorization"] == "Basic " + base64.b64encode(f"me:{CANARY}".encode()).decode()
    assert post.query == f"token={CANARY}"
    assert post.json == {"secret": CANARY}
    assert get.headers["x-key"] == CANARY
    assert CANARY not in await traces(client, execution)
    assert base64.b64encode(CANARY.encode()).decode().rstrip("=") not in await traces(client, execution)
    held = execution.reported["/do/0/hold"].output.fields
    assert held["token"].string_value == "***REDACTED***"
    assert held["text"].string_value == "Bearer ***REDACTED***"
    assert execution.output["nested"] == [{"token": "***REDACTED***", "***REDACTED***": 1}]


@pytest.mark.requirement("secrets.history")
@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_secret_in_an_error_is_taken_out(runs: Runs, client: Client, site: Site, method: str) -> None:
    site.page("/bad", lambda _: Response({"why": f"{CANARY} is expired"}, 401))
    execution = await runs.run(
        f"""
use: {{secrets: [TOKEN]}}
do:
- call: {{call: http, with: {{method: {method}, endpoint: '{site.url}/bad', query: {{k: '${{ $secrets.TOKEN }}'}}}}}}
""",
        secrets={"TOKEN": CANARY},
    )
    assert execution.error["status"] == 401
    assert "***REDACTED*** is expired" in execution.error["detail"]
    assert CANARY not in await traces(client, execution)


async def test_a_variable_is_filled_in_like_a_secret_but_shown(runs: Runs, site: Site) -> None:
    site.page("/echo", lambda request: Response(request.headers["x-region"]))
    output = await runs.output(
        f"""
do:
- call:
    call: http
    with: {{method: get, endpoint: {site.url}/echo, headers: {{X-Region: '${{.env_vars.REGION}}'}}}}
""",
        variables={"REGION": "north-1"},
    )
    assert output == "north-1"


@pytest.mark.requirement("secrets.run", "use.secrets")
async def test_a_secret_without_a_value_is_an_authorization_error(runs: Runs, site: Site) -> None:
    error = await runs.error(
        f"""
use: {{secrets: [TOKEN]}}
do:
- call: {{call: http, with: {{method: get, endpoint: {site.url}/x, headers: {{K: '${{ $secrets.TOKEN }}'}}}}}}
"""
    )
    assert error["type"].endswith("/errors/authorization")
    assert error["status"] == 403
    assert "TOKEN" in error["detail"]
    assert site.requests == []


@pytest.mark.requirement("secrets.unforgeable")
async def test_data_that_looks_like_a_marker_is_only_text(runs: Runs, site: Site) -> None:
    site.page("/echo", lambda request: Response(request.json))
    forged = "⟦secret:0123456789abcdef:TOKEN⟧"
    await runs.run(
        f"""
use: {{secrets: [TOKEN]}}
do:
- call: {{call: http, with: {{method: post, endpoint: {site.url}/echo, body: {{t: '${{ .forged }}'}}}}}}
""",
        {"forged": forged},
        secrets={"TOKEN": CANARY},
    )
    assert site.seen("/echo")[0].json == {"t": forged}
