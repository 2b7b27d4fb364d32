"""Making HTTP calls."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlencode

from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.requests import Requests, described, expand
from workflow_runner.activities.responses import check_status, output
from workflow_runner.messages import HttpArguments

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


class HttpCalls:
    """Makes HTTP calls."""

    def __init__(self, calls: Calls, requests: Requests, authentication: Authentication) -> None:
        self._calls = calls
        self._requests = requests
        self._authentication = authentication

    @activity.defn(name=names.CALL_HTTP)
    async def call(self, call: Any) -> Any:
        """Make the call whose arguments are `HttpArguments`; the output is as its `output` says."""
        return await self._calls.make(call, self._exchange)

    async def _exchange(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        http = cast("HttpArguments", arguments)
        url = _url(http)
        headers, content = _content(http)
        answer = await self._requests.send(
            http["method"],
            url,
            seconds=seconds,
            headers=headers,
            content=content,
            auth=self._authentication.auth(http["authentication"]),
            redirect=http["redirect"],
        )
        line = described(http["method"], url)
        check_status(line, answer, redirect=http["redirect"])
        request = {"method": http["method"], "uri": url, "headers": http["headers"]}
        return output(line, answer, http["output"], request)


def _url(http: HttpArguments) -> str:
    url = expand(http)
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
