"""Events that are published on a real stack, and followed over its restart."""

from __future__ import annotations

import json
from pathlib import Path

from stigmer_cli.testing import Cli, wait_until


def publish(cli: Cli, kind: str, number: int) -> None:
    done = cli.run("events", "publish", "--type", kind, "--id", f"{kind}-{number}", "--data", str(number))
    assert done.code == 0, done.err


def test_every_event_is_told_once_also_over_a_restart(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("up", "--detach").code == 0
    publish(cli, "shop.early", 0)
    file = tmp_path / "place"
    follow = cli.start("events", "subscribe", "--type", "shop.*", "-f", str(file), "-n", "3", "-o", "json")
    wait_until(file.exists, lambda: "never began")
    publish(cli, "shop.order", 1)
    publish(cli, "other", 1)
    follow.until_said("shop.order-1")
    assert cli.run("down").code == 0
    follow.until_said("looking for the server")
    assert cli.run("up", "--detach").code == 0
    publish(cli, "shop.order", 2)
    publish(cli, "shop.order", 1)
    publish(cli, "shop.order", 3)
    done = follow.wait()
    assert done.code == 0
    assert [json.loads(line)["data"] for line in done.out.splitlines()] == [1, 2, 3]
    publish(cli, "shop.order", 4)
    rest = cli.run("events", "subscribe", "--type", "shop.*", "-f", str(file), "-n", "1", "-o", "name")
    assert (rest.code, rest.out) == (0, "shop.order-4\n")
    start = cli.run("events", "subscribe", "--from-start", "--type", "shop.*", "-n", "1")
    assert (start.code, "shop.early" in start.out) == (0, True)
    assert cli.run("events", "subscribe", "--resume-token", "nonsense").code == 2
