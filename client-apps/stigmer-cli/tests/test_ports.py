from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing

import pytest
from stigmer_cli.stack.ports import choose_port

HOLD = """
import sys
from stigmer_cli.stack.ports import choose_port
print(choose_port(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_a_port_that_another_stack_has_chosen_is_not_chosen_again_before_anybody_listens() -> None:
    wanted = choose_port(0)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(wanted)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == wanted
        assert choose_port(wanted) != wanted
        other.communicate(timeout=30)
    assert choose_port(wanted) == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be held for a server")
def test_a_chosen_port_is_held_for_the_server_that_is_to_listen_there() -> None:
    port = choose_port(0)
    with closing(socket.socket()) as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port
