from __future__ import annotations

from stigmer_cli.environment import Home
from stigmer_cli.stack.state import ComponentState, ComponentStatus, StackStatus, read_status, write_status

STATUS = StackStatus(
    version="0.1.0",
    pid=7,
    command="stigmer up",
    started_at="2026-01-01T00:00:00.000Z",
    ready=True,
    server="127.0.0.1:7234",
    temporal="127.0.0.1:7233",
    temporal_page="http://127.0.0.1:8233",
    guard_pid=8,
    components=(
        ComponentStatus(
            name="temporal",
            state=ComponentState.WAITING,
            pid=0,
            address="127.0.0.1:7233",
            restarts=3,
            started_at="",
            detail="ended by itself with signal 9",
        ),
    ),
)


def test_what_was_written_is_read_back(home: Home) -> None:
    write_status(home.state, STATUS)
    assert read_status(home.state) == STATUS
    assert home.state.stat().st_mode & 0o777 == 0o600


def test_nothing_and_nonsense_read_as_nothing(home: Home) -> None:
    assert read_status(home.state) is None
    for text in ("", "{", "[]", '{"components": []}', '{"components": [{"state": "unheard"}]}'):
        home.state.write_text(text)
        assert read_status(home.state) is None
