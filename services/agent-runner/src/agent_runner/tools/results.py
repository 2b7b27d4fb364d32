"""What an MCP tool gave, as the model gets it: bounded text; what is larger or none goes into the workspace."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable
from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

MOST_CHARACTERS = 40_000
"""What of one result goes to the model at most."""
_BEGINNING = 4_000
_FOLDER = "tool_results"

Keep = Callable[[str, bytes], Awaitable[str]]
"""Puts a file into the workspace under a relative path; says where it is, or why it is not kept."""


async def told(tool: str, result: CallToolResult, keep: Keep) -> str:
    """A result as text for the model; `tool` is what it calls the tool."""
    parts = [await _part(tool, part, keep) for part in result.content]
    text = "\n".join(part for part in parts if part)
    if result.structured_content is not None and not _says(text, result.structured_content):
        text = f"{text}\n{_json(result.structured_content)}" if text else _json(result.structured_content)
    return await bounded(tool, text or "(nothing)", keep)


async def bounded(tool: str, text: str, keep: Keep) -> str:
    """A text, or where the whole of it is and how it begins."""
    if len(text) <= MOST_CHARACTERS:
        return text
    where = await kept(tool, text.encode(), "text/plain", keep)
    return (
        f"The result of {tool} is too large to be shown: {len(text)} characters, {where}. "
        f"It begins:\n{text[:_BEGINNING]}"
    )


async def _part(
    tool: str, part: TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource, keep: Keep
) -> str:
    match part:
        case TextContent(text=text):
            return text
        case ImageContent(data=data, mime_type=kind) | AudioContent(data=data, mime_type=kind):
            return await _binary(tool, data, kind, keep)
        case ResourceLink(uri=uri, name=name):
            return f"(a link to {name}: {uri})"
        case EmbeddedResource(resource=TextResourceContents(text=text)):
            return text
        case EmbeddedResource(resource=BlobResourceContents(blob=data, mime_type=kind)):
            return await _binary(tool, data, kind or "application/octet-stream", keep)
        case _:
            return f"(content of type {part.type}, which is not understood)"


async def _binary(tool: str, data: str, kind: str, keep: Keep) -> str:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return f"({kind} that cannot be read: it is no base64)"
    return f"({kind}, {len(content)} bytes, {await kept(tool, content, kind, keep)})"


async def kept(tool: str, content: bytes, kind: str, keep: Keep) -> str:
    """Put content of some media type away; says where it is."""
    ending = mimetypes.guess_extension(kind.partition(";")[0].strip()) or ".bin"
    digest = hashlib.sha256(content).hexdigest()[:12]
    return await keep(f"{_FOLDER}/{tool}-{digest}{ending}", content)


def _says(text: str, structured: Any) -> bool:
    """Whether a text is the structured content already, as servers are asked to say it for older clients."""
    # Results that are no objects are made the only value of one.
    values: list[Any] = list(structured.values()) if hasattr(structured, "values") else []
    forms = [structured, *values] if len(values) == 1 else [structured]
    try:
        return text in forms or json.loads(text) in forms
    except ValueError:
        return False


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
