"""What the package offers is what it says it offers."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest
import stigmer_grpc
from stigmer_grpc import errors


@pytest.mark.parametrize("name", ["stigmer_grpc", "stigmer_grpc.interceptors"])
def test_all_is_sorted_and_is_every_public_name(name: str) -> None:
    module = import_module(name)
    public = [key for key, value in vars(module).items() if key[0] != "_" and not isinstance(value, ModuleType)]
    assert sorted(public) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_every_error_is_exported_and_has_its_own_code() -> None:
    assert set(errors.ERRORS) == set(errors.StatusCode) - {errors.StatusCode.OK}
    for code, error in errors.ERRORS.items():
        assert error.code is code
        assert getattr(stigmer_grpc, error.__name__) is error
        assert error.__name__ in (errors.__doc__ or "")
