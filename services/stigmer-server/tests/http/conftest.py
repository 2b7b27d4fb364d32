from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stigmer_server.http.testing import Front, serve_http


@pytest.fixture
def http_settings() -> dict[str, Any]:
    """Settings of the server; parametrize it to change them."""
    return {}


@pytest.fixture
async def front(tmp_path: Path, http_settings: dict[str, Any]) -> AsyncIterator[Front]:
    async with serve_http(tmp_path, **http_settings) as served:
        yield served
