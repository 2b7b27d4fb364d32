# ruff: noqa: E501, S301 - one row to a line; what is unpickled was pickled here

import pickle

import pytest
from stigmer_dsl import (
    DocumentError,
    ExpressionError,
    InvalidDocumentError,
    MissingSecretError,
    Position,
    Problem,
    SchemaError,
    SecretAccessError,
    WorkflowError,
)
from stigmer_dsl.errors import STANDARD, matches, same_type, standard_name
from stigmer_dsl.model import ErrorFilter

OLD = "https://serverlessworkflow.io/spec/1.0.0/errors/"
NEW = "https://open-workflow-specification.org/spec/1.0.0/errors/"


@pytest.mark.requirement("error.standard")
def test_the_standard_types_have_their_usual_status() -> None:
    assert {name: (kind.type, kind.status) for name, kind in STANDARD.items()} == {
        "configuration": (OLD + "configuration", 400),
        "validation": (OLD + "validation", 400),
        "expression": (OLD + "expression", 400),
        "authentication": (OLD + "authentication", 401),
        "authorization": (OLD + "authorization", 403),
        "timeout": (OLD + "timeout", 408),
        "communication": (OLD + "communication", 500),
        "runtime": (OLD + "runtime", 500),
    }


@pytest.mark.requirement("error.hosts")
@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (OLD + "timeout", NEW + "timeout", True),
        (NEW + "timeout", NEW + "timeout", True),
        (OLD + "timeout", NEW + "timeout/", True),
        (OLD + "timeout", NEW + "runtime", False),
        ("https://x.y/timeout", "https://x.y/timeout", True),
        ("https://x.y/timeout", OLD + "timeout", False),
        (OLD + "mine", NEW + "mine", False),
    ],
)
def test_types_are_equal_under_both_hosts(a: str, b: str, same: bool) -> None:
    assert same_type(a, b) is same
    assert same_type(b, a) is same


def test_a_type_that_is_not_standard_has_no_standard_name() -> None:
    assert standard_name(NEW + "timeout") == "timeout"
    assert standard_name("https://x.y/errors/timeout") is None


@pytest.mark.requirement("error.filter")
@pytest.mark.parametrize(
    ("fields", "caught"),
    [
        ({"type": NEW + "communication"}, True),
        ({"type": OLD + "communication", "status": 503}, True),
        ({"type": OLD + "communication", "status": 500}, False),
        ({"type": OLD + "runtime"}, False),
        ({"title": "Down", "detail": "d", "instance": "/do/0/a"}, True),
        ({"instance": "/do/0"}, False),
        ({"title": "down"}, False),
    ],
)
def test_an_error_passes_a_filter_when_every_field_is_equal(fields: dict[str, object], caught: bool) -> None:
    error = WorkflowError(type=OLD + "communication", status=503, title="Down", detail="d", instance="/do/0/a")
    assert matches(error, ErrorFilter.model_validate(fields)) is caught
    assert matches(error, None)


@pytest.mark.requirement("error.details")
def test_problem_details_go_there_and_back() -> None:
    details = {"type": "https://x.y/e", "status": 418, "title": "T", "detail": "D", "instance": "/do/0/a"}
    error = WorkflowError.from_dict(details)
    assert error.to_dict() == details
    assert str(error) == "T: D (at /do/0/a)"
    assert WorkflowError.from_dict({}).to_dict() == {"type": OLD + "runtime", "status": 500}


def test_the_first_instance_stays() -> None:
    error = WorkflowError.standard("timeout", "late").at("/do/0/a")
    assert error.to_dict() == {"type": OLD + "timeout", "status": 408, "title": "Timeout", "detail": "late", "instance": "/do/0/a"}  # fmt: skip
    assert error.at("/do/1/b") is error


def test_errors_survive_pickling() -> None:
    problem = Problem(code="c", message="m", pointer="/a", position=Position(1, 2), source="s", hint="h")
    document = pickle.loads(pickle.dumps(InvalidDocumentError([problem])))
    assert isinstance(document, InvalidDocumentError)
    assert document.problems == (problem,)
    assert pickle.loads(pickle.dumps(MissingSecretError(["b", "a"]))).names == ("a", "b")
    for error in (
        ExpressionError(".a", "no", on="{}"),
        SchemaError("the input", [("/a", "m")]),
        SecretAccessError(["S"]),
        WorkflowError.standard("runtime", "x"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert again.to_dict() == error.to_dict()


def test_a_document_error_lists_its_problems_one_to_a_line() -> None:
    problems = [
        Problem(code="c", message="wrong", pointer="/a~1b/0", position=Position(3, 4), source="w.yaml", hint="mend it"),
        Problem(code="c", message="also wrong"),
    ]
    assert str(DocumentError(problems)) == "w.yaml:3:4: /a~1b/0: wrong (mend it)\n/: also wrong"
