"""Authentication of calls, against a real site and a real token server on loopback."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from stigmer_sandbox import OutboundPolicy
from workflow_runner.activities import Requests, Tokens
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.testing import Execution, Request, Response, Runs, Site

SECRET = "s3cret-and-long-enough-for-hs256-keys"
CLIENT = f"grant: client_credentials, client: {{id: me, secret: '{SECRET}'}}"


def document(url: str, policy: str, more: str = "") -> str:
    return f"""
use: {{secrets: [LOGIN, PASSWORD]}}
do:
- call: {{call: http, with: {{method: get, endpoint: {{uri: '{url}/me', authentication: {policy}}}{more}}}}}
"""


class TokenServer:
    """The token endpoint of an authorization server: counts, checks and remembers what it is asked for."""

    def __init__(self, site: Site, path: str = "/oauth2/token", **answer: Any) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600, **answer}
        site.page(path, self._grant)

    def _grant(self, request: Request) -> Response:
        self.headers.append(request.headers)
        self.asked.append(parse_qs(request.body.decode()))
        return Response({"access_token": f"token-{len(self.asked)}", **self.answer})


def protected(site: Site, *good: str) -> None:
    """Let `/me` be had with certain tokens only, or with any if none are named; it echoes what it was sent."""

    def answer(request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        is_good = token in good if good else bool(token)
        return Response({"sent": token} if is_good else {"no": token}, 200 if is_good else 401)

    site.page("/me", answer)


def shown(execution: Execution) -> str:
    """All that anybody sees of an execution."""
    return " ".join([str(execution.output), str(execution.error), *map(str, execution.updates)])


@pytest.mark.requirement("authentication.secret", "authentication.bearer")
@pytest.mark.parametrize("secret", ["tok-12345", '{"token": "tok-12345"}'])
async def test_a_bearer_token_may_stand_in_a_secret_alone_or_in_an_object(runs: Runs, site: Site, secret: str) -> None:
    site.page("/me", lambda request: Response(request.headers["authorization"]))
    execution = await runs.run(document(site.url, "{bearer: {use: LOGIN}}"), secrets={"LOGIN": secret})
    assert site.seen("/me")[0].headers["authorization"] == "Bearer tok-12345"
    assert execution.output == "Bearer ***REDACTED***"
    assert "tok-12345" not in shown(execution)


@pytest.mark.requirement("authentication.secret", "authentication.basic", "authentication.concealed")
async def test_basic_credentials_may_stand_in_a_secret_and_are_never_shown(runs: Runs, site: Site) -> None:
    site.page("/me", lambda request: Response(request.headers["authorization"] + " pass-123"))
    secret = json.dumps({"username": "me", "password": "pass-123"})
    execution = await runs.run(document(site.url, "{basic: {use: LOGIN}}"), secrets={"LOGIN": secret})
    code = base64.b64encode(b"me:pass-123").decode()
    assert site.seen("/me")[0].headers["authorization"] == f"Basic {code}"
    assert "pass-123" not in shown(execution)
    assert code not in shown(execution)


async def test_a_secret_without_what_its_policy_needs_is_a_clear_error(runs: Runs, site: Site) -> None:
    error = await runs.error(document(site.url, "{basic: {use: LOGIN}}"), secrets={"LOGIN": "just-text"})
    assert error["type"].endswith("/errors/authentication")
    assert error["detail"] == "the secret of the basic authentication is no JSON object with username and password"
    assert site.requests == []


class DigestSite:
    """A page that wants digest authentication: RFC 7616, computed from its text."""

    def __init__(self, site: Site, *challenges: str, nonce: str = "n0nce") -> None:
        self.counts: list[str] = []
        self.nonce = nonce
        self._challenges = challenges
        site.page("/me", self._answer)

    def _answer(self, request: Request) -> Response:
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.headers.get("authorization", "")))
        if given.get("response") and given["response"] == self._expected(request, given):
            self.counts.append(given["nc"])
            return Response({"in": True})
        head, *others = (text.replace("NONCE", self.nonce) for text in self._challenges)
        return Response(b"x" * 100, 401, {"www-authenticate": "\r\nwww-authenticate: ".join([head, *others])})

    def _expected(self, request: Request, given: dict[str, str]) -> str:
        name = given.get("algorithm", "MD5").removesuffix("-SESS")
        hash_of: Callable[[str], str] = lambda text: hashlib.new(  # noqa: E731 - one line of the RFC
            name.replace("SHA-", "SHA").replace("-", "_").lower(), text.encode()
        ).hexdigest()
        first = hash_of("me:the realm:pass-123")
        if given.get("algorithm", "").endswith("-SESS"):
            first = hash_of(f"{first}:{self.nonce}:{given['cnonce']}")
        body = f":{hash_of(request.body.decode())}" if given["qop"] == "auth-int" else ""
        second = hash_of(f"{request.method}:{given['uri']}{body}")
        middle = [self.nonce, given["nc"], given["cnonce"], given["qop"]]
        return hash_of(":".join([first, *middle, second]))


@pytest.mark.requirement("authentication.digest")
@pytest.mark.parametrize(
    "challenges",
    [
        ['Digest realm="the realm", nonce="NONCE", qop="auth"'],
        ['Digest realm="the realm", nonce="NONCE", qop="auth, auth-int", algorithm=SHA-256, opaque="o"'],
        [
            'Basic realm="x", Digest realm="the realm", nonce="NONCE", qop="auth", algorithm=WHIRLPOOL',
            'Digest realm="the realm", nonce="NONCE", qop="auth", algorithm=SHA-512-256',
        ],
        ['Digest realm="the realm", nonce="NONCE", qop="auth-int", algorithm=MD5-SESS'],
    ],
    ids=["MD5", "SHA-256", "the first that is known", "auth-int"],
)
async def test_digest_authentication_answers_a_challenge_and_counts_its_nonce(
    runs: Runs, site: Site, challenges: list[str]
) -> None:
    page = DigestSite(site, *challenges)
    definition = f"""
use: {{secrets: [PASSWORD]}}
do:
- all:
    for: {{in: '[1, 2, 3]'}}
    do:
    - call:
        call: http
        with:
          method: get
          endpoint:
            uri: {site.url}/me
            authentication: {{digest: {{username: me, password: '${{ $secrets.PASSWORD }}'}}}}
"""
    assert await runs.output(definition, secrets={"PASSWORD": "pass-123"}) == {"in": True}
    assert page.counts == ["00000001", "00000002", "00000003"]
    assert len(site.seen("/me")) == 4
    page.nonce = "another"
    assert await runs.output(definition, secrets={"PASSWORD": "pass-123"}) == {"in": True}
    assert page.counts[3:] == ["00000001", "00000002", "00000003"]
    page.nonce = "third"
    await asyncio.gather(*(runs.output(definition, secrets={"PASSWORD": "pass-123"}) for _ in range(3)))
    assert sorted(page.counts[6:]) == [f"{count:08x}" for count in range(1, 10)]


async def test_a_wrong_digest_and_a_challenge_that_nobody_knows_are_errors(runs: Runs, site: Site) -> None:
    policy = "{digest: {username: me, password: wrong}}"
    DigestSite(site, 'Digest realm="the realm", nonce="NONCE", qop="auth"')
    assert (await runs.error(document(site.url, policy)))["status"] == 401
    DigestSite(site, 'Digest realm="r", nonce="NONCE", qop="auth", algorithm=WHIRLPOOL')
    error = await runs.error(document(site.url, policy))
    assert error["type"].endswith("/errors/authentication")
    assert "cannot be answered: Digest realm" in error["detail"]


@pytest.mark.requirement("oauth2.cache")
async def test_many_calls_at_once_and_later_ones_ask_for_one_token(runs: Runs, site: Site) -> None:
    server = TokenServer(site)
    protected(site, "token-1")
    policy = f"{{oauth2: {{authority: '{site.url}', {CLIENT}, scopes: [a, b], audiences: [x, y]}}}}"
    outputs = await asyncio.gather(*(runs.output(document(site.url, policy)) for _ in range(5)))
    assert outputs == [{"sent": "***REDACTED***"}] * 5
    assert server.asked == [
        {
            "grant_type": ["client_credentials"],
            "scope": ["a b"],
            "audience": ["x", "y"],
            "client_id": ["me"],
            "client_secret": [SECRET],
        }
    ]


@pytest.mark.requirement("authentication.concealed")
async def test_tokens_and_credentials_are_neither_in_history_nor_in_what_people_see(runs: Runs, site: Site) -> None:
    TokenServer(site)
    protected(site)
    private = "password: '${ $secrets.PASSWORD }', client: {id: me, secret: '${ $secrets.LOGIN }'}"
    policy = f"{{oauth2: {{authority: '{site.url}', grant: password, username: me, {private}}}}}"
    execution = await runs.run(document(site.url, policy), secrets={"LOGIN": SECRET, "PASSWORD": "pass-123"})
    assert execution.output == {"sent": "***REDACTED***"}
    handle = runs.client.get_workflow_handle(f"stigmer/workflow-execution/invoke/{execution.id}")
    seen = shown(execution) + _plain(json.loads((await handle.fetch_history()).to_json()))
    for private in (SECRET, "pass-123", "token-1"):
        assert private not in seen


def _plain(value: Any) -> str:
    """A history as text, its payloads decoded."""
    match value:
        case {"data": str(data), **_rest}:
            return base64.b64decode(data).decode()
        case dict():
            return " ".join(map(_plain, value.values()))  # pyright: ignore[reportUnknownArgumentType] - JSON
        case list():
            return " ".join(map(_plain, value))  # pyright: ignore[reportUnknownArgumentType] - JSON
        case _:
            return str(value)


async def test_a_token_that_is_refused_is_had_anew_once(runs: Runs, site: Site) -> None:
    server = TokenServer(site)
    protected(site, "token-2")
    policy = f"{{oauth2: {{authority: '{site.url}', {CLIENT}}}}}"
    assert "sent" in await runs.output(document(site.url, policy))
    protected(site, "none")
    error = await runs.error(document(site.url, policy))
    assert error["status"] == 401
    assert len(server.asked) == 3
    assert "token-" not in json.dumps(error)


@pytest.mark.requirement("oauth2.cache")
async def test_a_token_that_has_ended_is_had_anew(runs: Runs, site: Site) -> None:
    server = TokenServer(site, expires_in=0)
    protected(site)
    policy = f"{{oauth2: {{authority: '{site.url}', {CLIENT}}}}}"
    for _ in range(2):
        await runs.output(document(site.url, policy))
    assert len(server.asked) == 2


@pytest.mark.requirement("oauth2.grants", "oauth2.exchange")
@pytest.mark.parametrize(
    ("grant", "asked"),
    [
        ("grant: password, username: me, password: pass-123", {"username": "me", "password": "pass-123"}),
        (
            "grant: refresh_token, subject: {token: old-one, type: 'urn:ietf:params:oauth:token-type:refresh_token'}",
            {"refresh_token": "old-one"},
        ),
        (
            "grant: 'urn:ietf:params:oauth:grant-type:token-exchange', subject: {token: sub-1, type: a}, "
            "actor: {token: act-1, type: b}",
            {"subject_token": "sub-1", "subject_token_type": "a", "actor_token": "act-1", "actor_token_type": "b"},
        ),
    ],
    ids=["password", "refresh_token", "token exchange"],
)
async def test_every_grant_asks_as_its_specification_says(
    runs: Runs, site: Site, grant: str, asked: dict[str, str]
) -> None:
    server = TokenServer(site, "/custom/token")
    protected(site, "token-1")
    policy = f"{{oauth2: {{authority: '{site.url}', endpoints: {{token: /custom/token}}, {grant}}}}}"
    assert "sent" in await runs.output(document(site.url, policy))
    (found,) = server.asked
    assert found.pop("grant_type")[0] in grant
    assert found == {name: [value] for name, value in asked.items()}


async def test_an_authority_may_be_a_template(runs: Runs, site: Site) -> None:
    server = TokenServer(site, "/acme/oauth2/token")
    protected(site)
    policy = f"{{oauth2: {{authority: '{site.url}/{{tenant}}', {CLIENT}}}}}"
    assert "sent" in await runs.output(document(site.url, policy), {"tenant": "acme"})
    assert len(server.asked) == 1


async def test_a_refresh_token_is_replaced_by_the_one_that_the_server_gives(runs: Runs, site: Site) -> None:
    server = TokenServer(site, expires_in=0, refresh_token="newer-one")
    protected(site)
    policy = f"{{oauth2: {{authority: '{site.url}', grant: refresh_token, subject: {{token: old-one, type: r}}}}}}"
    for _ in range(2):
        await runs.output(document(site.url, policy))
    assert [each["refresh_token"] for each in server.asked] == [["old-one"], ["newer-one"]]


@pytest.mark.requirement("oauth2.client")
async def test_a_client_proves_itself_in_every_way(runs: Runs, site: Site) -> None:
    protected(site)
    found: dict[str, tuple[dict[str, list[str]], dict[str, str]]] = {}
    for method in ("client_secret_basic", "client_secret_jwt", "private_key_jwt", "none"):
        server = TokenServer(site)
        client = f"client: {{id: 'm e', secret: '{SECRET}', assertion: a.b.c, authentication: {method}}}"
        policy = f"{{oauth2: {{authority: '{site.url}/', grant: client_credentials, {client}}}}}"
        await runs.output(document(site.url, policy))
        assert "client_secret" not in server.asked[0]
        found[method] = server.asked[0], server.headers[0]
    code = base64.b64encode(f"m+e:{SECRET}".encode()).decode()
    assert found["client_secret_basic"][1]["authorization"] == f"Basic {code}"
    (assertion,) = found["client_secret_jwt"][0]["client_assertion"]
    claims = jwt.decode(assertion, SECRET, algorithms=["HS256"], audience=f"{site.url}/oauth2/token")
    assert (claims["iss"], claims["sub"]) == ("m e", "m e")
    assert found["private_key_jwt"][0]["client_assertion"] == ["a.b.c"]
    assert found["none"][0]["client_id"] == ["m e"]


@pytest.mark.requirement("oauth2.request")
async def test_a_token_request_may_be_json(runs: Runs, site: Site) -> None:
    site.page("/oauth2/token", lambda request: Response({"access_token": json.dumps(request.json)}))
    site.page("/me", {})
    more = "audiences: [x], request: {encoding: application/json}"
    policy = f"{{oauth2: {{authority: '{site.url}', {CLIENT}, {more}}}}}"
    await runs.output(document(site.url, policy))
    assert site.seen("/oauth2/token")[0].json == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": SECRET,
        "audience": "x",
    }


@pytest.mark.requirement("authentication.oidc")
async def test_the_endpoint_of_an_openid_provider_is_found(runs: Runs, site: Site) -> None:
    server = TokenServer(site, "/elsewhere")
    discovery = {"issuer": site.url, "token_endpoint": f"{site.url}/elsewhere"}
    site.page("/.well-known/openid-configuration", discovery)
    protected(site, "token-1")
    secret = {"authority": site.url, "grant": "client_credentials", "client": {"id": "me", "secret": SECRET}}
    output = await runs.output(document(site.url, "{oidc: {use: LOGIN}}"), secrets={"LOGIN": json.dumps(secret)})
    assert output == {"sent": "***REDACTED***"}
    assert server.asked[0]["client_secret"] == [SECRET]


@pytest.mark.requirement("oauth2.issuers")
async def test_tokens_of_issuers_that_are_not_named_are_refused(runs: Runs, site: Site) -> None:
    token = jwt.encode({"iss": "https://good.example"}, SECRET)
    TokenServer(site, access_token=token)
    protected(site)
    policy = f"{{oauth2: {{authority: '{site.url}', {CLIENT}, issuers: ['ISSUER']}}}}"
    assert "sent" in await runs.output(document(site.url, policy.replace("ISSUER", "https://good.example")))
    error = await runs.error(document(site.url, policy.replace("ISSUER", "https://other.example")))
    assert error["type"].endswith("/errors/authentication")
    assert "of the issuer 'https://good.example': `issuers` does not allow it" in error["detail"]
    other = {"issuer": "https://evil.example", "token_endpoint": f"{site.url}/oauth2/token"}
    site.page("/.well-known/openid-configuration", other)
    oidc = f"{{oidc: {{authority: '{site.url}', {CLIENT}}}}}"
    assert "is about the issuer 'https://evil.example'" in (await runs.error(document(site.url, oidc)))["detail"]


@pytest.mark.requirement("error.raised")
async def test_a_token_server_that_refuses_or_is_away_is_a_clear_error(runs: Runs, site: Site) -> None:
    said = {"error": "invalid_client", "error_description": f"never heard of {SECRET}"}
    site.page("/oauth2/token", Response(said, 401))
    policy = f"{{oauth2: {{authority: '{site.url}', {CLIENT}}}}}".replace(SECRET, "${ $secrets.LOGIN }")
    error = await runs.error(document(site.url, policy), secrets={"LOGIN": SECRET})
    assert error["type"].endswith("/errors/authentication")
    assert error["status"] == 401
    assert "gives no token: invalid_client: never heard of ***REDACTED***" in error["detail"]
    away = await runs.error(
        document(site.url, policy.replace(site.url, "http://127.0.0.1:1")), secrets={"LOGIN": SECRET}
    )
    assert away["type"].endswith("/errors/communication")
    forbidden = await runs.error(
        document(site.url, policy.replace(site.url, "http://169.254.169.254")), secrets={"LOGIN": SECRET}
    )
    assert forbidden["status"] == 403


async def test_calls_that_wait_for_a_token_learn_together_that_there_is_none(site: Site) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def refuse(_: Request) -> Response:
        asked.set()
        await go_on.wait()
        return Response({"error": "invalid_client"}, 401)

    site.page("/oauth2/token", refuse)
    requests = Requests(OutboundPolicy())
    tokens = Tokens(requests)
    properties = {"authority": site.url, "grant": "client_credentials", "client": {"id": "me", "secret": SECRET}}
    waiting = [asyncio.create_task(tokens.get("oauth2", properties, seconds=30)) for _ in range(5)]
    await asyncio.wait_for(asked.wait(), 30)
    go_on.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(failure).partition(" gives ")[2] for failure in failures} == {"no token: invalid_client"}
    assert len(site.seen("/oauth2/token")) == 1
    with pytest.raises(CallFailedError):
        await tokens.get("oauth2", properties, seconds=30)
    assert len(site.seen("/oauth2/token")) == 2
    await requests.close()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("grant: authorization_code", "needs a person at a browser"),
        ("grant: password, username: me", "the grant password needs `password`"),
        ("grant: client_credentials, client: {id: me, authentication: private_key_jwt}", "needs `assertion`"),
    ],
)
async def test_what_can_never_give_a_token_is_refused_before_the_run(runs: Runs, policy: str, said: str) -> None:
    definition = f"""
use: {{authentications: {{named: {{oauth2: {{authority: 'http://x', {policy}}}}}}}}}
do:
- never: {{set: {{n: 1}}}}
"""
    error = await runs.error(definition)
    assert said in error["detail"]
    assert "/use/authentications/named/oauth2" in error["detail"]


@pytest.mark.requirement("expression.authorization")
async def test_the_authorization_of_a_call_is_told_with_its_secret_symbolic(runs: Runs, site: Site) -> None:
    site.page("/echo", lambda request: Response({"sent": request.json}))
    policies = "{named: {bearer: {token: '${ $secrets.TOKEN }'}}, kept: {bearer: {use: TOKEN}}}"
    told = "output: {as: '{scheme: $authorization.scheme}'}, export: {as: '$context + [$authorization.scheme]'}"
    body = "body: {scheme: '${ $authorization.scheme }', parameter: '${ $authorization.parameter }'}"

    def calling(name: str, authentication: str) -> str:
        endpoint = f"{{uri: '{site.url}/echo', authentication: {authentication}}}"
        return f"- {name}: {{call: http, with: {{method: post, endpoint: {endpoint}, {body}}}, {told}}}\n"

    steps = calling("a", "{use: named}") + calling("b", "{basic: {username: u, password: p}}")
    steps += calling("c", "{use: kept}") + "- d: {set: '${ [$context, .scheme, $authorization] }'}"
    document = f"use: {{secrets: [TOKEN], authentications: {policies}}}\ninput: {{from: '[]'}}\ndo:\n{steps}"
    execution = await runs.run(document, [], secrets={"TOKEN": "tok-12345"})
    assert execution.output == [["Bearer", "Basic", "Bearer"], "Bearer", None]
    assert [request.json for request in site.seen("/echo")] == [
        {"scheme": "Bearer", "parameter": "tok-12345"},
        {"scheme": "Basic", "parameter": None},
        {"scheme": "Bearer", "parameter": "tok-12345"},
    ]
    handle = runs.client.get_workflow_handle(f"stigmer/workflow-execution/invoke/{execution.id}")
    assert "tok-12345" not in shown(execution) + _plain(json.loads((await handle.fetch_history()).to_json()))
