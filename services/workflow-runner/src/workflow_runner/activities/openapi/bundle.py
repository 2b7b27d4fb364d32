"""An OpenAPI document as one value: what it refers to in other documents is fetched and put inside it.

After that every reference is one inside the value, and nothing else needs to reach out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote, urldefrag, urljoin

from stigmer_dsl.problems import pointer_parts

from workflow_runner.activities.calls import CallFailedError

OTHERS = "x-stigmer-others"
"""Key of the value under which other documents stand, numbered."""
MOST_DOCUMENTS = 50
_MOST_STEPS = 100

Load = Callable[[str], Awaitable[tuple[str, Any]]]
"""Fetches a document; returns its address after redirects, and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document whose references all lead inside it."""

    url: str
    value: Mapping[str, Any]
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why other documents could not be had, by their numbers."""

    def at(self, pointer: str) -> Any:
        """Return what stands at a JSON pointer.

        Raises:
            CallFailedError: Nothing does.
        """
        found: Any = self.value
        names = pointer_parts(pointer)
        if names[:1] == [OTHERS] and names[1] in self.missing:
            raise CallFailedError("configuration", f"the OpenAPI document refers to another: {self.missing[names[1]]}")
        for name in names:
            try:
                found = cast("list[Any]", found)[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise CallFailedError("configuration", f"the OpenAPI document has nothing at {pointer}") from None
        return found

    def resolved(self, value: Any, pointer: str) -> tuple[Any, str]:
        """Return what `value` is, which stands at `pointer`, with references followed; and where that stands.

        Raises:
            CallFailedError: A reference leads nowhere, or in circles.
        """
        for _ in range(_MOST_STEPS):
            reference = as_object(value).get("$ref")
            if not isinstance(reference, str):
                return value, pointer
            if not reference.startswith("#"):
                raise CallFailedError("configuration", f"the OpenAPI document refers to {reference}, which is nowhere")
            pointer = unquote(reference[1:])
            value = self.at(pointer)
        raise CallFailedError("configuration", f"the references at {pointer} of the OpenAPI document lead in circles")


async def bundle(url: str, value: Mapping[str, Any], load: Load) -> Document:
    """Return a document with all that it refers to. What cannot be loaded stays a reference to outside.

    Raises:
        CallFailedError: It refers to too many other documents.
    """
    numbers: dict[str, int] = {}
    others: dict[str, Any] = {}
    missing: dict[str, str] = {}
    made = await asyncio.to_thread(_rebased, value, url, "", url, numbers)
    while len(others) < len(numbers):
        if len(numbers) > MOST_DOCUMENTS:
            raise CallFailedError("configuration", f"the OpenAPI document refers to more than {MOST_DOCUMENTS} others")
        number = str(len(others))
        address = list(numbers)[len(others)]
        others[number] = None
        try:
            base, found = await load(address)
        except CallFailedError as failure:
            # Only what an operation needs must be there; who needs it is told.
            missing[number] = failure.error.detail
        else:
            others[number] = await asyncio.to_thread(_rebased, found, base, f"/{OTHERS}/{number}", url, numbers)
    return Document(url=url, value={**made, OTHERS: others} if others else made, missing=missing)


def _rebased(value: Any, base: str, here: str, root: str, numbers: dict[str, int]) -> Any:
    """Return a copy of a document in which references are pointers into the bundle of the document `root`."""
    if isinstance(value, list):
        return [_rebased(item, base, here, root, numbers) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, item in cast("dict[str, Any]", value).items():
        if key == "$ref" and isinstance(item, str):
            made[key] = _reference(item, base, here, root, numbers)
        else:
            made[key] = _rebased(item, base, here, root, numbers)
    if made.get("nullable") is True and isinstance(made.get("type"), str):
        # OpenAPI 3.0 says so what JSON Schema says by types.
        made["type"] = [made["type"], "null"]
        made |= {"enum": [*made["enum"], None]} if isinstance(made.get("enum"), list) else {}
    return made


def _reference(reference: str, base: str, here: str, root: str, numbers: dict[str, int]) -> str:
    if reference.startswith("#"):
        return f"#{here}{reference[1:]}"
    try:
        address, pointer = urldefrag(urljoin(base, reference))
    except ValueError:
        return reference  # no address: it leads nowhere, which is told where it is needed
    if address == root:
        return f"#{pointer}"
    number = numbers.setdefault(address, len(numbers))
    return f"#/{OTHERS}/{number}{pointer}"


def as_object(value: Any) -> dict[str, Any]:
    """Return an object, or an empty one where a document has something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, or an empty one where a document has something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []
