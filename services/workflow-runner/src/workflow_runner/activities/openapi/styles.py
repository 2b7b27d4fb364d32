"""How parameters are written into addresses, headers and cookies: the styles of OpenAPI. Pure."""

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

RESERVED = ":/?#[]@!$&'()*+,;="
_DELIMITERS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}


def plain(value: Any) -> str:
    """Return a value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def in_path(name: str, value: Any, style: str, *, explode: bool) -> str:
    """Return what stands in the path for a parameter: style `simple`, `label` or `matrix`."""
    match style, value:
        case "matrix", list():
            items = [_quoted(item) for item in cast("list[Any]", value)]
            key = f";{_quoted(name)}="
            return "".join(key + item for item in items) if explode else key + ",".join(items)
        case "matrix", dict() if explode:
            return "".join(f";{pair}" for pair in _pairs(cast("dict[str, Any]", value), "="))
        case "matrix", dict():
            return f";{_quoted(name)}=" + ",".join(_pairs(cast("dict[str, Any]", value), ","))
        case "matrix", _:
            return f";{_quoted(name)}={_quoted(value)}"
        case "label", _:
            return "." + _joined(value, "." if explode else ",", explode=explode)
        case _:
            return _joined(value, ",", explode=explode)


def in_query(name: str, value: Any, style: str, *, explode: bool, reserved: bool = False) -> list[str]:
    """Return the pairs `name=value` of the query for a parameter, encoded."""
    safe = RESERVED if reserved else ""
    key = quote(name, safe="[]")
    match value:
        case dict() if style == "deepObject":
            return _deep(key, cast("dict[str, Any]", value), safe)
        case dict() if explode:
            return _pairs(cast("dict[str, Any]", value), "=", safe)
        case dict():
            delimiter = _DELIMITERS.get(style, ",")
            return [f"{key}={delimiter.join(_pairs(cast('dict[str, Any]', value), delimiter, safe))}"]
        case list() if explode:
            return [f"{key}={_quoted(item, safe)}" for item in cast("list[Any]", value)]
        case list():
            items = [_quoted(item, safe) for item in cast("list[Any]", value)]
            return [f"{key}={_DELIMITERS.get(style, ',').join(items)}"]
        case _:
            return [f"{key}={_quoted(value, safe)}"]


def in_header(value: Any, *, explode: bool) -> str:
    """Return the value of a header for a parameter; nothing is encoded there."""
    if isinstance(value, list):
        return ",".join(plain(item) for item in cast("list[Any]", value))
    if isinstance(value, dict):
        joint = "=" if explode else ","
        return ",".join(f"{key}{joint}{plain(item)}" for key, item in cast("dict[str, Any]", value).items())
    return plain(value)


def in_cookie(name: str, value: Any, *, explode: bool) -> list[str]:
    """Return the cookies for a parameter."""
    return in_query(name, value, "form", explode=explode)


def _joined(value: Any, delimiter: str, *, explode: bool) -> str:
    if isinstance(value, list):
        return delimiter.join(_quoted(item) for item in cast("list[Any]", value))
    if isinstance(value, dict):
        return delimiter.join(_pairs(cast("dict[str, Any]", value), "=" if explode else delimiter))
    return _quoted(value)


def _pairs(value: Mapping[str, Any], joint: str, safe: str = "") -> list[str]:
    return [f"{_quoted(key)}{joint}{_quoted(item, safe)}" for key, item in value.items() if item is not None]


def _deep(key: str, value: Mapping[str, Any], safe: str) -> list[str]:
    pairs: list[str] = []
    for name, item in value.items():
        inner = f"{key}[{quote(name, safe='')}]"
        if isinstance(item, dict):
            pairs += _deep(inner, cast("dict[str, Any]", item), safe)
        elif isinstance(item, list):
            pairs += [f"{inner}={_quoted(each, safe)}" for each in cast("list[Any]", item)]
        elif item is not None:
            pairs.append(f"{inner}={_quoted(item, safe)}")
    return pairs


def _quoted(value: Any, safe: str = "") -> str:
    return quote(plain(value), safe=safe)
