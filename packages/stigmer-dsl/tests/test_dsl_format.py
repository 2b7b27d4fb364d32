"""The formatter: order, style, comments; never another meaning."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_dsl import DocumentError, Source, SourceError, format_text
from stigmer_dsl.__main__ import DIFFERENT, INVALID, main

UNORDERED = """\
# What it is for
do:
  # the first
  - a: { then: end, set: { x: 1 }, if: .x } # at the end
  - b:
      with: { endpoint: 'https://x.y', method: get }
      call: http
  - c:
      then: end
      # why it waits
      wait: PT1S
document: { name: n, version: 1.0.0, dsl: '1.0.3', namespace: a }
"""
ORDERED = """\
# What it is for
document: {dsl: '1.0.3', namespace: a, name: n, version: 1.0.0}
do:
  # the first
  - a: {if: .x, set: {x: 1}, then: end} # at the end
  - b:
      call: http
      with: {method: get, endpoint: 'https://x.y'}
  - c:
      then: end
      # why it waits
      wait: PT1S
"""


@pytest.mark.requirement("format.order")
def test_keys_are_ordered_and_comments_stay_with_what_they_are_about() -> None:
    assert format_text(UNORDERED).replace("     # at", " # at") == ORDERED


def test_what_is_formatted_stays() -> None:
    once = format_text(UNORDERED)
    assert format_text(once) == once


def test_long_lists_and_objects_are_written_over_several_lines() -> None:
    text = f"do: [ {{ a: {{ set: {{ text: {'word ' * 20}, list: [1, 2] }} }} }} ]\n"
    assert format_text(text).count("\n") > 3


def test_json_stays_json() -> None:
    formatted = format_text('{"do": [], "document": {"name": "n", "dsl": "1.0.3"}}')
    assert formatted == json.dumps({"document": {"dsl": "1.0.3", "name": "n"}, "do": []}, indent=2) + "\n"


def test_several_documents_are_all_formatted() -> None:
    formatted = format_text("do: []\ndocument: { a: b }\n---\ndo: []\ndocument: { c: d }\n")
    assert formatted == "document: {a: b}\ndo: []\n---\ndocument: {c: d}\ndo: []\n"


@pytest.mark.requirement("format.meaning")
@pytest.mark.parametrize(
    "text",
    [
        "a: &x { b: 1 }\nc: { <<: *x, d: 2 }\n",
        "a: |\n  kept  \n  lines\n\nb: >-\n  folded\n  text\n",
        "a: 'yes'\nb: no\nc: 0o17\nd: 1.50\ne: 1e3\nf: 0x1F\ng: 2026-01-01\nh: 1_000\ni: 12:30:45\nj: 010\n",
        'a: "\\u00e9 \\t x"\nb: é\nc: ""\nd:\ne: ~\n',
        "? a\n: b\n",
        "# only\n# comments\na: 1\n# at the end\n",
        "%YAML 1.2\n---\na: 1\n...\n",
        "[1, 2,\n 3]\n",
        "{a: 1} # c\n",
        '{"do": ["\\u007f \\u009f \\ufffe é"]}',
        '{"do": ["\\u0085 \\u2028 \\u2029"]}',
        '{"do": ["a\u0085b \u2028 \u2029"]}',
        "- - - a\n    - b\n",
    ],
)
def test_odd_texts_keep_their_meaning(text: str) -> None:
    check(text)


def check(text: str) -> None:
    try:
        before = [document.value for document in Source.load(text, name="t").documents]
    except SourceError:
        with pytest.raises(SourceError):
            format_text(text)
        return
    formatted = format_text(text)
    after = [document.value for document in Source.load(formatted, name="t").documents]
    assert json.dumps(after, sort_keys=True) == json.dumps(before, sort_keys=True)
    assert format_text(formatted) == formatted


KEYS = ["do", "document", "set", "then", "if", "call", "with", "for", "in", "each", "use", "functions", "x y", "a"]
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12) | st.sampled_from(["no", "1", "${ .x }", "http", "# x", "a: b", "line\nline\n", " x "]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.requirement("format.meaning")
@given(values, st.randoms(use_true_random=False))
def test_no_document_changes_its_meaning(value: Any, seed: random.Random) -> None:
    text = _written(value, seed, 0)
    check(text)


def _written(value: Any, seed: random.Random, indent: int) -> str:
    """A value as YAML of a chance style, with comments here and there."""
    pad = "  " * indent
    comment = seed.choice(["", "", "", f"{pad}# c{seed.randint(0, 9)}\n", "\n"])
    behind = seed.choice(["", "", "  # d"])
    inner: Any = value
    if isinstance(value, dict) and value and seed.random() < 0.8:
        pairs = [(f"{pad}{json.dumps(key)}:", item) for key, item in inner.items()]
    elif isinstance(value, list) and value and seed.random() < 0.8:
        pairs = [(f"{pad}-", item) for item in inner]
    else:
        return f"{comment}{pad}{json.dumps(value, ensure_ascii=seed.random() < 0.5)}{behind}\n"
    return "".join(f"{comment}{head}{behind}\n{_written(item, seed, indent + 1)}" for head, item in pairs)


@given(st.text(alphabet="{}[]:,-&*!|>'\"#? \n\tab1~<"))
def test_any_text_is_formatted_or_refused(text: str) -> None:
    try:
        formatted = format_text(text)
    except DocumentError:
        return
    assert format_text(formatted) == formatted


@pytest.mark.requirement("command")
def test_the_command_formats_files_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(UNORDERED)
    assert main(["format", "--check", str(path)]) == DIFFERENT
    assert path.read_text() == UNORDERED
    assert main(["format", str(path)]) == 0
    assert path.read_text() == format_text(UNORDERED)
    assert main(["format", "--check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: would be formatted\n{path}: formatted\n"
    path.write_text("a: [")
    assert main(["format", str(path)]) == INVALID
    command = [sys.executable, "-m", "stigmer_dsl", "format", "-"]
    done = subprocess.run(command, input=UNORDERED, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, format_text(UNORDERED))
