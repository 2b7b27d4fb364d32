"""The life of a local stack: one owner, no process left behind, nothing lost when a part of it is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx2
import pytest
from stigmer_cli.environment import Home
from stigmer_cli.stack import temporal
from stigmer_cli.stack.ports import choose_port
from stigmer_cli.testing import Cli, CountingSite, wait_until
from stigmer_grpc import UnauthenticatedError, connect
from stigmer_protos import descriptors

pytestmark = pytest.mark.slow
HEADER = "document: {dsl: 1.0.0, namespace: tests, name: NAME, version: 1.0.0}\ndo:\n"


def test_up_status_and_down(cli: Cli) -> None:
    assert cli.run("status").code == 3
    up = cli.run("up", "--detach", "-o", "json")
    assert up.code == 0, up.err
    status = cli.run("status")
    assert status.code == 0
    rows = {line.split()[0]: line.split()[1] for line in status.out.partition("\n\n")[0].splitlines()[1:]}
    assert {"stigmer-server", "temporal", "workflow-runner"} <= set(rows)
    assert set(rows.values()) == {"running"}
    assert (cli.home / "stack.json").stat().st_mode & 0o777 == 0o600
    again = cli.run("up", "--detach", "-o", "json")
    assert (again.code, again.json["pid"]) == (0, up.json["pid"])
    down = cli.run("down")
    assert down.code == 0, down.err
    assert cli.processes() == {}
    assert cli.run("status").code == 3
    assert cli.run("down").code == 0


def test_the_second_up_is_told_who_holds_the_stack(cli: Cli) -> None:
    first = cli.start("up")
    first.until_said("Ctrl-C")
    second = cli.run("up")
    assert second.code == 4
    assert f"process {first.process.pid}" in second.err
    assert "stigmer down" in second.err
    first.interrupt()
    assert first.wait().code == 0


def test_ctrl_c_ends_up_and_everything_it_started(cli: Cli) -> None:
    up = cli.start("up")
    up.until_said("Ctrl-C")
    assert len(cli.processes()) > 3
    up.interrupt()
    done = up.wait()
    assert done.code == 0, done.err
    assert "error" not in done.err
    assert cli.processes() == {}


@pytest.mark.parametrize("command", ["up", "run"])
def test_kill_9_of_the_owner_leaves_no_process(cli: Cli, tmp_path: Path, site: CountingSite, command: str) -> None:
    arguments = ["up"]
    if command == "run":
        path = tmp_path / "held.yaml"
        call = f"  - wait: {{call: http, with: {{method: get, endpoint: {site.url}/gated}}}}\n"
        path.write_text(HEADER.replace("NAME", "held") + call)
        arguments = ["run", str(path)]
    owner = cli.start(*arguments)
    if command == "up":
        owner.until_said("Ctrl-C")
    else:
        wait_until(lambda: site.calls["/gated"], lambda: f"the run never called: {owner.err}")
    owner.process.kill()
    assert owner.wait().code == -signal.SIGKILL
    cli.until_gone()
    assert cli.run("status").code == 3
    again = cli.run("up", "--detach")
    assert again.code == 0, again.err


def test_kill_9_during_the_start_leaves_no_process(cli: Cli) -> None:
    owner = cli.start("up")
    wait_until((cli.home / "stack.json").exists, lambda: f"never began: {owner.err}")
    owner.process.kill()
    owner.wait()
    cli.until_gone()


def test_a_killed_runner_comes_back_and_finished_calls_are_not_made_again(
    cli: Cli, tmp_path: Path, site: CountingSite
) -> None:
    assert cli.run("up", "--detach").code == 0
    path = tmp_path / "trip.yaml"
    call = "  - {name}: {{call: http, with: {{method: get, endpoint: {url}/{name}}}}}\n"
    tasks = [
        call.format(name="first", url=site.url),
        "  - rest: {wait: PT3S}\n",
        call.format(name="last", url=site.url),
    ]
    path.write_text(HEADER.replace("NAME", "trip") + "".join(tasks))
    running = cli.start("run", str(path), "-o", "json")
    wait_until(lambda: site.calls["/first"], lambda: f"the run never called: {running.err}")
    before = cli.component("workflow-runner")
    wait_until(lambda: _is_reported(cli, "first"), lambda: "the first call was never reported")
    os.kill(before["pid"], signal.SIGKILL)
    done = running.wait()
    assert done.code == 0, done.err
    assert done.json["output"] == {"path": "/last", "count": 1}
    assert dict(site.calls) == {"/first": 1, "/last": 1}
    after = cli.component("workflow-runner")
    assert after["restarts"] == before["restarts"] + 1
    assert after["pid"] != before["pid"]


def _is_reported(cli: Cli, task: str) -> bool:
    runs = cli.run("get", "runs", "-o", "json").json["items"]
    tasks = [item for run in runs for item in run["status"].get("tasks", [])]
    return any(item["task_name"] == task and item["status"] == "WORKFLOW_TASK_COMPLETED" for item in tasks)


def test_a_run_left_by_its_own_stack_goes_on_with_the_next_one(cli: Cli, tmp_path: Path, site: CountingSite) -> None:
    path = tmp_path / "left.yaml"
    path.write_text(
        HEADER.replace("NAME", "left")
        + f"  - first: {{call: http, with: {{method: get, endpoint: {site.url}/first}}}}\n"
        + "  - rest: {wait: PT2S}\n  - finish: {set: {done: true}}\n"
    )
    running = cli.start("run", str(path))
    running.until_said("✓ first")
    running.interrupt()
    done = running.wait()
    assert done.code == 130
    identifier = next(word for word in done.err.split() if word.startswith("wex-"))
    waiting = cli.run("watch", identifier)
    assert waiting.code == 5
    assert "stigmer up --detach" in waiting.err
    assert cli.run("up", "--detach").code == 0
    watched = cli.run("watch", identifier)
    assert (watched.code, json.loads(watched.out)) == (0, {"done": True})
    assert dict(site.calls) == {"/first": 1}


@pytest.fixture
def taken_ports() -> Iterator[list[int]]:
    """Those of the default ports that are taken here: what other processes have may be free again at any moment."""
    taken: list[int] = []
    with ExitStack() as stack:
        for port in (7233, 7234, 8233):
            taker = stack.enter_context(closing(socket.socket()))
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taker.bind(("127.0.0.1", port))
            except OSError:
                continue
            taker.listen()
            taken.append(port)
        yield taken


def test_up_finds_other_ports_when_the_usual_ones_are_taken(cli: Cli, taken_ports: list[int], tmp_path: Path) -> None:
    up = cli.run("up", "--detach", "-o", "json")
    assert up.code == 0, up.err
    addresses = [up.json["server"], up.json["temporal"], up.json["temporal_page"]]
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    assert not set(ports) & set(taken_ports)
    path = tmp_path / "one.yaml"
    path.write_text(HEADER.replace("NAME", "one") + "  - one: {set: {n: 1}}\n")
    assert json.loads(cli.run("run", str(path)).out) == {"n": 1}


def test_up_offers_http_to_those_who_have_the_token(stack: Cli) -> None:
    url = stack.status()["http"]
    assert url in stack.run("status").out
    with httpx2.Client(base_url=url) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").json()["ready"] is True
        assert client.get("/v1/workflows").status_code == 401
        token = (stack.home / "token").read_text().strip()
        assert client.get("/v1/workflows", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_logs_of_every_component_can_be_read(stack: Cli) -> None:
    everything = stack.run("logs", "-n", "0")
    assert everything.code == 0
    assert {"temporal", "stigmer-server"} <= {line.split()[0] for line in everything.out.splitlines()}
    one = stack.run("logs", "temporal", "--since", "1h")
    assert "Temporal" in one.out
    missing = stack.run("logs", "nobody")
    assert missing.code == 3
    assert "temporal" in missing.err


def test_commands_without_a_stack_work_on_the_same_database(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "kept.yaml"
    path.write_text(HEADER.replace("NAME", "kept") + "  - one: {set: {n: 1}}\n")
    assert "Created" in cli.run("apply", "-f", str(path)).out
    assert cli.run("up", "--detach").code == 0
    assert "Unchanged" in cli.run("apply", "-f", str(path)).out
    assert json.loads(cli.run("run", "kept").out) == {"n": 1}
    assert cli.run("down").code == 0
    assert "COMPLETED" in cli.run("get", "runs").out


def test_watch_lives_through_a_restart_of_the_stack(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("up", "--detach").code == 0
    path = tmp_path / "long.yaml"
    tasks = "  - begin: {set: {n: 1}}\n  - rest: {wait: PT6S}\n  - finish: {set: {done: true}}\n"
    path.write_text(HEADER.replace("NAME", "long") + tasks)
    identifier = cli.run("run", str(path), "--detach").out.strip()
    watching = cli.start("watch", identifier)
    watching.until_said("begin")
    assert cli.run("down").code == 0
    watching.until_said("connection was lost")
    assert cli.run("up", "--detach").code == 0
    done = watching.wait()
    assert (done.code, json.loads(done.out)) == (0, {"done": True}), done.err


def test_an_existing_temporal_is_used_and_left_alone(cli: Cli, tmp_path: Path) -> None:
    home = Home(root=tmp_path / "other")
    home.create()
    port, page_port = choose_port(0), choose_port(0)
    elsewhere = subprocess.Popen(temporal.command(home, port=port, page_port=page_port), stdout=subprocess.DEVNULL)
    try:
        up = cli.run("up", "--detach", "-o", "json", env={"STIGMER_TEMPORAL_ADDRESS": f"127.0.0.1:{port}"})
        assert up.code == 0, up.err
        assert (up.json["temporal"], up.json["temporal_page"]) == (f"127.0.0.1:{port}", "")
        assert cli.component("temporal")["pid"] == 0
        path = tmp_path / "one.yaml"
        path.write_text(HEADER.replace("NAME", "one") + "  - one: {set: {n: 1}}\n")
        assert json.loads(cli.run("run", str(path)).out) == {"n": 1}
        assert cli.run("down").code == 0
        assert elsewhere.poll() is None
    finally:
        elsewhere.kill()
        elsewhere.wait()


def test_a_server_that_is_not_there_is_told(cli: Cli) -> None:
    done = cli.run("get", "workflows", "--server", "127.0.0.1:9")
    assert done.code == 5
    assert "127.0.0.1:9" in done.err


async def test_only_who_can_read_the_tokens_is_let_in(stack: Cli) -> None:
    address = stack.status()["server"]
    agents = "ai.stigmer.resources.v1.ResourceController"
    async with connect(address, pool=descriptors.pool()) as channel:
        with pytest.raises(UnauthenticatedError):
            await channel.service(agents).unary("list", {"kind": "agent"})
    # The command finds the token by itself, with and without the address.
    for arguments in ((), ("--server", address)):
        assert stack.run("get", "agents", *arguments, "-o", "json").code == 0
    for name in ("token", "runner-token"):
        path = stack.home / name
        assert path.stat().st_mode & 0o777 == 0o600
        token = path.read_text().strip()
        assert token
        assert not any(token in shown for shown in _shown(stack.processes()))
    assert stack.status()["auth"] == "token"


def _shown(processes: dict[int, str]) -> Iterator[str]:
    """Yield what anybody, and what their owner, can see of processes from outside: arguments and environment."""
    for pid, command in processes.items():
        yield command
        with suppress(OSError):
            yield Path(f"/proc/{pid}/environ").read_text(errors="replace")


async def test_older_clients_are_let_in_on_demand(cli: Cli, tmp_path: Path) -> None:
    up = cli.run("up", "--detach", "--auth", "none", "-o", "json")
    assert up.code == 0, up.err
    async with connect(up.json["server"], pool=descriptors.pool()) as channel:
        await channel.service("ai.stigmer.resources.v1.ResourceController").unary("list", {"kind": "agent"})
    hello = tmp_path / "hello.yaml"
    hello.write_text(HEADER.replace("NAME", "hello") + "  - say: {set: {said: hello}}\n")
    run = cli.run("run", str(hello), "-o", "json")
    assert run.code == 0, run.err
    again = cli.run("up", "--detach")
    assert "--auth none" in again.err
