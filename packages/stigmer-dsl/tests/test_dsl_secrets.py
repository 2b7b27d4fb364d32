import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stigmer_dsl import ExpressionError, MissingSecretError, SecretAccessError, Secrets
from stigmer_dsl.expressions import evaluate, evaluate_bare
from stigmer_dsl.secrets import REDACTED, fill_secrets, find_secrets, mask_secrets, redact, secret_marker

NONCE = "0b9de1f3c04b4a4f"
RUN = Secrets(names=frozenset({"TOKEN", "BASE_URL", "my-secret", "db", "ö.x⟧:"}), nonce=NONCE)
VALUES = {
    "TOKEN": "t0k3n",
    "BASE_URL": "https://x.y",
    "my-secret": "hush",
    "db": '{"user": "u", "port": 5}',
    "ö.x⟧:": "odd",
}


def filled(value: Any, data: Any = None, **variables: Any) -> Any:
    return fill_secrets(evaluate(value, data, variables, secrets=RUN), VALUES, nonce=NONCE)


@pytest.mark.requirement("secrets.symbolic")
@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("${ $secrets.TOKEN }", "t0k3n"),
        ('${ "Bearer \\($secrets.TOKEN)" }', "Bearer t0k3n"),
        ('${ "Bearer " + $secrets.TOKEN }', "Bearer t0k3n"),
        ('${ $secrets["my-secret"] }', "hush"),
        ('${ $secrets."my-secret" }', "hush"),
        ("${ {a: [$secrets.TOKEN], b: .x} }", {"a": ["t0k3n"], "b": 1}),
        ("${ if .x == 1 then $secrets.TOKEN else null end }", "t0k3n"),
        ("${ $secrets.db.user }", "u"),
        ('${ "\\($secrets.db.user):\\($secrets.db.port)" }', "u:5"),
        ("${ [range(2)] | map($secrets.TOKEN) }", ["t0k3n", "t0k3n"]),
        ("${.secrets.TOKEN}", "t0k3n"),
        ("${.env_vars.BASE_URL}/pets", "https://x.y/pets"),
        ("${.env_vars.BASE_URL}/${.secrets.TOKEN}", "https://x.y/t0k3n"),
        ('${ "Bearer ${.secrets.TOKEN}" }', "Bearer t0k3n"),
        ({"h": {"Authorization": "Bearer ${.secrets.TOKEN}"}}, {"h": {"Authorization": "Bearer t0k3n"}}),
    ],
)  # fmt: skip
def test_a_secret_is_a_marker_until_it_is_filled_in(value: Any, result: Any) -> None:
    symbolic = evaluate(value, {"x": 1}, secrets=RUN)
    assert not any(secret in repr(symbolic) for secret in ("t0k3n", "hush"))
    assert filled(value, {"x": 1}) == result


def test_a_marker_survives_storage_and_further_tasks() -> None:
    stored = json.loads(json.dumps(evaluate({"token": "${ $secrets.TOKEN }"}, None, secrets=RUN)))
    assert filled('${ "Bearer \\(.token)" }', stored) == "Bearer t0k3n"
    assert filled("${ .token }", stored) == "t0k3n"


def test_names_of_any_form_make_markers() -> None:
    for name in RUN.names:
        marker = RUN.marker(name)
        assert find_secrets({"x": [f"a{marker}b"]}, nonce=NONCE) == {name}
        assert fill_secrets(marker, VALUES, nonce=NONCE) == VALUES[name]
    marker = RUN.marker("ö.x⟧:", "p.q")
    assert fill_secrets(marker, {"ö.x⟧:": '{"p.q": "deep"}'}, nonce=NONCE) == "deep"


def test_markers_in_keys_are_found_and_filled() -> None:
    value = {RUN.marker("TOKEN"): 1}
    assert find_secrets(value, nonce=NONCE) == {"TOKEN"}
    assert fill_secrets(value, VALUES, nonce=NONCE) == {"t0k3n": 1}


@pytest.mark.requirement("secrets.symbolic")
def test_secrets_without_a_value_are_named() -> None:
    value = [RUN.marker("TOKEN"), RUN.marker("my-secret"), RUN.marker("db", "password")]
    with pytest.raises(MissingSecretError) as caught:
        fill_secrets(value, {"TOKEN": "x", "db": "{}"}, nonce=NONCE)
    assert caught.value.names == ("db.password", "my-secret")


@pytest.mark.requirement("use.secrets")
@pytest.mark.parametrize(
    "value", ["${ $secrets.NOPE }", "${.secrets.NOPE}", "x ${.env_vars.NOPE}", '${ "${.secrets.NOPE}" }']
)
@pytest.mark.parametrize("run", [RUN, None])
def test_a_secret_that_is_not_declared_is_refused(value: str, run: Secrets | None) -> None:
    with pytest.raises(SecretAccessError, match="'NOPE'") as caught:
        evaluate(value, {}, secrets=run)
    assert caught.value.status == 403


@pytest.mark.requirement("secrets.unforgeable")
@pytest.mark.parametrize("nonce", ["", "x", NONCE[:-1], NONCE.upper()])
def test_data_that_looks_like_a_marker_is_text(nonce: str) -> None:
    forged = secret_marker("TOKEN", nonce=nonce)
    assert filled("${ .x }", {"x": forged}) == forged
    assert find_secrets(forged, nonce=NONCE) == set()


@pytest.mark.requirement("secrets.unforgeable")
@given(st.text(alphabet="⟦⟧secret:TOKEN.%0b9d${}"))
def test_no_data_without_the_nonce_names_a_secret(data: str) -> None:
    assume(NONCE not in data)
    assert filled("${ .x }", {"x": data}) == data
    assert evaluate_bare(".x | .", {"x": data}, secrets=RUN) == data


@pytest.mark.requirement("secrets.opaque")
@pytest.mark.parametrize(
    "text",
    [
        "$secrets",
        "$secrets | keys",
        "$secrets[.name]",
        "$secrets | .TOKEN",
        '. as $secrets | "x"',
        '$secrets.TOKEN == "x"',
        '"x" != $secrets.TOKEN',
        "$secrets.TOKEN[0:3]",
        "$secrets.TOKEN | length",
        "$secrets.TOKEN | @base64",
        '@uri "\\($secrets.TOKEN)"',
        "$secrets.TOKEN | ascii_downcase",
        "$secrets.TOKEN | test(\"^a\")",
        "{a: $secrets.TOKEN} | tojson",
        "$secrets.TOKEN * 2",
        "[$secrets.db, $secrets.db.user]",
    ],
)  # fmt: skip
def test_what_would_treat_a_marker_as_the_secret_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate_bare(text, {"name": "TOKEN"}, secrets=RUN)


SECRET = 'pa"ss wörd/+\\&'


@pytest.mark.requirement("secrets.redacted")
@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"before {SECRET} after",
        json.dumps({"x": SECRET}),
        json.dumps({"x": SECRET}, ensure_ascii=False),
        f"https://x.y?q={quote(SECRET, safe='')}&z=1",
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        f"Basic {base64.b64encode(f'user:{SECRET}'.encode()).decode()}",
        f"Basic {base64.b64encode(f'u:{SECRET}!!'.encode()).decode()}",
        f"Basic {base64.b64encode(f'us:{SECRET}!'.encode()).decode()}",
    ],
)
def test_a_secret_is_redacted_however_it_is_written(text: str) -> None:
    cleaned = redact({"k": [text], text: 1}, {"PW": SECRET})
    shown = json.dumps(cleaned, ensure_ascii=False)
    assert REDACTED in shown
    assert SECRET not in shown
    assert json.dumps(SECRET)[1:-1] not in shown
    for shift in range(3):
        core = base64.b64encode(b"\0" * shift + SECRET.encode()).decode()[4:-4]
        assert core not in shown


def test_redaction_leaves_the_rest_as_it_is() -> None:
    value = {"n": 5, "f": 1.5, "b": True, "z": None, "l": ["plain", 1]}
    assert redact(value, {"A": "secret"}) == value
    assert redact("abc abc", {"A": "abc"}) == "abc abc"
    assert redact("longer longest", ["long", "longer"]) == f"{REDACTED} {REDACTED}est"


def test_markers_are_masked_for_people() -> None:
    assert mask_secrets({"x": f"Bearer {RUN.marker('TOKEN')}"}) == {"x": f"Bearer {REDACTED}"}
    assert redact(RUN.marker("TOKEN"), {}) == REDACTED
