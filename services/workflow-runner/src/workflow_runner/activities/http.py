"""Making HTTP calls."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import httpx
from stigmer_sandbox import (
    Fetched,
    OutboundError,
    OutboundPolicy,
    OutboundTimeoutError,
    RefusedAddressError,
    TargetError,
    fetch,
    guarded_client,
)
from temporalio import activity
from uritemplate import URITemplate

from workflow_runner import names
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.messages import HttpArguments

_EXCERPT = 500
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


class HttpCalls:
    """Makes HTTP calls through the outbound guard, over one pool of connections."""

    def __init__(self, calls: Calls, policy: OutboundPolicy) -> None:
        self._calls = calls
        self._policy = policy
        self._client = guarded_client(policy)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @activity.defn(name=names.CALL_HTTP)
    async def call(self, call: Any) -> Any:
        """Make the call whose arguments are `HttpArguments`; the output is as its `output` says."""
        return await self._calls.make(call, self._exchange)

    async def _exchange(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        http = cast("HttpArguments", arguments)
        url = _url(http)
        headers, content = _content(http)
        try:
            answer = await fetch(
                self._client,
                self._policy,
                method=http["method"],
                url=url,
                headers=headers,
                content=content,
                follow_redirects=http["redirect"],
                seconds=seconds,
            )
        except OutboundTimeoutError as error:
            raise CallFailedError("timeout", f"{_line(http, url)}: {error}") from None
        except TargetError as error:
            raise CallFailedError("configuration", f"{_line(http, url)}: {error}") from None
        except RefusedAddressError as error:
            raise CallFailedError("authorization", f"{_line(http, url)}: {error}") from None
        except OutboundError as error:
            raise CallFailedError("communication", f"{_line(http, url)}: {error}") from None
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise CallFailedError("communication", f"{_line(http, url)}: {reason}", status=503) from None
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise CallFailedError("configuration", f"{_line(http, url)}: {error}") from None
        _check_status(http, url, answer)
        return _output(http, url, answer)


def _url(http: HttpArguments) -> str:
    url = http["uri"] if http["template"] is None else URITemplate(http["uri"]).expand(http["template"])
    pairs = list(_pairs(http["query"]))
    if not pairs:
        return url
    head, mark, fragment = url.partition("#")
    joint = "" if head.endswith(("?", "&")) else "&" if "?" in head else "?"
    return f"{head}{joint}{urlencode(pairs)}{mark}{fragment}"


def _pairs(query: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, value in query:
        for item in cast("list[Any]", value) if isinstance(value, list) else [value]:
            if item is not None:
                yield name, _text(item)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _content(http: HttpArguments) -> tuple[dict[str, str], bytes | None]:
    headers = {name: _text(value) for name, value in http["headers"].items() if value is not None}
    authorization = _authorization(http["authentication"])
    if authorization is not None:
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = authorization
    if any("\r" in value or "\n" in value for value in headers.values()):
        raise CallFailedError("configuration", "a header holds a line break")
    if http.get("body") is None:
        return headers, None
    body = http.get("body")
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    if kind is None:
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else _JSON
        headers["Content-Type"] = kind
    if kind.lower().startswith(_FORM) and isinstance(body, dict):
        return headers, urlencode(list(_pairs(cast("dict[str, Any]", body).items()))).encode()
    return headers, _text(body).encode()


def _authorization(authentication: dict[str, Any] | None) -> str | None:
    if authentication is None:
        return None
    if "bearer" in authentication:
        return f"Bearer {authentication['bearer']['token']}"
    basic = authentication["basic"]
    pair = f"{basic['username']}:{basic['password']}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _check_status(http: HttpArguments, url: str, answer: Fetched) -> None:
    if answer.status < 300 or (answer.status < 400 and http["redirect"]):
        return
    text = answer.body[: _EXCERPT * 4].decode("utf-8", "replace")[:_EXCERPT].strip()
    said = f": {text}" if text else ""
    raise CallFailedError(
        "communication",
        f"{_line(http, url)} answered {answer.status} {_phrase(answer.status)}{said}",
        status=answer.status,
        title=_phrase(answer.status),
    )


def _output(http: HttpArguments, url: str, answer: Fetched) -> Any:
    if http["output"] == "raw":
        return base64.b64encode(answer.body).decode()
    content = _parsed(http, url, answer)
    if http["output"] == "content":
        return content
    return {
        "request": {"method": http["method"], "uri": url, "headers": http["headers"]},
        "statusCode": answer.status,
        "headers": _joined(answer.headers),
        "content": content,
    }


def _parsed(http: HttpArguments, url: str, answer: Fetched) -> Any:
    if not answer.body:
        return None
    declared = dict(answer.headers).get("content-type", "")
    kind, _, parameters = declared.lower().partition(";")
    kind = kind.strip()
    if kind == _JSON or kind.endswith("+json"):
        try:
            return _json(answer.body)
        except ValueError as error:
            raise CallFailedError(
                "communication", f"{_line(http, url)} answered with broken JSON: {error}", status=502
            ) from None
    if not kind:
        try:
            return _json(answer.body)
        except ValueError:
            return _decoded(answer.body, "utf-8")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    return _decoded(answer.body, charset or ("utf-8" if _is_text(kind) else ""))


def _json(body: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in ("application/xml", "application/yaml", _FORM) or kind.endswith("+xml")


def _decoded(body: bytes, charset: str) -> str:
    """Return text, or base64 of what is none."""
    if charset:
        try:
            return body.decode(charset)
        except (UnicodeDecodeError, LookupError, binascii.Error):
            return base64.b64encode(body).decode()
    return base64.b64encode(body).decode()


def _joined(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown Status"


def _line(http: HttpArguments, url: str) -> str:
    """Return the call for a message: the query may hold what is nobody's business."""
    parts = urlsplit(url)
    return f"{http['method']} {parts.scheme}://{parts.netloc}{parts.path}"
