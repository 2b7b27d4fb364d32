"""The description of the API for people: one page, with nothing on it that comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from stigmer_grpc import StatusCode

from stigmer_server.http.problems import STATUS

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font:13px/1.5 ui-monospace,monospace}pre{background:#f4f4f4;padding:.7rem;overflow-x:auto}
summary{cursor:pointer;padding:.2rem 0}b{display:inline-block;min-width:4.2rem}table{border-collapse:collapse}
td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}details div{margin:0 0 1rem 4.4rem}
nav a{margin-right:.8rem}.dim{color:#666}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}pre{background:#222}a{color:#8ab4f8}.dim{color:#999}}
"""
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
"""What a browser is told to allow on the page: its own style, and nothing else."""

_MEANINGS: Mapping[StatusCode, str] = {
    StatusCode.CANCELLED: "The caller gave the request up.",
    StatusCode.UNKNOWN: "The server failed without saying how.",
    StatusCode.INVALID_ARGUMENT: "The request is wrong by itself; <code>violations</code> names the fields.",
    StatusCode.DEADLINE_EXCEEDED: "There was no answer in time; the work may still have been done.",
    StatusCode.NOT_FOUND: "There is no such thing, or the caller may not know of it.",
    StatusCode.ALREADY_EXISTS: "What was to be made is there already.",
    StatusCode.PERMISSION_DENIED: "The caller may not do this.",
    StatusCode.RESOURCE_EXHAUSTED: "A limit of size or number is reached.",
    StatusCode.FAILED_PRECONDITION: "The present state forbids it; trying again alone does not help.",
    StatusCode.ABORTED: "Somebody else changed it meanwhile; read it again and start over.",
    StatusCode.OUT_OF_RANGE: "The request asks for what is no longer kept, such as events before a resume token.",
    StatusCode.UNIMPLEMENTED: "This server does not have the method.",
    StatusCode.INTERNAL: "A fault of the server; its log tells more under the request id.",
    StatusCode.UNAVAILABLE: "The server, or what it needs, is away; try again.",
    StatusCode.DATA_LOSS: "Something that was stored cannot be read.",
    StatusCode.UNAUTHENTICATED: "The request has no token, or none that is good.",
}


def page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    tags = [tag["name"] for tag in document["tags"]]
    links = "".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in tags)
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width"><title>Stigmer API</title>',
        f"<style>{_STYLE}</style></head><body>",
        f'<h1>{escape(info["title"])} <span class="dim">{escape(info["version"])}</span></h1>',
        *(f"<p>{_marked(paragraph)}</p>" for paragraph in info["description"].split("\n\n")),
        '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>',
        f'<nav>{links}<a href="#errors">Errors</a></nav>',
        *(part for tag in tags for part in _section(tag, document)),
        *_errors(),
        "</body></html>\n",
    ]
    return "".join(parts)


def _section(tag: str, document: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2>'
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            if tag in operation["tags"]:
                yield from _operation(verb.upper(), path, operation)


def _operation(verb: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<details><summary><b>{verb}</b><code>{escape(path)}</code> {_marked(operation['summary'])}</summary><div>"
    yield f"<p>{_marked(operation['description'])}</p>"
    parameters = [parameter for parameter in operation["parameters"] if "name" in parameter]
    if parameters:
        yield "<table>"
        for parameter in parameters:
            told = _marked(parameter["description"])
            yield f"<tr><td><code>{escape(parameter['name'])}</code></td>"
            yield f'<td class="dim">{parameter["in"]}</td><td>{told}</td></tr>'
        yield "</table>"
    yield f"<pre>{escape(_curl(verb, path, operation))}</pre></div></details>"


def _curl(verb: str, path: str, operation: Mapping[str, Any]) -> str:
    """Return a command that calls the operation."""
    words = ["curl"]
    answered = operation["responses"].get("200", {}).get("content", {})
    if "text/event-stream" in answered:
        words.append("-N")
    if verb not in ("GET", "POST"):
        words.append(f"-X {verb}")
    taken = operation.get("requestBody", {}).get("content", {})
    if "application/json" in taken:
        words.append("-H 'content-type: application/json' -d @request.json")
    elif taken:
        words.append(f"-H 'content-type: {next(iter(taken))}' --data-binary @file")
    return " ".join([*words, f'"$STIGMER{path}"'])


def _errors() -> Iterator[str]:
    yield '<h2 id="errors">Errors</h2><table><tr><th>Code</th><th>Status</th><th></th></tr>'
    for code, meaning in _MEANINGS.items():
        name = code.name.lower().replace("_", "-")
        yield f'<tr id="{name}"><td><code>{code.name}</code></td><td>{STATUS[code]}</td><td>{meaning}</td></tr>'
    yield "</table>"


def _marked(text: str) -> str:
    """Return text as HTML; what stands between backticks is code."""
    parts = text.split("`")
    return "".join(f"<code>{escape(part)}</code>" if at % 2 else escape(part) for at, part in enumerate(parts))


def _anchor(tag: str) -> str:
    return tag.lower().replace(" ", "-")
