"""Workflows written in Python."""

from collections.abc import Callable

import pytest
from stigmer_dsl import InvalidDocumentError, build, parse, to_yaml
from stigmer_dsl.model import TASK_KEYS, Duration, GrpcArguments, GrpcService, TaskBase

ONE = {"w": build.wait("PT1S")}
EVERY: list[tuple[str, Callable[[], TaskBase], object]] = [
    ("set", lambda: build.set_({"x": 1}, if_=".y", then="end"), {"if": ".y", "set": {"x": 1}, "then": "end"}),
    (
        "call",
        lambda: build.http("get", "https://x.y", {"query": {"a": "b"}}),
        {"call": "http", "with": {"method": "get", "endpoint": "https://x.y", "query": {"a": "b"}}},
    ),
    ("do", lambda: build.do(ONE), {"do": [{"w": {"wait": "PT1S"}}]}),
    (
        "for",
        lambda: build.for_("i", ".x", ONE, while_=".go"),
        {"for": {"each": "i", "in": ".x", "at": "index"}, "while": ".go", "do": [{"w": {"wait": "PT1S"}}]},
    ),
    (
        "fork",
        lambda: build.fork(ONE, compete=True),
        {"fork": {"branches": [{"w": {"wait": "PT1S"}}], "compete": True}},
    ),
    (
        "switch",
        lambda: build.switch({"a": (".x", "end"), "b": (None, "exit")}),
        {"switch": [{"a": {"when": ".x", "then": "end"}}, {"b": {"then": "exit"}}]},
    ),
    (
        "try",
        lambda: build.try_(ONE, {"as": "e", "do": ONE}),
        {"try": [{"w": {"wait": "PT1S"}}], "catch": {"as": "e", "do": [{"w": {"wait": "PT1S"}}]}},
    ),
    (
        "raise",
        lambda: build.raise_({"type": "https://x.y/z", "status": 400}),
        {"raise": {"error": {"type": "https://x.y/z", "status": 400}}},
    ),
    ("emit", lambda: build.emit({"type": "a.b"}), {"emit": {"event": {"with": {"type": "a.b"}}}}),
    (
        "listen",
        lambda: build.listen({"one": {"with": {"type": "a.b"}}}, read="envelope", foreach={"do": ONE}),
        {
            "listen": {"to": {"one": {"with": {"type": "a.b"}}}, "read": "envelope"},
            "foreach": {"do": [{"w": {"wait": "PT1S"}}]},
        },
    ),
    (
        "run",
        lambda: build.run("shell", {"command": "ls"}, return_="all", timeout={"after": Duration(seconds=5)}),
        {"run": {"shell": {"command": "ls"}, "return": "all"}, "timeout": {"after": {"seconds": 5}}},
    ),
    ("wait", lambda: build.wait(Duration(seconds=5)), {"wait": {"seconds": 5}}),
]


@pytest.mark.requirement("build")
@pytest.mark.parametrize(("key", "make", "written"), EVERY, ids=[key for key, _, _ in EVERY])
def test_a_task_is_what_the_document_would_say(key: str, make: Callable[[], TaskBase], written: object) -> None:
    assert make().to_dict() == written


@pytest.mark.requirement("build")
def test_every_kind_of_task_has_a_function() -> None:
    assert {key for key, _, _ in EVERY} == set(TASK_KEYS)


def test_arguments_may_be_elements_of_the_model() -> None:
    task = build.call("grpc", GrpcArguments(service=GrpcService(name="S", host="h"), method="M"))
    assert task.kind == "call grpc"


@pytest.mark.requirement("build")
def test_a_workflow_reads_back_from_its_text() -> None:
    made = build.workflow(
        "all",
        {f"t{index}": make() for index, (_, make, _) in enumerate(EVERY)} | {"f": build.call("greet")},
        use={"functions": {"greet": build.set_({"a": "${ .b }"})}, "secrets": ["S"]},
        summary="All of it",
        timeout={"after": "PT1H"},
    )
    text = to_yaml(made)
    assert text.startswith("document:\n  dsl: 1.0.3\n")
    assert parse(text).to_dict() == made.to_dict()


@pytest.mark.requirement("build")
def test_a_mistake_is_an_error_where_it_is_written() -> None:
    with pytest.raises(InvalidDocumentError, match=r"/with: needs `method`"):
        build.call("http", {"endpoint": "https://x.y"})
    with pytest.raises(InvalidDocumentError, match=r"/do/0/a/then: no task named 'b'"):
        build.workflow("x", {"a": build.wait("PT1S", then="b")})
