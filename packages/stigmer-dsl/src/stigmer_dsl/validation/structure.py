"""The structure of a document: what the model says about it, in words a person can act on.

Owns turning the model's errors into findings, and saving what is sound of a broken document so that its meaning can
be checked in the same pass.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stigmer_dsl.model import TASK_KEYS, TaskBase, Workflow
from stigmer_dsl.model.element import EXPRESSION, Element, wire_name
from stigmer_dsl.problems import did_you_mean, pointer_parts, pointer_to
from stigmer_dsl.validation.findings import MAX_FINDINGS, Finding

_ENTRY_FIELDS = ("task", "case", "extension")
_HEADER = {"dsl": "1.0.0", "namespace": "unknown", "name": "unknown", "version": "0.0.0"}
_STAND_IN: dict[str, Any] = {"set": {"broken": True}}
_ROUNDS = 4
"""How often what is left of a broken document is read again."""

_TYPES: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "tuple_type": "a list",
    "list_type": "a list",
}
_EMPTY: Mapping[str, str] = {"too_short": "needs at least one entry", "string_too_short": "must not be empty"}
_PATTERNS: Mapping[str, str] = {
    "namespace": "1 to 63 letters, digits and hyphens, beginning and ending with a letter or digit",
    "name": "1 to 63 letters, digits and hyphens, beginning and ending with a letter or digit",
    "version": "a semantic version such as 1.0.0",
    "dsl": "a semantic version such as 1.0.0",
}
_OLD_NAMES: Mapping[str, str] = {"description": "summary", "id": "name", "specVersion": "dsl"}
_CODES: Mapping[str, str] = {
    "shape": "dsl.type",
    "null": "dsl.type",
    "task-kind": "dsl.task-kind",
    "entry": "dsl.entry",
    "one-of": "dsl.one-of",
    "incomplete": "dsl.missing-field",
}


@dataclass(slots=True, kw_only=True)
class Structure:
    """What the model makes of a document."""

    workflow: Workflow | None
    """The workflow; of a broken document, with stand-ins for its broken tasks; None if nothing could be saved."""
    findings: list[Finding] = field(default_factory=list[Finding])
    broken: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Components of `use`, as (collection, name), that are there but broken."""
    replaced: set[str] = field(default_factory=set[str])
    """Pointers of what has a stand-in."""


@dataclass(frozen=True, slots=True)
class _Located:
    pointer: str
    task: str | None
    """The pointer of the innermost task around it."""
    value: Any
    """The innermost value on the way that exists."""


def examine_structure(value: Any) -> Structure:
    """Check a document against the model."""
    try:
        return Structure(workflow=Workflow.model_validate(value))
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if not _is_echo(detail)][:MAX_FINDINGS]
    if not isinstance(value, dict):
        message = f"a workflow is an object, not {_shown(value)}"
        return Structure(workflow=None, findings=[Finding(code="dsl.type", pointer="", message=message)])
    structure = Structure(workflow=None, findings=[])
    saved: dict[str, Any] = copy.deepcopy(cast("dict[str, Any]", value))
    for detail in details:
        located = _locate(detail["loc"], value)
        structure.findings.append(_finding(detail, located))
        _mend(saved, detail, located, structure)
    structure.workflow = _read_again(saved, structure)
    return structure


def _read_again(saved: dict[str, Any], structure: Structure) -> Workflow | None:
    """Return the workflow of what is left, so that the rest of a document is looked at, too; None if there is none.

    What lacks something without its unknown keys is no problem of its own, and is taken out as a whole.
    """
    for _ in range(_ROUNDS):
        try:
            return Workflow.model_validate(saved)
        except ValidationError as error:
            for detail in error.errors(include_url=False)[:MAX_FINDINGS]:
                located = _locate(detail["loc"], saved)
                _mend(saved, detail, located, structure)
    return None


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is only said to be too short because an entry of it is wrong, which is said already."""
    given = detail["input"]
    return detail["type"] == "too_short" and isinstance(given, (list, tuple)) and bool(cast("list[Any]", given))


def _locate(loc: Sequence[int | str], value: Any) -> _Located:
    """The pointer of a model's location: what exists in the document, without the model's own steps."""
    parts: list[str | int] = []
    task: str | None = None
    at = value
    for step in loc:
        if isinstance(at, dict):
            content = cast("dict[str, Any]", at)
            if step in content:
                parts.append(step)
                at = content[str(step)]
            elif step in _ENTRY_FIELDS and len(content) == 1:
                name = next(iter(content))
                parts.append(name)
                at = content[name]
            else:
                continue
        elif isinstance(at, (list, tuple)) and isinstance(step, int) and step < len(cast("list[Any]", at)):
            parts.append(step)
            at = cast("list[Any]", at)[step]
            continue
        else:
            continue
        if step == "task" or (len(parts) == 3 and parts[:2] == ["use", "functions"]):
            task = pointer_to(parts)
    return _Located(pointer_to(parts), task, at)


def _finding(detail: ErrorDetails, located: _Located) -> Finding:
    kind, loc = detail["type"], detail["loc"]
    last = str(loc[-1]) if loc else ""
    if kind == "missing":
        hint = _misspelt(last, located.value)
        return Finding(code="dsl.missing-field", pointer=located.pointer, message=f"needs `{last}`", hint=hint)
    if kind == "extra_forbidden":
        return _unknown_field(last, loc, located)
    if kind in _TYPES:
        message = f"must be {_TYPES[kind]}, not {_shown(detail['input'])}"
        return Finding(code="dsl.type", pointer=located.pointer, message=message, hint=_other_type(detail))
    if kind == "literal_error":
        return _wrong_word(detail, located)
    if kind == "string_pattern_mismatch":
        is_expression = detail.get("ctx", {}).get("pattern") == EXPRESSION
        form = "one expression, ${ … }, if it is a text" if is_expression else _PATTERNS.get(last, "of another form")
        message = f"must be {form}, not {_shown(detail['input'])}"
        return Finding(code="dsl.value", pointer=located.pointer, message=message)
    if kind in _EMPTY:
        return Finding(code="dsl.value", pointer=located.pointer, message=_EMPTY[kind])
    hint = _misspelt_kind(located.value) if kind == "task-kind" else _entries(located) if kind == "entry" else ""
    code = _CODES.get(kind, "dsl.value")
    return Finding(code=code, pointer=located.pointer, message=_lower(detail["msg"]), hint=hint)


def _other_type(detail: ErrorDetails) -> str:
    """How what is of another type is probably to be written."""
    given = detail["input"]
    if detail["type"] == "string_type" and not isinstance(given, (dict, list)):
        return "put it in quotes"
    if detail["type"] in ("tuple_type", "list_type") and isinstance(given, dict):
        return "begin each entry with a dash"
    return ""


def _entries(located: _Located) -> str:
    """How what was written as one entry is probably to be written."""
    entry = cast("dict[str, Any]", located.value) if isinstance(located.value, dict) else {}
    if len(entry) < 2:
        return ""
    if isinstance(entry.get("name"), str):
        return f"the name is the key: `- {entry['name']}: …`, and what it is stands inside"
    return "begin each entry with a dash, and put what belongs to one inside of it"


def _unknown_field(name: str, loc: Sequence[int | str], located: _Located) -> Finding:
    holder = pointer_parts(located.pointer)[:-1]
    kinds = _classes_at(loc[:-1])
    known = {wire_name(key) for kind in kinds for key in kind.model_fields}
    if name in TASK_KEYS and any(issubclass(kind, TaskBase) for kind in kinds):
        kind = next((kind.kind for kind in kinds if issubclass(kind, TaskBase)), "")
        message = f"a task is one thing: this one is a {kind} task, and has `{name}` as well"
        return Finding(
            code="dsl.task-kind", pointer=located.pointer, message=message, hint="make two tasks of it", at_key=True
        )
    hint = did_you_mean(name, known)
    if name in _OLD_NAMES and _OLD_NAMES[name] in known:
        hint = f"it is called {_OLD_NAMES[name]!r} here"
    place = f"in `{holder[-1]}`" if holder and not holder[-1].isdecimal() else "here"
    return Finding(
        code="dsl.unknown-field",
        pointer=located.pointer,
        message=f"`{name}` is unknown {place}",
        hint=hint,
        at_key=True,
    )


def _wrong_word(detail: ErrorDetails, located: _Located) -> Finding:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    words = [word.strip("'") for part in expected.split(" or ") for word in part.split(", ")]
    said = detail["input"]
    hint = did_you_mean(said, words) if isinstance(said, str) and len(words) > 3 else ""
    message = f"must be one of {', '.join(words)}, not {_shown(said)}"
    return Finding(code="dsl.value", pointer=located.pointer, message=message, hint=hint)


def _misspelt(name: str, holder: Any) -> str:
    if not isinstance(holder, dict):
        return ""
    hint = did_you_mean(name, [str(key) for key in cast("dict[Any, Any]", holder)])
    return f"it has {hint.split()[-1].rstrip('?')}" if hint.startswith("did you mean") else ""


def _misspelt_kind(task: Any) -> str:
    """Which key of a task without a kind was probably meant to be one."""
    keys = [str(key) for key in cast("dict[Any, Any]", task)] if isinstance(task, dict) else []
    hints = [(key, did_you_mean(key, TASK_KEYS)) for key in keys if key not in TaskBase.model_fields]
    return next((f"{key!r}: {hint}" for key, hint in hints if hint.startswith("did you mean")), "")


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:59] + "…"


def _classes_at(loc: Sequence[int | str]) -> list[type[Element]]:
    """The classes of the model that a location may be."""
    kinds: list[type[Element]] = [Workflow]
    for step in loc:
        if not isinstance(step, str):
            continue
        if step.startswith("<") and step.endswith(">"):
            tag = step[1:-1]
            kinds = [kind for kind in kinds if _has_tag(kind, tag)] or kinds
        else:
            inner = [found for kind in kinds for found in _classes_of(kind, step)]
            kinds = inner or kinds
    return kinds


def _has_tag(kind: type[Element], tag: str) -> bool:
    return issubclass(kind, TaskBase) and f"{kind.kind} ".startswith(f"{tag} ")


@lru_cache(maxsize=1024)
def _classes_of(kind: type[Element], key: str) -> tuple[type[Element], ...]:
    for name, info in kind.model_fields.items():
        if wire_name(name) == key:
            return tuple(_classes_in(info.annotation))
    return ()


def _classes_in(annotation: Any) -> Iterator[type[Element]]:
    if isinstance(annotation, type) and issubclass(annotation, Element):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes_in(argument)


def _mend(saved: dict[str, Any], detail: ErrorDetails, located: _Located, structure: Structure) -> None:
    """Take what is wrong out of the copy, with as little around it as possible."""
    parts = pointer_parts(located.pointer)
    if any(f"{located.pointer}/".startswith(f"{pointer}/") for pointer in structure.replaced):
        return
    if detail["type"] == "extra_forbidden":
        _change(saved, parts, None)
    elif located.task is not None:
        structure.replaced.add(located.task)
        _change(saved, pointer_parts(located.task), copy.deepcopy(_STAND_IN))
    elif parts[:1] == ["document"] or not parts:
        structure.replaced.add("/document")
        saved["document"] = {**_HEADER}
        saved.setdefault("do", [])
    elif parts[0] == "use" and len(parts) >= 3:
        structure.broken.add((parts[1], parts[2]))
        _change(saved, parts[:3], None)
    elif parts[0] == "do" and len(parts) >= 2:
        _change(saved, parts[:2], {f"broken {parts[1]}": copy.deepcopy(_STAND_IN)})
    elif parts[0] == "do":
        saved["do"] = []
    else:
        saved.pop(parts[0], None)


def _change(saved: Any, parts: Sequence[str], replacement: Any) -> None:
    """Replace what stands at a path, or remove it if there is no replacement; what is gone already stays gone."""
    at = saved
    for part in parts[:-1]:
        at = _step(at, part)
    last = parts[-1]
    if isinstance(at, dict) and last in at:
        content = cast("dict[str, Any]", at)
        if replacement is None:
            del content[last]
        else:
            content[last] = replacement
    elif isinstance(at, list) and last.isdecimal() and int(last) < len(cast("list[Any]", at)):
        if replacement is None:
            cast("list[Any]", at)[int(last)] = {f"broken {last}": copy.deepcopy(_STAND_IN)}
        else:
            cast("list[Any]", at)[int(last)] = replacement


def _step(at: Any, part: str) -> Any:
    if isinstance(at, dict):
        return cast("dict[str, Any]", at).get(part)
    if isinstance(at, list) and part.isdecimal() and int(part) < len(cast("list[Any]", at)):
        return cast("list[Any]", at)[int(part)]
    return None
