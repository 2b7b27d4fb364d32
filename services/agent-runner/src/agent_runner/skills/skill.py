"""A skill as the model is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

FILE = "SKILL.md"
_LONGEST_DESCRIPTION = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A skill that is there to be read.

    Attributes:
        name: What it is called.
        description: When to use it.
        folder: Where it is unpacked.
    """

    name: str
    description: str
    folder: Path


def read_skill(slug: str, text: str, folder: Path) -> Skill:
    """The skill whose SKILL.md has this text; its head says its name and description, else its first words do."""
    head, body = _parted(text)
    name, described = head.get("name"), head.get("description")
    description = str(described) if described else _first_paragraph(body)
    return Skill(name=str(name) if name else slug, description=description[:_LONGEST_DESCRIPTION], folder=folder)


def prompt(skills: Iterable[Skill]) -> str:
    """What the model is told of skills; empty when there are none."""
    listed = [f"- {each.name}: {each.description}\n  Read {each.folder / FILE}" for each in skills]
    if not listed:
        return ""
    return "\n".join(
        (
            "## Skills",
            "You have these skills. Each is a folder with instructions, and maybe scripts and other files. When a task",
            "fits one, read its SKILL.md before you begin, and follow it; files that it names are beside it.",
            *listed,
        )
    )


def _parted(text: str) -> tuple[dict[str, Any], str]:
    if not text.startswith("---\n"):
        return {}, text
    head, mark, body = text[4:].partition("\n---")
    if not mark:
        return {}, text
    try:
        reader: Any = YAML(typ="safe", pure=True)
        found: Any = reader.load(head)
    except YAMLError:
        return {}, body
    return (found if isinstance(found, dict) else {}), body  # pyright: ignore[reportUnknownVariableType] - YAML


def _first_paragraph(text: str) -> str:
    lines: list[str] = []
    for line in (each.strip() for each in text.splitlines()):
        if line and not line.startswith(("#", "---")):
            lines.append(line)
        elif lines:
            break
    return " ".join(lines)
