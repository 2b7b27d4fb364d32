"""What the package offers, and that its README tells the truth."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import stigmer_sqlite
from stigmer_sqlite import MemoryStore, Reader, ResourceStore, SqliteStore, StoreError, Transaction
from stigmer_sqlite.writing import SqliteTransaction

README = Path(__file__).parents[1] / "README.md"


def test_all_names_exactly_what_is_offered() -> None:
    offered = {
        name
        for name, value in vars(stigmer_sqlite).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }

    assert sorted(stigmer_sqlite.__all__) == stigmer_sqlite.__all__
    assert set(stigmer_sqlite.__all__) == offered


def test_every_offered_name_is_documented() -> None:
    text = README.read_text()
    for name in stigmer_sqlite.__all__:
        assert getattr(stigmer_sqlite, name).__doc__
        assert f"`{name}`" in text, f"README.md does not tell of {name}"


def test_every_error_is_a_store_error_and_stands_in_the_tree() -> None:
    tree = sys.modules["stigmer_sqlite.errors"].__doc__ or ""
    for name in stigmer_sqlite.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(stigmer_sqlite, name), StoreError)
            assert name in tree


def test_the_stores_are_resource_stores() -> None:
    assert issubclass(SqliteTransaction, Reader)
    assert issubclass(SqliteTransaction, Transaction)
    assert issubclass(SqliteStore, ResourceStore)
    assert issubclass(MemoryStore, ResourceStore)


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", README.read_text(), re.DOTALL)
    assert example is not None

    ended = subprocess.run(
        [sys.executable, "-c", example[1]], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.stdout == example[2], ended.stderr
