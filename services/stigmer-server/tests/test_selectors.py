"""Label selectors: what their text means, and what is said of text that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_sqlite import LabelTerm

from stigmer_server import selectors
from stigmer_server.errors import InvalidError

TERMS = [
    ("team", LabelTerm(key="team")),
    ("!team", LabelTerm(key="team", negated=True)),
    ("! team", LabelTerm(key="team", negated=True)),
    ("team=blue", LabelTerm(key="team", values=("blue",))),
    ("team == blue", LabelTerm(key="team", values=("blue",))),
    ("team=", LabelTerm(key="team", values=("",))),
    ("team!=blue", LabelTerm(key="team", values=("blue",), negated=True)),
    ("team in (blue)", LabelTerm(key="team", values=("blue",))),
    ("team  in( blue ,red )", LabelTerm(key="team", values=("blue", "red"))),
    ("team notin (blue, red)", LabelTerm(key="team", values=("blue", "red"), negated=True)),
    ("stigmer.ai/auto-created=true", LabelTerm(key="stigmer.ai/auto-created", values=("true",))),
    ("in", LabelTerm(key="in")),
    ("in in (in)", LabelTerm(key="in", values=("in",))),
    ("цвет=синий", LabelTerm(key="цвет", values=("синий",))),
]


@pytest.mark.parametrize(("text", "term"), TERMS)
def test_a_term_means_what_it_says(text: str, term: LabelTerm) -> None:
    assert selectors.parse(text) == (term,)


def test_terms_are_joined_by_commas_outside_of_parentheses() -> None:
    text = " , ".join(text for text, _ in TERMS)
    assert selectors.parse(text) == tuple(term for _, term in TERMS)


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_nothing_selects_everything(text: str) -> None:
    assert selectors.parse(text) == ()


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("a,", 2, "is empty"),
        (",a", 1, "is empty"),
        ("a,,b", 2, "is empty"),
        ("a, b in (x", 2, "parenthesis"),
        ("a, b in x)", 2, "parenthesis"),
        ("b in ()", 1, "needs values in its parentheses, such as b in (a, b)"),
        ("b notin (x,,y)", 1, "needs values in its parentheses, such as b notin (a, b)"),
        ("b in x", 1, "in parentheses"),
        ("=x", 1, "no key"),
        ("!=x", 1, "no key"),
        ("a b", 1, "is none of: key, !key"),
        ("!", 1, "is none of"),
        ("!a=b", 1, "is none of"),
        ("a=b=c", 1, "is none of"),
        ("ok, ok=1, a > 3", 3, "is none of"),
    ],
)
def test_a_term_that_is_none_is_pointed_at(text: str, number: int, said: str) -> None:
    with pytest.raises(InvalidError, match=f"^selector: term {number} ") as failure:
        selectors.parse(text)
    (violation,) = failure.value.violations
    assert (violation.field, violation.rule) == ("selector", "selector.syntax")
    assert said in violation.message


def test_a_selector_has_an_end() -> None:
    assert len(selectors.parse(",".join("a" * selectors.MAX_TERMS))) == selectors.MAX_TERMS
    with pytest.raises(InvalidError, match="101 terms"):
        selectors.parse(",".join("a" * 101))


@given(st.text(alphabet="ab=!(), \tin|\n", max_size=30))
def test_any_text_is_a_selector_or_is_refused(text: str) -> None:
    try:
        terms = selectors.parse(text)
    except InvalidError:
        return
    for term in terms:
        assert term.key
        assert not set(term.key) & set(" ,=!()")
