from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from stigmer_server.access.testing import House, opened


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    """A server that asks for tokens, with two organizations."""
    async with opened(tmp_path) as made:
        yield made
