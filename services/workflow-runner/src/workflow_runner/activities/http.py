"""Making HTTP calls."""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.bodies import check_headers, encode, pairs, text
from workflow_runner.activities.calls import Calls
from workflow_runner.activities.requests import Requests, described, expand
from workflow_runner.activities.responses import check_status, output
from workflow_runner.call_messages import HttpArguments


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
    query = list(pairs(http["query"]))
    if not query:
        return url
    head, mark, fragment = url.partition("#")
    joint = "" if head.endswith(("?", "&")) else "&" if "?" in head else "?"
    return f"{head}{joint}{urlencode(query)}{mark}{fragment}"


def _content(http: HttpArguments) -> tuple[dict[str, str], bytes | None]:
    headers = {name: text(value) for name, value in http["headers"].items() if value is not None}
    check_headers(headers)
    if http.get("body") is None:
        return headers, None
    name = next((name for name in headers if name.lower() == "content-type"), None)
    kind, content = encode(http.get("body"), None if name is None else headers[name])
    return {**headers, name or "Content-Type": kind}, content
