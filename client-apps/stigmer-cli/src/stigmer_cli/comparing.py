"""What would change if manifests were applied, as text that a person can read.

The server applies each of them without keeping it, so that both sides of a comparison have its defaults in them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stigmer_cli.changes import Change, change_of
from stigmer_cli.manifests import Manifest
from stigmer_cli.messages import to_plain
from stigmer_cli.plain import Json, is_list, is_object
from stigmer_cli.references import Reference, to_slug
from stigmer_cli.resources import Message, Resources
from stigmer_cli.yaml_text import dump

_CHANGED = " (changed)"
"""What the mask of a secret ends in when another value would be stored under it."""
_METADATA = ("name", "slug", "org", "owner_scope", "labels", "annotations", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One manifest beside what is stored."""

    manifest: Manifest
    change: Change
    id: str
    """The stored resource's, "" where there is none."""
    text: str
    """The unified diff, "" when nothing differs; it ends in a newline."""


async def compare(resources: Resources, manifest: Manifest) -> Comparison:
    """Return what applying the manifest would change."""
    reference = Reference(kind=manifest.kind, org=manifest.org, slug=manifest.slug)
    before = await resources.find(reference) if manifest.slug else None
    after = await resources.apply(manifest.kind, manifest.message, dry_run=True)
    change = change_of(after)
    if before is not None and change is not Change.UNCHANGED:
        for entry, _ in await _changed_secrets(resources, manifest, before, after):
            entry.value += _CHANGED
    name = f"{manifest.kind.enum_name}/{manifest.slug}"
    stored = f"{name} version {before.metadata.version.id}" if before is not None else "/dev/null"
    return Comparison(
        manifest=manifest,
        change=change,
        id=before.metadata.id if before is not None else "",
        text=unified(
            before, after if change is not Change.UNCHANGED else before, names=(stored, f"{name} in {manifest.source}")
        ),
    )


def unified(before: Message | None, after: Message | None, *, names: tuple[str, str]) -> str:
    """Return the unified diff of two states of a resource, "" when what people write is the same in both."""
    old, new = (_lines(message) for message in (before, after))
    return "".join(difflib.unified_diff(old, new, *names))


def written(resource: Message) -> dict[str, Any]:
    """Return of a resource what people write: no id, no version, no status, no default, and keys in a fixed order."""
    plain = to_plain(resource)
    metadata = {key: plain["metadata"][key] for key in _METADATA if key in plain["metadata"]}
    if metadata.get("slug") == to_slug(metadata.get("name", "")):
        del metadata["slug"]
    if metadata.get("owner_scope") == "organization":
        del metadata["owner_scope"]
    for key in ("labels", "annotations"):
        if key in metadata:
            metadata[key] = _ordered(metadata[key])
    return {"kind": plain["kind"], "metadata": metadata, "spec": _ordered(plain.get("spec", {}))}


def _lines(resource: Message | None) -> list[str]:
    return dump(written(resource)).splitlines(keepends=True) if resource is not None else []


def _ordered(value: Json) -> Json:
    if is_object(value):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if is_list(value) else value


async def _changed_secrets(
    resources: Resources, manifest: Manifest, before: Message, after: Message
) -> list[tuple[Message, str]]:
    """Return those secrets of the answer that stand for another value than the stored one.

    Both read as the same mask. So the server is asked whether the stored resource would change if it had the value of
    the file in this one place: first for all of them at once, since mostly none has changed.
    """
    wanted = dict(_secrets(manifest.message, ""))
    stored = dict(_secrets(before, ""))
    shown = dict(_secrets(after, ""))
    both = [path for path in shown if path in stored and path in wanted]

    async def changes(paths: list[str]) -> bool:
        trial: Message = type(before)()
        trial.CopyFrom(before)
        places = dict(_secrets(trial, ""))
        for path in paths:
            places[path].value = wanted[path].value
        return change_of(await resources.apply(manifest.kind, trial, dry_run=True)) is not Change.UNCHANGED

    if not both or not await changes(both):
        return []
    return [(shown[path], path) for path in both if len(both) == 1 or await changes([path])]


def _secrets(message: Message, path: str) -> Iterator[tuple[str, Message]]:
    """Yield the secrets anywhere in a message, by their paths."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        here = f"{path}/{field.name}"
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    yield from _secret_or_inner(value[key], f"{here}/{key}")
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _secret_or_inner(item, f"{here}/{index}")
        else:
            yield from _secret_or_inner(value, here)


def _secret_or_inner(message: Message, path: str) -> Iterator[tuple[str, Message]]:
    fields = message.DESCRIPTOR.fields_by_name
    if "is_secret" not in fields or "value" not in fields:
        yield from _secrets(message, path)
    elif message.is_secret and message.value:
        yield path, message
