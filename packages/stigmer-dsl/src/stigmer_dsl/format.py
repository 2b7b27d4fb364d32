"""The canonical text of a document: keys in the specification's order, one style, comments kept.

The text is only ever exchanged for one that means the same: what comes out is read again and compared, and a text
that could not be kept in meaning stays as it is.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, get_args, get_origin

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from stigmer_dsl.errors import SourceError
from stigmer_dsl.model import TASK_KEYS, TaskBase, Workflow
from stigmer_dsl.model.element import Element, wire_name
from stigmer_dsl.source import Source

WIDTH = 120
"""The columns of a line; only expressions and other texts without spaces are longer."""

_BREAKS = re.compile("[\x85\u2028\u2029]")
"""What YAML reads as breaks of lines."""
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What may stand in JSON as it is, and not in YAML, as which every text is read."""
_FLOW = 70
"""The longest list or object that stays on one line."""
_ENTRIES = {"TaskItem": "task", "SwitchItem": "case", "ExtensionItem": "extension"}
_LAST = ("output", "export", "timeout", "then", "metadata")
"""Of a task, what happens when it is done; before stand `if` and `input`, and then what the task is."""


def format_text(text: str, *, name: str = "workflow.yaml") -> str:
    """The canonical text of one or several documents, valid or not.

    JSON stays JSON. An object with comments on lines of their own keeps the order of its keys, so that each comment
    stays where it belongs. Formatting what was formatted changes nothing.

    Raises:
        SourceError: The text cannot be read.
    """
    values = [document.value for document in Source.load(text, name=name).documents]
    if text.lstrip().startswith(("{", "[")) and (formatted := _as_json(text)) is not None:
        return formatted
    formatted = _as_yaml(text)
    return formatted if formatted is not None and _is_same(formatted, values, name) else text


def to_yaml(workflow: Workflow) -> str:
    """The canonical text of a workflow, which reads back to the same."""
    yaml: Any = YAML()
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    written = io.StringIO()
    yaml.dump(_ordered(workflow.to_dict(), (Workflow,)), written)
    return written.getvalue()


def _is_same(text: str, values: list[Any], name: str) -> bool:
    """Whether a text means what it should, and formatting it again would change nothing."""
    try:
        read = [document.value for document in Source.load(text, name=name).documents]
    except SourceError:
        return False
    return _typed(read) == _typed(values) and _as_yaml(text) == text


def _typed(value: Any) -> Any:
    """A value in which 1, 1.0 and true are not equal."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_typed(item) for item in cast("list[Any]", value)]
    return type(value).__name__, value


def _as_json(text: str) -> str | None:
    if _BREAKS.search(text):
        return None  # read as YAML, it says something else
    try:
        value = json.loads(text)
    except ValueError:
        return None  # YAML that begins like JSON
    written = json.dumps(_ordered(value, (Workflow,)), indent=2, ensure_ascii=False) + "\n"
    return _UNREADABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _as_yaml(text: str) -> str | None:
    yaml: Any = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        documents = list(yaml.load_all(text))
        for document in documents:
            _restyle(document)
        written = io.StringIO()
        yaml.dump_all([_ordered(document, (Workflow,)) for document in documents], written)
    except (YAMLError, LookupError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError):
        return None  # what the reader of comments does not understand stays as it is
    return written.getvalue().rstrip("\n") + "\n"


def _restyle(value: Any) -> None:
    """Write long lists and objects on lines of their own."""
    if not isinstance(value, (CommentedMap, CommentedSeq)):
        return
    node = cast("Any", value)
    is_long = len(json.dumps(value, ensure_ascii=False, default=str)) > _FLOW
    if node.fa.flow_style() and is_long and not _holds_comments(value):
        node.fa.set_block_style()
    for item in node.values() if isinstance(value, CommentedMap) else node:
        _restyle(item)


def _holds_comments(value: Any) -> bool:
    """Whether a comment stands anywhere in a value."""
    if not isinstance(value, (CommentedMap, CommentedSeq)):
        return False
    node = cast("Any", value)
    inner = node.values() if isinstance(value, CommentedMap) else node
    return bool(node.ca.comment or node.ca.items) or any(_holds_comments(item) for item in inner)


def _behind(value: Any, key: Any) -> Iterator[str]:
    """The comments behind what a key or an index holds; those on lines of their own are about what comes next."""
    node = value
    yield from _texts(node.ca.items.get(key))
    inner: Any = node[key]
    if isinstance(inner, (CommentedMap, CommentedSeq)):
        yield from _texts(cast("Any", inner).ca.comment)
        keys = list(cast("Any", inner)) if isinstance(inner, CommentedMap) else list(range(len(inner)))
        if keys:
            yield from _behind(inner, keys[-1])


def _texts(tokens: Any) -> Iterator[str]:
    for token in tokens or ():
        yield from _texts(token) if isinstance(token, list) else [str(token.value)] if token is not None else []


def _is_movable(value: Any) -> bool:
    """Whether the keys of an object may change places, and each comment stay with what it is about."""
    if not isinstance(value, CommentedMap):
        return True
    node = cast("Any", value)
    if node.ca.comment and node.ca.comment[1] and "document" not in node:
        return False  # the comment before the first key; at the top of a text it is about all of it
    comments = [comment for key in node for comment in _behind(value, key) if "#" in comment]
    return not any(comment.startswith("\n") or comment.count("\n") > 1 for comment in comments)


def _ordered(value: Any, kinds: Sequence[type[Element]]) -> Any:
    """A value with the keys of everything that the language knows in order."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        for index, item in enumerate(items):
            items[index] = _ordered(item, kinds)
        return items
    if not isinstance(value, dict) or not kinds:
        return cast("Any", value)
    content = cast("dict[Any, Any]", value)
    entry = next((_ENTRIES[kind.__name__] for kind in kinds if kind.__name__ in _ENTRIES), None)
    if entry is not None:
        inner = [found for kind in kinds for found in _inner(kind, entry)[0]]
        for key in content:
            content[key] = _ordered(content[key], inner)
        return content
    kind = _kind_of(content, kinds)
    for key in content:
        classes, is_map = _inner(kind, str(key))
        if is_map and isinstance(content[key], dict):
            for name in content[key]:
                content[key][name] = _ordered(content[key][name], classes)
        else:
            content[key] = _ordered(content[key], classes)
    _move_keys(content, _order(kind))
    return content


def _move_keys(content: dict[Any, Any], order: Sequence[str]) -> None:
    """Bring the keys of an object into order; those that the language does not know stay behind the others."""
    known = {key: index for index, key in enumerate(order)}
    wanted = sorted(content, key=lambda key: known.get(str(key), len(known)))
    if wanted == list(content) or not _is_movable(content):
        return
    for key in wanted:
        if isinstance(content, CommentedMap):
            cast("Any", content).move_to_end(key)
        else:
            content[key] = content.pop(key)


def _kind_of(content: Mapping[Any, Any], kinds: Sequence[type[Element]]) -> type[Element]:
    """The class among several that an object is written as."""
    key = next((key for key in TASK_KEYS if key in content), "")
    name = f"call {content['call']}" if key == "call" else key
    tasks = [kind for kind in kinds if issubclass(kind, TaskBase)]
    function = [kind for kind in tasks if key == "call" and kind.kind == "call function"]
    return next((kind for kind in tasks if kind.kind == name), (*function, *kinds)[0])


def _order(kind: type[Element]) -> list[str]:
    names = [wire_name(name) for name in kind.model_fields]
    if not issubclass(kind, TaskBase):
        return names
    common = [wire_name(name) for name in TaskBase.model_fields]
    return ["if", "input", *(name for name in names if name not in common), *_LAST]


def _inner(kind: type[Element], key: str) -> tuple[list[type[Element]], bool]:
    """The classes of what a field holds, and whether it holds them by names."""
    for name, info in kind.model_fields.items():
        if wire_name(name) == key:
            classes = list(_classes(info.annotation))
            return classes, bool(classes) and _is_map(info.annotation)
    return [], False


def _classes(annotation: Any) -> Iterator[type[Element]]:
    if isinstance(annotation, type) and issubclass(annotation, Element):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument)


def _is_map(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(get_origin(part) is dict for part in get_args(annotation))
