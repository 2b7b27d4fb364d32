"""What a call over HTTP outputs, and what is an error of it."""

import base64
import binascii
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

from stigmer_sandbox import Fetched

from workflow_runner.activities.bodies import FORM, JSON
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.structured import read_json

_EXCERPT = 500
_ASKS_TO_WAIT = frozenset({429, 503})

Form = Literal["raw", "content", "response"]


def check_status(line: str, answer: Fetched, *, redirect: bool) -> None:
    """Let an answer pass whose status is a success; one of 300 to 399 is, where redirects are followed.

    Raises:
        CallFailedError: It is none.
    """
    if answer.status >= (400 if redirect else 300):
        raise refusal(line, answer)


def refusal(line: str, answer: Fetched) -> CallFailedError:
    """Return the error that an answer is; `line` describes its request."""
    text = answer.body[: _EXCERPT * 4].decode("utf-8", "replace")[:_EXCERPT].strip()
    said = f": {text}" if text else ""
    return CallFailedError(
        "communication",
        f"{line} answered {answer.status} {_phrase(answer.status)}{said}",
        status=answer.status,
        title=_phrase(answer.status),
        retry_after=_retry_after(answer) if answer.status in _ASKS_TO_WAIT else None,
    )


def output(line: str, answer: Fetched, form: Form, request: dict[str, Any]) -> Any:
    """Return an answer in the form that the task asks for; `request` is what `response` says of the request.

    Raises:
        CallFailedError: The content is not what its type says.
    """
    if form == "raw":
        return base64.b64encode(answer.body).decode()
    content = _parsed(line, answer)
    if form == "content":
        return content
    return {
        "request": request,
        "statusCode": answer.status,
        "headers": _joined(answer.headers),
        "content": content,
    }


def _retry_after(answer: Fetched) -> float | None:
    """Return how many seconds the peer asks to wait: it says so, or until when, by its own clock."""
    headers = dict(answer.headers)
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        until = parsedate_to_datetime(said).timestamp()
    except ValueError:
        return None
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        now = time.time()
    return max(0.0, until - now)


def _parsed(line: str, answer: Fetched) -> Any:
    if not answer.body:
        return None
    declared = dict(answer.headers).get("content-type", "")
    kind, _, parameters = declared.lower().partition(";")
    kind = kind.strip()
    if kind == JSON or kind.endswith("+json"):
        try:
            return read_json(answer.body)
        except ValueError as error:
            detail = f"{line} answered with broken JSON: {error}"
            raise CallFailedError("communication", detail, status=502) from None
    if not kind:
        try:
            return read_json(answer.body)
        except ValueError:
            return _decoded(answer.body, "utf-8")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'")
    return _decoded(answer.body, charset or ("utf-8" if _is_text(kind) else ""))


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in ("application/xml", "application/yaml", FORM) or kind.endswith("+xml")


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
