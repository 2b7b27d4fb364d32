"""YAML as people write it: texts of several lines as blocks."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from stigmer_cli.plain import Json, is_list, is_object


def dump(value: Any) -> str:
    """Return a value of plain dictionaries, lists and scalars as a YAML document."""
    yaml: Any = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 4096
    stream = StringIO()
    yaml.dump(_readable(value), stream)
    return stream.getvalue()


def _readable(value: Json) -> Json:
    if is_object(value):
        return {key: _readable(item) for key, item in value.items()}
    if is_list(value):
        return [_readable(item) for item in value]
    return LiteralScalarString(value) if isinstance(value, str) and _can_be_block(value) else value


def _can_be_block(text: str) -> bool:
    """Blank ends of lines and tabs cannot stand in a block."""
    return "\n" in text and not any(line != line.rstrip() or "\t" in line for line in text.split("\n"))
