"""Access tokens from OAuth2 servers and OpenID Connect providers, kept until shortly before they end.

Tokens are kept by everything that they were asked for with, secrets included, in this process alone. Many
calls at once ask for one token once.
"""

import asyncio
import base64
import hashlib
import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote_plus, urlencode

import jwt
from stigmer_sandbox import Fetched

from workflow_runner.activities.bodies import FORM
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.concealment import conceal
from workflow_runner.activities.requests import Requests
from workflow_runner.activities.responses import refusal
from workflow_runner.grants import TOKEN_EXCHANGE, client_authentication, problems

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_DISCOVERY = "/.well-known/openid-configuration"
_PATH = "/oauth2/token"
_MOST_BYTES = 2**20
_MOST_KEPT = 1000
_MARGIN_SECONDS = 30.0
_UNSAID_SECONDS = 300.0
"""How long a token is kept whose end nobody tells."""
_DISCOVERED_SECONDS = 600.0
_ASSERTED_SECONDS = 60


@dataclass(slots=True, kw_only=True)
class _Kept:
    """What is known of one set of properties."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str = ""
    renew_at: float = 0.0
    refresh: str = ""
    """The newest refresh token, where the server gives a new one with each access token."""
    failed_at: float = 0.0
    failure: CallFailedError | None = None
    """Why there was no token, for those who waited for it."""


class Tokens:
    """Gets tokens, through the outbound guard."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._discovered: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    async def get(self, scheme: str, properties: Mapping[str, Any], *, refused: str = "", seconds: float) -> str:
        """See `TokenSource`."""
        kept = self._of(scheme, properties)
        try:
            async with asyncio.timeout(seconds):
                return await self._current(kept, scheme, properties, refused, seconds)
        except TimeoutError:
            raise CallFailedError("timeout", f"no token within {seconds:g} s") from None

    async def _current(
        self, kept: _Kept, scheme: str, properties: Mapping[str, Any], refused: str, seconds: float
    ) -> str:
        """Return the token that is kept, or a new one. Who waits for one takes part in how that ends."""
        began = time.monotonic()
        async with kept.lock:
            if kept.failure is not None and kept.failed_at >= began:
                raise kept.failure
            if not kept.token or kept.token == refused or time.monotonic() >= kept.renew_at:
                try:
                    await self._renew(kept, scheme, properties, seconds)
                except CallFailedError as failure:
                    kept.failed_at, kept.failure = time.monotonic(), failure
                    raise
            conceal(kept.token)
            return kept.token

    def _of(self, scheme: str, properties: Mapping[str, Any]) -> _Kept:
        key = hashlib.sha256(json.dumps([scheme, properties], sort_keys=True).encode()).hexdigest()
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _renew(self, kept: _Kept, scheme: str, properties: Mapping[str, Any], seconds: float) -> None:
        wrong = "; ".join(sentence for _, sentence in problems(properties))
        if wrong:
            raise CallFailedError("configuration", f"no token can be had: {wrong}")
        authority = str(properties["authority"])
        discovered = await self._discover(properties, seconds) if scheme == "oidc" else None
        endpoint = str(discovered["token_endpoint"]) if discovered is not None else _endpoint(properties)
        headers, body = _request(properties, endpoint, kept.refresh)
        answer = await self._requests.send(
            "POST", endpoint, seconds=seconds, headers=headers, content=body, most=_MOST_BYTES
        )
        found = _answer(answer, authority)
        token = str(found["access_token"])
        conceal(token)
        _check_issuer(token, found, properties.get("issuers"), discovered)
        kept.token = token
        kept.renew_at = time.monotonic() + _lifetime(token, found)
        if properties["grant"] == "refresh_token" and found.get("refresh_token"):
            kept.refresh = str(found["refresh_token"])
            conceal(kept.refresh)

    async def _discover(self, properties: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return what an OpenID Connect provider says of itself."""
        authority = str(properties["authority"]).rstrip("/").removesuffix(_DISCOVERY)
        kept = self._discovered.get(authority)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        url = authority + _DISCOVERY
        answer = await self._requests.send("GET", url, seconds=seconds, redirect=True, most=_MOST_BYTES)
        if answer.status != 200:
            raise refusal(f"the discovery of {authority}", answer)
        found = _object(answer)
        if not isinstance(found.get("token_endpoint"), str):
            raise CallFailedError("authentication", f"{url} names no token_endpoint")
        issuer = str(found.get("issuer", "")).rstrip("/")
        if issuer != authority and issuer not in (properties.get("issuers") or ()):
            detail = f"{url} is about the issuer {issuer!r}: make it the authority, or one of `issuers`"
            raise CallFailedError("authentication", detail)
        self._discovered[authority] = (time.monotonic() + _DISCOVERED_SECONDS, found)
        if len(self._discovered) > _MOST_KEPT:
            self._discovered.popitem(last=False)
        return found


def _part(properties: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return properties.get(name) or {}


def _endpoint(properties: Mapping[str, Any]) -> str:
    """Return the token endpoint: a path below the authority, or an address of its own."""
    path = str(_part(properties, "endpoints").get("token") or _PATH)
    return path if "://" in path else f"{str(properties['authority']).rstrip('/')}/{path.lstrip('/')}"


def _request(properties: Mapping[str, Any], endpoint: str, refresh: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a token request."""
    headers = {"Accept": "application/json"}
    fields = {**_grant(properties, refresh), **_client(properties, endpoint, headers)}
    encoding = str(_part(properties, "request").get("encoding") or FORM)
    headers["Content-Type"] = encoding
    if encoding == FORM:
        return headers, urlencode(fields, doseq=True).encode()
    single = {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in fields.items()
    }
    return headers, json.dumps(single).encode()


def _grant(properties: Mapping[str, Any], refresh: str) -> dict[str, str | list[str]]:
    grant = str(properties["grant"])
    fields: dict[str, str | list[str]] = {"grant_type": grant}
    match grant:
        case "password":
            fields |= {"username": str(properties["username"]), "password": str(properties["password"])}
        case "refresh_token":
            fields["refresh_token"] = refresh or str(properties["subject"]["token"])
        case _ if grant == TOKEN_EXCHANGE:
            for party in ("subject", "actor"):
                token = properties.get(party)
                if token:
                    fields |= {f"{party}_token": str(token["token"]), f"{party}_token_type": str(token["type"])}
        case _:
            pass
    if properties.get("scopes"):
        fields["scope"] = " ".join(properties["scopes"])
    if properties.get("audiences"):
        fields["audience"] = [str(audience) for audience in properties["audiences"]]
    return fields


def _client(properties: Mapping[str, Any], endpoint: str, headers: dict[str, str]) -> dict[str, str]:
    """Return the fields that say who asks, or put that into `headers`."""
    client = _part(properties, "client")
    name, secret = str(client.get("id")), str(client.get("secret"))
    match client_authentication(properties):
        case None:
            return {}
        case "client_secret_basic":
            # RFC 6749, 2.3.1: both are encoded as in a form first.
            pair = base64.b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()
            conceal(pair)
            headers["Authorization"] = f"Basic {pair}"
            return {}
        case "client_secret_jwt":
            assertion = _asserted(name, secret, endpoint)
            conceal(assertion)
            return {"client_id": name, "client_assertion_type": _ASSERTION, "client_assertion": assertion}
        case "private_key_jwt":
            assertion = str(client["assertion"])
            return {"client_id": name, "client_assertion_type": _ASSERTION, "client_assertion": assertion}
        case "none":
            return {"client_id": name}
        case _:
            return {"client_id": name, "client_secret": secret}


def _asserted(client: str, secret: str, endpoint: str) -> str:
    """Return a JWT by which a client proves that it has its secret: RFC 7523, 2.2."""
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": endpoint, "iat": now, "exp": now + _ASSERTED_SECONDS}
    return jwt.encode({**claims, "jti": str(uuid.uuid4())}, secret, algorithm="HS256")


def _answer(answer: Fetched, authority: str) -> dict[str, Any]:
    """Return what a token server granted."""
    if answer.status >= 500 or answer.status == 429:
        raise refusal(f"the token server of {authority}", answer)
    found = _object(answer)
    if answer.status >= 300 or "access_token" not in found:
        said = ": ".join(str(found[name]) for name in ("error", "error_description") if found.get(name))
        detail = f"the token server of {authority} gives no token: {said or answer.status}"
        raise CallFailedError("authentication", detail)
    kind = str(found.get("token_type") or "bearer")
    if kind.lower() not in ("bearer", "n_a"):
        raise CallFailedError("authentication", f"the token server of {authority} gives tokens of type {kind}")
    return found


def _object(answer: Fetched) -> dict[str, Any]:
    try:
        found: Any = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _check_issuer(token: str, found: Mapping[str, Any], issuers: Any, discovered: Mapping[str, Any] | None) -> None:
    """Refuse a token of an issuer that is not named. It came from its server itself: no signature is needed."""
    if not issuers:
        return
    issuer = _claims(token).get("iss") or _claims(str(found.get("id_token", ""))).get("iss")
    if issuer is None and discovered is not None:
        issuer = discovered.get("issuer")
    if issuer not in issuers:
        said = f"of the issuer {issuer!r}" if issuer is not None else "that names no issuer"
        raise CallFailedError("authentication", f"the token server gave a token {said}: `issuers` does not allow it")


def _lifetime(token: str, found: Mapping[str, Any]) -> float:
    """Return for how many seconds to use a token."""
    said: Any = found.get("expires_in")
    try:
        seconds = float(said)
    except (TypeError, ValueError):
        end = _claims(token).get("exp")
        seconds = float(end) - time.time() if isinstance(end, (int, float)) else _UNSAID_SECONDS
    return max(0.0, seconds - min(_MARGIN_SECONDS, seconds / 4))


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a token; none of one that is no JWT."""
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
