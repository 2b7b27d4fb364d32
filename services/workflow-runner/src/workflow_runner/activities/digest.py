"""HTTP digest authentication, RFC 7616: MD5, SHA-256 and SHA-512, with `qop=auth` and counted nonces."""

from collections import OrderedDict
from collections.abc import Generator
from http import HTTPStatus

import httpx

from workflow_runner.activities.calls import CallFailedError

_ALGORITHMS = frozenset(f"{name}{more}" for name in ("MD5", "SHA", "SHA-256", "SHA-512") for more in ("", "-SESS"))
_MOST = 256


class Digests:
    """Keeps the last challenge of each origin, so that further requests are sent only once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], httpx.DigestAuth] = OrderedDict()

    def auth(self, username: str, password: str) -> httpx.Auth:
        """Return what authenticates requests with these credentials."""
        return _Digest(self, username, password)

    def of(self, origin: str, username: str, password: str) -> httpx.DigestAuth:
        """Return what knows the last challenge of `origin` for these credentials."""
        key = (origin, username, password)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = httpx.DigestAuth(username, password)
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return found


class _Digest(httpx.Auth):
    def __init__(self, digests: Digests, username: str, password: str) -> None:
        self._digests = digests
        self._username = username
        self._password = password

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        url = request.url
        origin = f"{url.scheme}://{url.netloc.decode()}"
        flow = self._digests.of(origin, self._username, self._password).auth_flow(request)
        outgoing = next(flow)
        while True:
            response = yield outgoing
            _choose(response)
            try:
                outgoing = flow.send(response)
            except StopIteration:
                return
            except (NotImplementedError, httpx.ProtocolError, ValueError) as error:
                raise CallFailedError("authentication", f"the digest challenge cannot be answered: {error}") from None


def _choose(response: httpx.Response) -> None:
    """Leave of several challenges the first that can be answered: httpx takes the first of all."""
    offered = [text for text in response.headers.get_list("www-authenticate") if text.lower().startswith("digest ")]
    if response.status_code != HTTPStatus.UNAUTHORIZED or not offered:
        return
    known = [text for text in offered if _algorithm(text) in _ALGORITHMS]
    if not known:
        names = ", ".join(sorted({_algorithm(text) for text in offered}))
        raise CallFailedError("authentication", f"the digest challenge asks for {names}, which is not known here")
    response.headers["www-authenticate"] = known[0]


def _algorithm(challenge: str) -> str:
    for part in challenge.partition(" ")[2].split(","):
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "algorithm":
            return value.strip(' "').upper()
    return "MD5"
