"""How a person points at a resource: `name`, `kind/name`, `org/name`, `kind/org/name` or an id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli import kinds
from stigmer_cli.errors import InvalidInputError

DEFAULT_ORG = "local"
_ID = re.compile(r"^([a-z]{2,6})-[0-9a-hjkmnp-tv-z]{26}$")
_LONGEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One resource. Either `id` is set, or `org` and `slug` are."""

    kind: Kind
    id: str = ""
    org: str = ""
    slug: str = ""

    def __str__(self) -> str:
        return f"{self.kind.enum_name} {self.id or self.slug}"


def parse(text: str, *, kind: Kind | None, org: str = "") -> Reference:
    """Read a reference to a resource, of the given kind unless the text names one.

    Raises:
        InvalidInputError: It is none, or the kind is not known.
    """
    if found := kind_of_id(text):
        if kind is not None and found != kind:
            msg = f"{text} is the id of a resource of kind {found.enum_name}, not {kind.enum_name}"
            raise InvalidInputError(msg)
        return Reference(kind=found, id=text)
    *before, name = text.split("/")
    if len(before) >= _LONGEST or not name:
        msg = f"{text!r} points at nothing"
        raise InvalidInputError(msg, hint="write a name, kind/name, org/name or an id")
    if before and (named := kinds.find(before[0])):
        del before[0]
        if kind_of_id(name) == named:
            return Reference(kind=named, id=name)
        kind = named
    if kind is None:
        msg = f"{text!r} does not say of which kind the resource is"
        raise InvalidInputError(msg, hint=f"write kind/name, such as workflow/{name}")
    return Reference(kind=kind, org=before[0] if before else org or DEFAULT_ORG, slug=to_slug(name))


def names_kind(text: str) -> bool:
    """Whether a reference says itself of which kind the resource is."""
    before, slash, _ = text.partition("/")
    return bool(kind_of_id(text)) or (bool(slash) and kinds.find(before) is not None)


def parse_all(words: Sequence[str], *, org: str = "") -> list[Reference]:
    """Read `KIND NAME...`, or references that say their kind themselves.

    Raises:
        InvalidInputError: One is none, or there is only a kind.
    """
    kind = None if "/" in words[0] or kind_of_id(words[0]) else kinds.require(words[0])
    names = words if kind is None else words[1:]
    if not names:
        msg = f"{words[0]!r} is a kind, and it does not say which resource of it"
        raise InvalidInputError(msg, hint=f"write {words[0]} NAME, or {words[0]}/NAME")
    return [parse(name, kind=kind, org=org) for name in names]


def parse_words(words: Sequence[str], *, org: str = "") -> Reference:
    """Read `KIND NAME`, `KIND/NAME` or an id.

    Raises:
        InvalidInputError: It is none, or names several resources.
    """
    first, *more = parse_all(words, org=org)
    if more:
        msg = f"{' '.join(words)}: that is more than one resource"
        raise InvalidInputError(msg, hint="write KIND NAME, KIND/NAME or an id")
    return first


def kind_of_id(text: str) -> Kind | None:
    """Return the kind whose id this is, None when it is no id."""
    match = _ID.match(text)
    if match is None:
        return None
    try:
        return descriptors.kind_by_prefix(match.group(1))
    except KeyError:
        return None


def to_slug(name: str) -> str:
    """Return the slug that the server derives from a name, so that both may be written."""
    kept = re.sub(r"[^a-z0-9-]", "", name.lower().replace(" ", "-"))
    return re.sub(r"-+", "-", kept).strip("-")
