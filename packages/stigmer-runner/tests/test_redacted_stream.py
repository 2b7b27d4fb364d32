"""Secrets are taken out of texts that come in pieces, wherever these end."""

from __future__ import annotations

import random

import pytest
from stigmer_runner.redaction import REDACTED, Redactor

SECRETS = ("abcd", "cdefgh", "abcdxyz", "sk-0123456789", "no")
TEXTS = (
    "the key is sk-0123456789, and abcd.",
    "abcdefgh abcdxy abcdxyz abcdcdefgh xabcdx",
    "sk-01234 sk-0123456789sk-0123456789",
    "nothing at all, and no secret",
    "no",
    "",
)


@pytest.mark.parametrize("text", TEXTS)
def test_however_it_is_cut_what_comes_out_is_the_same(text: str) -> None:
    redactor, chance = Redactor(SECRETS), random.Random(7)
    for _ in range(200):
        stream, shown, at = redactor.stream(), "", 0
        while at < len(text):
            size = chance.randint(1, 5)
            shown += stream.feed(text[at : at + size])
            at += size
            # Nothing that was shown is ever taken back, and no piece of a secret is shown.
            assert redactor.text(text).startswith(shown)
        assert shown + stream.rest() == redactor.text(text)


def test_what_begins_no_secret_is_shown_at_once() -> None:
    stream = Redactor(SECRETS).stream()
    assert stream.feed("hello ") == "hello "
    assert stream.feed("sk-0") == ""
    assert stream.feed("! ") == "sk-0! "
    assert stream.feed("sk-0123456789") == REDACTED


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_found_in_bytes_where_it_is_found_in_text(text: str) -> None:
    redactor = Redactor(SECRETS)
    assert redactor.is_in(text.encode()) == (redactor.text(text) != text)
    assert redactor.is_in(b"\xff\0" + text.encode() + b"\xff") == (redactor.text(f".{text}.") != f".{text}.")
