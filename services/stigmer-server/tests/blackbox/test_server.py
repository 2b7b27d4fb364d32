"""How the server is."""

from __future__ import annotations

from typing import Any

import pytest

_READY, _AWAY = 1, 2


@pytest.mark.rpc("ServerController/getStatus")
def test_the_server_tells_how_its_parts_are(client: Any) -> None:
    status = client("ServerController/getStatus", {})
    states = {component.name: component.state for component in status.components}
    assert list(states) == ["store", "temporal", "workflow-runner", "agent-runner"]
    assert states["store"] == _READY
    assert status.ready == (_AWAY not in states.values())
    assert status.version
    assert status.started_at.seconds > 0
