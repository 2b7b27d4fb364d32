from __future__ import annotations

from pathlib import Path

import pytest
from stigmer_cli.environment import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(root=tmp_path / "home")
    made.create()
    return made
