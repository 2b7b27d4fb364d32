import pytest
from stigmer_dsl import Source, SourceError
from stigmer_dsl.problems import Position
from stigmer_dsl.source import MAX_DEPTH, MAX_TEXT


def load(text: str) -> object:
    return Source.load(text, name="t.yaml").documents[0].value


def codes(text: str) -> list[str]:
    with pytest.raises(SourceError) as caught:
        Source.load(text, name="t.yaml")
    return [problem.code for problem in caught.value.problems]


@pytest.mark.requirement("source.json")
def test_json_is_read_with_its_escapes_and_numbers() -> None:
    assert load('{"a": "\\ud83d\\ude00", "b": [1.5, true, null, -2e3, 9223372036854775807]}') == {
        "a": "😀",
        "b": [1.5, True, None, -2000.0, 9223372036854775807],
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("007", 7),
        ("0o17", 15),
        ("0x1f", 31),
        ("1_000", "1_000"),
        ("1.0", 1.0),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    found = load(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.requirement("source.positions")
def test_every_value_and_key_has_its_place() -> None:
    text = 'a: 1\nb:\n  - x\n  - { c: d, "e/f": g }\nh: &x\n  i: j\nk: *x\n'
    document = Source.load(text, name="t.yaml").documents[0]
    assert document.position("") == Position(1, 1)
    assert document.position("/a") == Position(1, 4)
    assert document.position("/a", key=True) == Position(1, 1)
    assert document.position("/b/0") == Position(3, 5)
    assert document.position("/b/1/c") == Position(4, 10)
    assert document.position("/b/1/e~1f") == Position(4, 20)
    assert document.position("/b/1/e~1f", key=True) == Position(4, 13)
    assert document.position("/k/i") == Position(6, 6)


def test_a_pointer_to_nothing_has_the_place_of_what_is_nearest() -> None:
    document = Source.load("a:\n  b: 1\n", name="t.yaml").documents[0]
    assert document.position("/a/zzz/y") == document.position("/a")
    assert document.position("/a/b/0") == document.position("/a/b")


@pytest.mark.requirement("source.documents")
def test_a_text_may_hold_several_documents_with_anchors_of_their_own() -> None:
    source = Source.load("&a [1]\n---\n{b: 2}\n--- 3\n", name="t.yaml")
    assert [document.value for document in source.documents] == [[1], {"b": 2}, 3]
    assert source.documents[1].position("/b") == Position(3, 5)
    assert codes("&a [1]\n---\n*a\n") == ["yaml.alias"]


def test_merge_keys_give_way_to_the_mapping_and_keep_their_order() -> None:
    text = "x: &x { a: 1, b: 2 }\ny: &y { b: 3, c: 4 }\nz:\n  <<: [*x, *y]\n  a: 0\n"
    found = load(text)
    assert isinstance(found, dict)
    assert found["z"] == {"a": 0, "b": 2, "c": 4}
    assert codes("a:\n  <<: 1\n") == ["yaml.alias"]


@pytest.mark.requirement("source.strict")
@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", "yaml.duplicate-key", (3, 1)),
        ("a:\n  1: x\n", "yaml.key", (2, 3)),
        ("true: x\n", "yaml.key", (1, 1)),
        ("? [a]\n: b\n", "yaml.key", (1, 3)),
        ("a: .nan\n", "yaml.number", (1, 4)),
        ("a: -.inf\n", "yaml.number", (1, 4)),
        ("a: 1e999\n", "yaml.number", (1, 4)),
        ("a: " + "9" * 5000 + "\n", "yaml.number", (1, 4)),
        ("a: !!binary aGk=\n", "yaml.tag", (1, 4)),
        ("a: !thing x\n", "yaml.tag", (1, 4)),
        ("a: !thing [x]\n", "yaml.tag", (1, 4)),
        ("a: !!int x\n", "yaml.tag", (1, 4)),
        ("a: *b\n", "yaml.alias", (1, 4)),
        ("a: &x [*x]\n", "yaml.alias", (1, 8)),
        ('a: "\\ud800"\n', "yaml.text", (1, 4)),
        ("a:\n\tb: 1\n", "yaml.syntax", (2, 1)),
        ("a: [1\n", "yaml.syntax", (2, 1)),
        ("a: b\n  c: d\n", "yaml.syntax", (2, 4)),
        ("a: \x01\n", "yaml.syntax", (1, 4)),
        ("", "yaml.empty", (1, 1)),
        ("# nothing\n", "yaml.empty", (1, 1)),
    ],
)
def test_what_the_language_does_not_want_is_refused_at_its_place(text: str, code: str, place: tuple[int, int]) -> None:
    with pytest.raises(SourceError) as caught:
        Source.load(text, name="t.yaml")
    assert [(problem.code, problem.position) for problem in caught.value.problems] == [(code, place)]


def test_all_refusals_of_a_text_are_reported_together() -> None:
    assert codes("a: 1\na: 2\n1: x\nb: .nan\nc: !x y\n") == [
        "yaml.duplicate-key",
        "yaml.key",
        "yaml.number",
        "yaml.tag",
    ]


def test_a_tab_gets_advice() -> None:
    with pytest.raises(SourceError, match="never with tabs"):
        Source.load("a:\n\tb: 1\n", name="t.yaml")


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.requirement("source.limits")
@pytest.mark.parametrize(
    "text",
    [
        bomb(),
        "[" * 5000,
        "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2),
        "".join(" " * n + "a:\n" for n in range(MAX_DEPTH + 2)),
        "a: " + "x" * MAX_TEXT,
    ],
    ids=["alias bomb", "unclosed brackets", "nested lists", "nested objects", "long text"],
)
def test_a_hostile_text_is_refused_without_being_built(text: str) -> None:
    assert codes(text) == ["yaml.limit"]


def test_nesting_up_to_the_limit_is_read() -> None:
    assert load("[" * MAX_DEPTH + "]" * MAX_DEPTH)
