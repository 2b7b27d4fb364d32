"""JSON values through their protobuf forms, and secrets out of them."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_protos import descriptors
from stigmer_runner import REDACTED, Redactor, fill_struct, fill_value, read_struct, read_value, shallow

EXACT = st.integers(-(2**53), 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | EXACT | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def through_value(value: Any) -> Any:
    message: Any = descriptors.message_type("google.protobuf.Value")()
    fill_value(message, value)
    again: Any = descriptors.message_type("google.protobuf.Value")()
    again.ParseFromString(message.SerializeToString())
    return read_value(again)


@given(JSON)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert json.dumps(through_value(value), sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("layers", [["object"], ["list"], ["object", "list"]])
@pytest.mark.parametrize("levels", [3, 100, 900])
def test_what_is_nested_too_deep_is_told_as_text(layers: list[str], levels: int) -> None:
    value: Any = "the core"
    for number in range(levels):
        value = [value] if layers[number % len(layers)] == "list" else {"a": value}
    told = through_value(shallow(value))
    assert (told == value) == (levels == 3)
    assert levels == 900 or "the core" in json.dumps(told)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_equal(number: float) -> None:
    assert through_value(number) == number


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**30])
def test_a_whole_number_beyond_a_double_keeps_its_digits(number: int) -> None:
    assert through_value({"n": number}) == {"n": str(number)}


def test_whole_numbers_are_whole() -> None:
    assert json.dumps(through_value([3, 3.0, 3.5, 1e300])) == "[3, 3, 3.5, 1e+300]"


def test_an_object_goes_into_a_struct_and_empty_ones_are_there() -> None:
    message: Any = descriptors.message_type("google.protobuf.Struct")()
    fill_struct(message, {"a": {}, "b": [], "c": None})
    assert read_struct(message) == {"a": {}, "b": [], "c": None}


SECRET = 'p@ss/"wörd"?9'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_a_secret_is_taken_out_in_every_form(form: str) -> None:
    value = {"text": f"before {form} after", form: [form, 1]}
    assert Redactor([SECRET]).value(value) == {"text": f"before {REDACTED} after", REDACTED: [REDACTED, 1]}


@pytest.mark.parametrize("user", ["u", "us", "use", "user"])
def test_a_secret_is_taken_out_of_a_base64_of_user_and_password(user: str) -> None:
    secret = "a-long-enough-password"
    text = base64.b64encode(f"{user}:{secret}".encode()).decode()
    assert REDACTED in Redactor([secret]).text(text)


def test_a_longer_secret_is_taken_out_before_its_part() -> None:
    assert Redactor(["token", "token-two"]).text("token-two token") == f"{REDACTED} {REDACTED}"


def test_a_short_secret_is_taken_out_only_as_a_whole() -> None:
    redactor = Redactor(["42"])
    assert redactor.value(["42", 42, "1428", 1428]) == [REDACTED, REDACTED, "1428", 1428]
