"""HTTP digest authentication, RFC 7616.

Challenges are kept by origin, so that further requests are sent only once, and their nonces are counted by all
requests together: a server may refuse a count that it has seen.
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.request import parse_http_list, parse_keqv_list

import httpx2

from workflow_runner.activities.calls import CallFailedError

_HASHES = {"MD5": "md5", "SHA": "sha1", "SHA-256": "sha256", "SHA-512": "sha512", "SHA-512-256": "sha512_256"}
_SESSION = "-SESS"
_CHALLENGES = re.compile(r"(?:^|,\s*)Digest\s+", re.IGNORECASE)
_MOST = 256


@dataclass(slots=True, kw_only=True)
class _Challenge:
    """What a server asks for."""

    realm: str
    nonce: str
    algorithm: str
    qop: str
    """`auth`, `auth-int`, or nothing: the server is older than both."""
    opaque: str | None
    hides_user: bool
    count: int = 0
    """How many requests have used the nonce."""

    def digest(self, *parts: str | bytes) -> str:
        name = _HASHES[self.algorithm.removesuffix(_SESSION)]
        return hashlib.new(name, b":".join(_bytes(part) for part in parts), usedforsecurity=False).hexdigest()

    def answer(self, request: httpx2.Request, username: str, password: str) -> str:
        """Return the header that proves the credentials for one request."""
        self.count += 1
        count, client_nonce = f"{self.count:08x}", secrets.token_hex(16)
        uri = request.url.raw_path.decode()
        first = self.digest(username, self.realm, password)
        if self.algorithm.endswith(_SESSION):
            first = self.digest(first, self.nonce, client_nonce)
        body = [self.digest(request.content)] if self.qop == "auth-int" else []
        second = self.digest(request.method, uri, *body)
        proof = [count, client_nonce, self.qop] if self.qop else []
        fields = {
            "username": self.digest(username, self.realm) if self.hides_user else username,
            "realm": self.realm,
            "nonce": self.nonce,
            "uri": uri,
            "response": self.digest(first, self.nonce, *proof, second),
            **({} if self.opaque is None else {"opaque": self.opaque}),
            **({"cnonce": client_nonce} if self.qop else {}),
        }
        quoted = [f'{name}="{_escaped(value)}"' for name, value in fields.items()]
        plain = [f"algorithm={self.algorithm}", *([f"qop={self.qop}", f"nc={count}"] if self.qop else [])]
        return "Digest " + ", ".join([*quoted, *plain, *(["userhash=true"] if self.hides_user else [])])


class Digests:
    """Keeps the last challenge for each origin and credentials."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], _Challenge] = OrderedDict()

    def auth(self, username: str, password: str) -> httpx2.Auth:
        """Return what authenticates requests with these credentials."""
        return _Digest(self._kept, username, password)


class _Digest(httpx2.Auth):
    def __init__(self, kept: OrderedDict[tuple[str, str, str], _Challenge], username: str, password: str) -> None:
        self._kept = kept
        self._username = username
        self._password = password

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        key = (f"{request.url.scheme}://{request.url.netloc.decode()}", self._username, self._password)
        known = self._kept.get(key)
        if known is not None:
            self._prove(request, known)
        response = yield request
        asked = _asked(response)
        if asked is None:
            return
        # A nonce that was answered already and is not stale means that the credentials are wrong.
        if known is not None and asked.nonce == known.nonce:
            return
        kept = self._kept.get(key)
        challenge = kept if kept is not None and kept.nonce == asked.nonce else asked
        self._kept[key] = challenge
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        self._prove(request, challenge)
        yield request

    def _prove(self, request: httpx2.Request, challenge: _Challenge) -> None:
        request.headers["Authorization"] = challenge.answer(request, self._username, self._password)


def _asked(response: httpx2.Response) -> _Challenge | None:
    """Return the first challenge of a refusal that can be answered; None where it has none.

    Raises:
        CallFailedError: None of them can be answered.
    """
    if response.status_code != HTTPStatus.UNAUTHORIZED:
        return None
    headers = response.headers.get_list("www-authenticate")
    offered = [_read(text) for header in headers for text in _CHALLENGES.split(header)[1:]]
    if not offered:
        return None
    known = next((challenge for challenge in offered if challenge is not None), None)
    if known is None:
        said = "; ".join(headers)[:300]
        raise CallFailedError("authentication", f"the digest challenge cannot be answered: {said}")
    return known


def _read(text: str) -> _Challenge | None:
    """Return a challenge; None if it is broken or asks for what is not known here."""
    try:
        fields: Mapping[str, str] = {
            name.lower(): value for name, value in parse_keqv_list(parse_http_list(text)).items()
        }
        qops = [each.strip().lower() for each in fields["qop"].split(",")] if "qop" in fields else [""]
        challenge = _Challenge(
            realm=fields["realm"],
            nonce=fields["nonce"],
            algorithm=fields.get("algorithm", "MD5").upper(),
            qop=next(each for each in ("auth", "auth-int", "") if each in qops),
            opaque=fields.get("opaque"),
            hides_user=fields.get("userhash", "").lower() == "true",
        )
        challenge.digest("")
    except (KeyError, ValueError, IndexError, StopIteration):
        return None
    return challenge


def _bytes(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
