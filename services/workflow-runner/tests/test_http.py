"""HTTP calls, against a real server."""

import asyncio
import base64
import contextlib
import email
import gzip
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from workflow_runner import names
from workflow_runner.testing import Request, Response, Runs, Site, StartRunner, site_server


def call(url: str, rest: str = "", *, method: str = "get") -> str:
    return f"do:\n- call: {{call: http, with: {{method: {method}, endpoint: '{url}'{', ' + rest if rest else ''}}}}}"


@pytest.mark.requirement("http.output")
async def test_a_get_outputs_the_parsed_content(runs: Runs, site: Site) -> None:
    site.page("/pet", {"name": "Rex", "tags": [1, 2.5, None]})
    assert await runs.output(call(f"{site.url}/pet")) == {"name": "Rex", "tags": [1, 2.5, None]}


@pytest.mark.requirement("http.output")
@pytest.mark.parametrize("value", [[1, 2], "text", 3, None, True])
async def test_content_of_every_json_type_is_output(runs: Runs, site: Site, value: object) -> None:
    site.page("/value", Response(value))
    assert await runs.output(call(f"{site.url}/value")) == value


async def test_half_of_a_surrogate_pair_becomes_a_replacement_character(runs: Runs, site: Site) -> None:
    site.page("/odd", Response(b'{"a\\ud800": ["\\ud83d\\ude00 \\udc00", 1]}'))
    assert await runs.output(call(f"{site.url}/odd")) == {
        "a\N{REPLACEMENT CHARACTER}": ["😀 \N{REPLACEMENT CHARACTER}", 1]
    }


async def test_a_header_that_is_no_ascii_is_a_clear_error(runs: Runs, site: Site) -> None:
    with_ = "headers: {X-Name: '${ .name }'}"
    error = await runs.error(call(f"{site.url}/x", with_), {"name": "Zoë"})
    assert "the header X-Name holds 'ë', and headers take ASCII only" in error["detail"]
    assert site.requests == []


@pytest.mark.requirement("http.output")
@pytest.mark.parametrize("number", ["1e400", "-1e999", "[1, 1E400]", f"{'1' * 400}.5"])
async def test_a_number_that_nothing_can_hold_is_an_error(runs: Runs, site: Site, number: str) -> None:
    site.page("/large", Response(number.encode()))
    assert "is too large for a number" in (await runs.error(call(f"{site.url}/large")))["detail"]


@pytest.mark.requirement("endpoint.run", "uri-template.values")
async def test_the_endpoint_is_a_text_an_object_an_expression_or_a_template(runs: Runs, site: Site) -> None:
    site.page("/pets/a%20b", {"ok": 1})
    for endpoint in (
        f"'{site.url}/pets/a%20b'",
        f"{{uri: '{site.url}/pets/a%20b'}}",
        "'${ .base + \"/pets/a%20b\" }'",
        "{uri: '${ .base + \"/pets/a%20b\" }'}",
        f"'{site.url}/pets/{{name}}'",
    ):
        definition = f"do:\n- call: {{call: http, with: {{method: get, endpoint: {endpoint}}}}}"
        assert await runs.output(definition, {"base": site.url, "name": "a b"}) == {"ok": 1}


@pytest.mark.requirement("endpoint.run")
async def test_an_expression_may_give_an_endpoint_with_its_authentication(runs: Runs, site: Site) -> None:
    site.page("/me", lambda request: Response(request.headers["authorization"]))
    endpoint = '${ {uri: (.base + "/me"), authentication: {bearer: {token: .token}}} }'
    data = {"base": site.url, "token": "t1"}
    with_ = f"{{method: get, endpoint: '{endpoint}'}}"
    assert await runs.output(f"do:\n- call: {{call: http, with: {with_}}}", data) == "Bearer t1"
    named = '{uri: .base, authentication: {use: "mine"}}'
    definition = f"""
use: {{authentications: {{mine: {{bearer: {{token: hidden}}}}}}}}
do:
- call: {{call: http, with: {{method: get, endpoint: '${{ {named} }}'}}}}
"""
    assert "cannot name an authentication" in (await runs.error(definition, data))["detail"]


async def test_a_placeholder_in_an_address_is_filled_in(runs: Runs, site: Site) -> None:
    site.page("/key-123/pet", {"ok": 1})
    definition = f"""
use: {{secrets: [KEY]}}
do:
- call: {{call: http, with: {{method: get, endpoint: '{site.url}/${{.secrets.KEY}}/{{name}}'}}}}
"""
    assert await runs.output(definition, {"name": "pet"}, secrets={"KEY": "key-123"}) == {"ok": 1}


@pytest.mark.requirement("http.request")
async def test_further_methods_are_sent(runs: Runs, site: Site) -> None:
    for method, length in (("head", "5000000"), ("options", "0"), ("propfind", "0")):
        site.page(f"/{method}", Response(b"", headers={"content-length": length}))
        output = await runs.output(call(f"{site.url}/{method}", "output: response", method=method))
        assert output["statusCode"] == 200
        assert output["content"] is None
        assert site.seen(f"/{method}")[0].method == method.upper()


async def test_what_is_no_address_is_a_clear_error_without_its_credentials(runs: Runs) -> None:
    for address, said in (
        ("http://[::1", "an address that is none"),
        ("http://me:hidden@127.0.0.1/", "user information"),
    ):
        definition = "do:\n- call: {call: http, with: {method: get, endpoint: '${ .a }'}}"
        error = await runs.error(definition, {"a": address})
        assert error["type"].endswith("/errors/configuration")
        assert said in error["detail"]
        assert "hidden" not in error["detail"]


async def test_a_method_that_is_none_is_an_error(runs: Runs) -> None:
    error = await runs.error(call("http://127.0.0.1:1/", method="connect"))
    assert "'CONNECT' is no HTTP method that can be sent" in error["detail"]


async def test_a_template_needs_its_values(runs: Runs, site: Site) -> None:
    error = await runs.error(call(f"{site.url}/pets/{{name}}"), {})
    assert "no name for the URI template" in error["detail"]
    assert error["instance"] == "/do/0/call"


@pytest.mark.requirement("http.request")
async def test_headers_query_and_body_are_evaluated_and_sent(runs: Runs, site: Site) -> None:
    site.page("/echo", lambda request: Response({"query": request.query, "body": request.json}))
    with_ = "headers: {X-Name: '${ .name }'}, query: {q: '${ .name }', n: [1, 2], no: null}, body: {who: '${ .name }'}"
    output = await runs.output(call(f"{site.url}/echo?z=0", with_, method="POST"), {"name": "Re x"})
    assert output == {"query": "z=0&q=Re+x&n=1&n=2", "body": {"who": "Re x"}}
    request = site.seen("/echo")[0]
    assert request.headers["x-name"] == "Re x"
    assert request.headers["content-type"] == "application/json"


async def test_a_form_and_a_text_are_sent_as_their_type_says(runs: Runs, site: Site) -> None:
    site.page("/form", {})
    form = "headers: {Content-Type: application/x-www-form-urlencoded}, body: {a: 1, b: x y}"
    await runs.output(call(f"{site.url}/form", form, method="post"))
    await runs.output(call(f"{site.url}/form", "body: plain", method="put"))
    first, second = site.seen("/form")
    assert (first.method, first.body) == ("POST", b"a=1&b=x+y")
    assert (second.method, second.body) == ("PUT", b"plain")


@pytest.mark.requirement("http.request")
async def test_bodies_of_every_json_type_are_sent(runs: Runs, site: Site) -> None:
    site.page("/echo", lambda request: Response(request.json))
    bodies: list[Any] = [[1, [2]], 3, True, {"a": None}]
    calls = [call(f"{site.url}/echo", f"body: {json.dumps(body)}", method="post") for body in bodies]
    assert await asyncio.gather(*map(runs.output, calls)) == bodies


async def test_a_multipart_form_and_a_text_in_another_charset_are_sent(runs: Runs, site: Site) -> None:
    site.page("/form", {})
    form = "headers: {Content-Type: multipart/form-data}, body: {a: x y, b: [1, {c: 2}], none: null}"
    await runs.output(call(f"{site.url}/form", form, method="post"))
    latin = "headers: {Content-Type: text/plain; charset=latin-1}, body: été"
    await runs.output(call(f"{site.url}/form", latin, method="post"))
    first, second = site.seen("/form")
    message = email.message_from_bytes(
        b"content-type: " + first.headers["content-type"].encode() + b"\r\n\r\n" + first.body
    )
    parts: list[Any] = message.get_payload()  # pyright: ignore[reportAssignmentType] - parts of a multipart message
    assert [
        (part.get_param("name", header="content-disposition"), part.get_payload(), part.get("content-type"))
        for part in parts
    ] == [
        ("a", "x y", None),
        ("b", "1", "application/json"),
        ("b", '{"c": 2}', "application/json"),
    ]
    assert second.body == "été".encode("latin-1")


async def test_the_same_call_in_a_loop_is_evaluated_afresh(runs: Runs, site: Site) -> None:
    site.page("/n", lambda request: Response(request.json))
    output = await runs.output(
        f"""
do:
- all:
    for: {{in: '[1, 2, 3]'}}
    do:
    - send: {{call: http, with: {{method: post, endpoint: {site.url}/n, body: {{n: '${{ $item }}'}}}}}}
"""
    )
    assert output == {"n": 3}
    assert [request.json["n"] for request in site.seen("/n")] == [1, 2, 3]


@pytest.mark.requirement("http.output", "http.response", "http.response-request")
async def test_raw_output_is_base64_and_response_output_is_everything(runs: Runs, site: Site) -> None:
    site.page("/x", Response(b"\x00\x01", headers={"content-type": "application/octet-stream"}))
    assert await runs.output(call(f"{site.url}/x", "output: raw")) == base64.b64encode(b"\x00\x01").decode()
    whole = await runs.output(call(f"{site.url}/x", "output: response"))
    assert whole["statusCode"] == 200
    assert whole["headers"]["content-length"] == "2"
    assert whole["request"] == {"method": "GET", "uri": f"{site.url}/x", "headers": {}}
    assert whole["content"] == base64.b64encode(b"\x00\x01").decode()


async def test_text_and_compressed_content_are_decoded(runs: Runs, site: Site) -> None:
    site.page("/text", Response("été".encode("latin-1"), headers={"content-type": "text/plain; charset=latin-1"}))
    site.page("/gzip", Response(gzip.compress(b'{"n": 1}'), headers={"content-encoding": "gzip"}))
    assert await runs.output(call(f"{site.url}/text")) == "été"
    assert await runs.output(call(f"{site.url}/gzip")) == {"n": 1}


@pytest.mark.requirement("http.status", "call.communication", "error.raised")
@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
async def test_a_status_out_of_range_is_a_communication_error(runs: Runs, site: Site, status: int) -> None:
    site.page("/bad", Response({"why": "because"}, status))
    error = await runs.error(call(f"{site.url}/bad"))
    assert error["type"].endswith("/errors/communication")
    assert error["status"] == status
    assert error["instance"] == "/do/0/call"
    assert "because" in error["detail"]
    assert f"GET {site.url}/bad answered {status}" in error["detail"]


@pytest.mark.requirement("http.redirect")
async def test_redirects_are_followed_when_asked_for(runs: Runs, site: Site) -> None:
    site.page("/from", Response({}, 302, {"location": "/to"}))
    site.page("/to", {"there": True})
    assert await runs.output(call(f"{site.url}/from", "redirect: true")) == {"there": True}


@pytest.mark.requirement("call.communication")
async def test_broken_json_too_much_and_nobody_there_are_clear_errors(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(max_response_bytes=1000)
    site.page("/broken", Response(b"{not json"))
    site.page("/big", Response(b"x" * 2000))
    broken = await runs.error(call(f"{site.url}/broken"))
    assert "broken JSON" in broken["detail"]
    assert broken["status"] == 502
    assert "more than the cap of 1000" in (await runs.error(call(f"{site.url}/big")))["detail"]
    absent = await runs.error(call("http://127.0.0.1:1/"))
    assert absent["type"].endswith("/errors/communication")
    assert absent["status"] == 503


async def test_answers_without_end_and_bombs_are_cut_off(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(max_response_bytes=100_000)
    site.page("/bomb", Response(gzip.compress(bytes(20_000_000)), headers={"content-encoding": "gzip"}))
    site.page("/huge", Response(b"x", headers={"content-length": str(2**30)}))

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
                await writer.drain()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as endless:
        port = endless.sockets[0].getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/", f"{site.url}/bomb", f"{site.url}/huge"):
            error = await runs.error(call(url))
            assert error["type"].endswith("/errors/communication")
            assert "the cap of 100000" in error["detail"]


@pytest.mark.requirement("outbound.guard")
async def test_a_redirect_to_what_is_never_allowed_is_refused(runs: Runs, site: Site) -> None:
    site.page("/from", Response({}, 302, {"location": "http://169.254.169.254/latest"}))
    error = await runs.error(call(f"{site.url}/from", "redirect: true"))
    assert error["status"] == 403
    assert "which is never allowed" in error["detail"]


async def test_credentials_stay_with_the_origin_that_they_are_for(runs: Runs, site: Site) -> None:
    async with site_server() as other:
        site.page("/near", Response({}, 302, {"location": "/far"}))
        site.page("/far", Response({}, 302, {"location": f"{other.url}/there"}))
        other.page("/there", {"there": True})
        endpoint = f"{{uri: '{site.url}/near', authentication: {{bearer: {{token: t1}}}}}}"
        definition = f"do:\n- c: {{call: http, with: {{method: get, endpoint: {endpoint}, redirect: true}}}}"
        assert await runs.output(definition) == {"there": True}
        assert [request.headers.get("authorization") for request in site.requests] == ["Bearer t1"] * 2
        assert "authorization" not in other.requests[0].headers


async def test_an_operator_may_add_certificate_authorities(
    start_runner: StartRunner, tmp_path: Path, site: Site
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - it also takes pyOpenSSL's contexts
    site.page("/pet", {"name": "Rex"})
    async with await asyncio.start_server(site.accept, "127.0.0.1", 0, ssl=context) as secure:
        url = f"https://127.0.0.1:{secure.sockets[0].getsockname()[1]}/pet"
        trusting = await start_runner(outbound_ca=tmp_path / "ca.pem")
        assert await trusting.output(call(url)) == {"name": "Rex"}
        error = await (await start_runner()).error(call(url))
        assert "CERTIFICATE_VERIFY_FAILED" in error["detail"]


@pytest.mark.requirement("outbound.guard")
async def test_the_guard_refuses_metadata_and_what_the_policy_forbids(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(outbound_allow_loopback=False)
    for url in ("http://169.254.169.254/latest", f"{site.url}/x", "http://2130706433/"):
        error = await runs.error(call(url))
        assert error["status"] in (400, 403)
    assert site.requests == []


@pytest.mark.requirement("timeout.task")
async def test_a_task_timeout_ends_a_call(runs: Runs, site: Site) -> None:
    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        return Response({})

    site.page("/slow", never)
    definition = f"""
do:
- call: {{timeout: {{after: {{milliseconds: 200}}}}, call: http, with: {{method: get, endpoint: {site.url}/slow}}}}
"""
    error = await runs.error(definition)
    assert error["type"].endswith("/errors/timeout")


@pytest.mark.requirement("authentication.basic", "authentication.bearer", "use.authentications")
async def test_basic_and_bearer_authentication_are_sent(runs: Runs, site: Site) -> None:
    site.page("/me", lambda request: Response(request.headers["authorization"]))
    definition = """
use:
  authentications:
    named: {{bearer: {{token: '${{ $secrets.TOKEN }}'}}}}
  secrets: [TOKEN, PASSWORD]
do:
- a: {{call: http, with: {{method: get, endpoint: {{uri: '{url}/me', authentication: {{use: named}}}}}}}}
- b:
    call: http
    with:
      method: get
      endpoint: {{uri: '{url}/me', authentication: {{basic: {{username: me, password: '${{ $secrets.PASSWORD }}'}}}}}}
"""
    await runs.output(definition.format(url=site.url), secrets={"TOKEN": "tok-123", "PASSWORD": "pass-123"})
    sent = [request.headers["authorization"] for request in site.seen("/me")]
    assert sent == ["Bearer tok-123", "Basic " + base64.b64encode(b"me:pass-123").decode()]


async def test_large_answers_in_a_row_are_kept_without_bursting_history(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(max_response_bytes=1_800_000)
    site.page("/large", {"text": "x" * 900_000})
    steps = "\n".join(
        f"- g{index}: {{call: http, with: {{method: get, endpoint: {site.url}/large}}, output: {{as: .text | length}}}}"
        for index in range(8)
    )
    assert await runs.output(f"do:\n{steps}") == 900_000
    assert len(site.seen("/large")) == 8


async def test_an_answer_that_history_cannot_hold_is_a_clear_error(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(max_response_bytes=1_800_000)
    site.page("/wide", Response(("é" * 800_000).encode(), headers={"content-type": "text/plain"}))
    error = await runs.error(call(f"{site.url}/wide"))
    assert "more than the 1900000 that can be kept" in error["detail"]
    sent = await runs.error(
        f"do:\n- c: {{call: http, with: {{method: post, endpoint: {site.url}/x, body: '${{ .big + .big + .big }}'}}}}",
        {"big": "x" * 1_000_000},
    )
    assert "the call takes 30" in sent["detail"]
    assert site.seen("/x") == []


async def test_a_large_result_reaches_the_server(runs: Runs) -> None:
    definition = "do:\n- big: {set: {text: '${ .big + .big + .big }'}}"
    assert len((await runs.output(definition, {"big": "x" * 1_000_000}))["text"]) == 3_000_000


@pytest.mark.requirement("http.retry-after")
async def test_an_error_carries_how_long_the_peer_asks_to_wait(runs: Runs, site: Site) -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    answers: list[tuple[int, dict[str, str], int | None]] = [
        (429, {"retry-after": "120"}, 120),
        (503, {"retry-after": "120"}, 120),
        (429, {"date": date, "retry-after": date.replace(":00 ", ":30 ")}, 30),
        (429, {"retry-after": "soon"}, None),
        (503, {}, None),
        (500, {"retry-after": "120"}, None),
    ]
    for index, (status, headers, _) in enumerate(answers):
        site.page(f"/{index}", Response({}, status, headers))
    errors = await asyncio.gather(*(runs.error(call(f"{site.url}/{index}")) for index in range(len(answers))))
    assert [error.get("retryAfter") for error in errors] == [asked for _, _, asked in answers]


@pytest.mark.requirement("http.retry-after")
async def test_a_retry_waits_as_long_as_the_peer_asks(runs: Runs, site: Site) -> None:
    answers = iter([Response({}, 429, {"retry-after": "1"}), Response({"ok": 1})])
    site.page("/busy", lambda _: next(answers))
    definition = f"""
do:
- t:
    try: [{{get: {{call: http, with: {{method: get, endpoint: {site.url}/busy}}}}}}]
    catch: {{retry: {{delay: {{milliseconds: 1}}, LIMIT}}}}
"""
    execution = await runs.run(definition.replace("LIMIT", "limit: {attempt: {count: 1}}"))
    assert execution.output == {"ok": 1}
    history = await runs.client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}").fetch_history()
    timers = [event.timer_started_event_attributes.start_to_fire_timeout.ToSeconds() for event in history.events]
    assert max(timers) == 1
    site.page("/busy", Response({}, 429, {"retry-after": "100000000"}))
    error = await runs.error(definition.replace("LIMIT", "limit: {duration: {hours: 30}}, when: $error.retryAfter < 9"))
    assert error["retryAfter"] == 100_000_000
    error = await runs.error(definition.replace("LIMIT", "limit: {duration: {hours: 2}}"))
    assert error["status"] == 429
    assert len(site.seen("/busy")) == 4
