"""Handlers that do not fit their service are refused when they are bound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from stigmer_grpc import BindingError, CallContext, bind


async def one(request: Any, context: CallContext) -> Any:
    return request


async def many(request: Any, context: CallContext) -> AsyncIterator[Any]:
    yield request


def test_an_unknown_service_or_method_is_refused(pool: Any) -> None:
    with pytest.raises(BindingError, match=r"no service 'lab\.v1\.Nothing'"):
        bind(pool, "lab.v1.Nothing", {})
    with pytest.raises(BindingError, match=r"lab\.v1\.Lab has no method 'Echo', 'ohce'"):
        bind(pool, "lab.v1.Lab", {"ohce": one, "Echo": one})


def test_a_handler_of_the_wrong_shape_is_refused(pool: Any) -> None:
    with pytest.raises(BindingError, match=r"lab\.v1\.Lab\.count streams responses"):
        bind(pool, "lab.v1.Lab", {"count": one})
    with pytest.raises(BindingError, match=r"lab\.v1\.Lab\.echo has one response"):
        bind(pool, "lab.v1.Lab", {"echo": many})


def test_a_bound_service_tells_of_every_method(pool: Any) -> None:
    service = bind(pool, "lab.v1.Lab", {"echo": one, "count": many})
    assert service.name == "lab.v1.Lab"
    assert {name: method.implemented for name, method in service.methods.items()} == {
        "echo": True,
        "count": True,
        "collect": False,
        "relay": False,
        "missing": False,
        "missingStream": False,
    }
    assert service.methods["echo"].path == "/lab.v1.Lab/echo"
