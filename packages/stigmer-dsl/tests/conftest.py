"""Shared by the tests of the language: documents to test with."""

from collections.abc import Callable

import pytest
from hypothesis import settings

HEADER = "document: { dsl: '1.0.3', namespace: test, name: example, version: '0.1.0' }\n"


# Machines differ: a slow example is no failure. Fewer examples than usual, as each may start jq.
settings.register_profile("language", deadline=None, max_examples=60)
settings.load_profile("language")


@pytest.fixture
def document() -> Callable[[str], str]:
    """A whole document around the text of its body."""

    def build(body: str) -> str:
        return HEADER + body

    return build
