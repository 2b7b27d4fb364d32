from __future__ import annotations

import subprocess
import sys

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
