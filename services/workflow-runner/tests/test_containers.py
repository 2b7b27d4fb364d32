"""Containers, run by an engine that speaks Docker's API; what it runs are processes of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from workflow_runner.containers import KILL_AT, REMOVE_AFTER, ContainerEngine, ContainerSpec
from workflow_runner.testing import Runs, StartRunner
from workflow_runner.testing.containers import Engine, container_engine

NETWORK = "metadata: {network: true}, "


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[Engine]:
    async with container_engine(tmp_path / "docker.sock") as made:
        yield made


@pytest.fixture
async def runs(start_runner: StartRunner, engine: Engine) -> Runs:
    return await start_runner(container_socket=engine.socket)


def run(container: str, rest: str = "", before: str = "") -> str:
    return f"do:\n- it: {{{before}run: {{container: {{image: alpine, {container}}}{rest}}}}}"


SHELL = "command: sh -c"


@pytest.mark.requirement("run.container", "run.cleanup")
async def test_a_container_outputs_what_it_prints_and_is_removed(runs: Runs, engine: Engine) -> None:
    assert await runs.output(run(f"{SHELL}, arguments: ['echo hello; echo aside >&2']")) == "hello"
    assert engine.containers == {}
    (created,) = engine.created
    assert created["HostConfig"]["NetworkMode"] == "none"
    assert created["HostConfig"]["Memory"] == 512 * 2**20
    assert created["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]


@pytest.mark.requirement("run.container")
async def test_everything_of_a_container_is_evaluated(runs: Runs, engine: Engine) -> None:
    container = (
        "name: '${ .word }', command: '${ \"sh -c\" }', arguments: ['cat; echo \"[$1][$WORD]\"', sh, '${ .word }'],"
        " stdin: '${ .word }', environment: {WORD: '${ .word }', N: 3}, ports: {'8080': 80}, volumes: {data: /data}"
    )
    assert await runs.output(run(container, before=NETWORK), {"word": "wort"}) == "wort[wort][wort]"
    (created,) = engine.created
    assert created["HostConfig"]["NetworkMode"] == "bridge"
    assert created["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert created["HostConfig"]["Binds"] == ["data:/data"]


@pytest.mark.requirement("run.return")
@pytest.mark.parametrize(
    ("kept", "output"),
    [
        ("all", {"code": 3, "stdout": "out", "stderr": "err"}),
        ("code", 3),
    ],
)
async def test_what_a_container_outputs_is_as_return_says(runs: Runs, kept: str, output: object) -> None:
    container = f"{SHELL}, arguments: ['echo out; echo err >&2; exit 3']"
    assert await runs.output(run(container, f", return: {kept}")) == output


async def test_a_container_that_fails_is_an_error_that_says_why(runs: Runs) -> None:
    error = await runs.error(run(f"{SHELL}, arguments: ['echo broken >&2; exit 3']"))
    assert error["detail"] == "the container ended with exit code 3: broken"


@pytest.mark.requirement("run.pull")
@pytest.mark.parametrize(
    ("image", "policy", "pulled"),
    [
        ("alpine", "ifNotPresent", []),
        ("alpine", "always", ["alpine:latest"]),
        ("busybox", "ifNotPresent", ["busybox:latest"]),
        ("acme/tool:1", "ifNotPresent", ["acme/tool:1"]),
    ],
)
async def test_images_are_pulled_as_the_policy_says(
    runs: Runs, engine: Engine, image: str, policy: str, pulled: list[str]
) -> None:
    definition = f"do:\n- it: {{run: {{container: {{image: '{image}', command: 'echo x', pullPolicy: {policy}}}}}}}"
    assert await runs.output(definition) == "x"
    assert engine.pulled == pulled


@pytest.mark.parametrize(
    ("container", "detail"),
    [
        ("image: none", "the image none cannot be pulled: pull access denied for none:latest"),
        ("image: none, pullPolicy: never", "there is no image none on this machine, and it may not be pulled"),
        ("image: alpine, ports: {'1': 1}", "ports need the network"),
        ("image: alpine, volumes: {/etc: /etc}", "gives containers no folders of its machine, like /etc"),
        ("image: alpine, command: '\"'", "the command cannot be read"),
    ],
)
async def test_what_cannot_be_run_is_told(runs: Runs, container: str, detail: str) -> None:
    error = await runs.error(f"do:\n- it: {{run: {{container: {{{container}}}}}}}")
    assert detail in error["detail"]


async def test_containers_get_folders_below_the_operators_only(
    start_runner: StartRunner, engine: Engine, tmp_path: Path
) -> None:
    runs = await start_runner(container_socket=engine.socket, container_volumes=tmp_path)
    await runs.output(run("volumes: {shared: /data, './more': /more}, command: 'true'"))
    assert sorted(engine.created[0]["HostConfig"]["Binds"]) == [f"{tmp_path}/more:/more", "shared:/data"]
    error = await runs.error(run("volumes: {../other: /data}"))
    assert f"../other is not below {tmp_path}" in error["detail"]


async def test_a_container_that_takes_too_long_is_ended(runs: Runs, engine: Engine) -> None:
    error = await runs.error(run("command: sleep 60", before="timeout: {after: {milliseconds: 400}}, "))
    assert error["type"].endswith("/errors/timeout")
    async with asyncio.timeout(20):
        while engine.containers:  # noqa: ASYNC110 - the engine offers no event
            await asyncio.sleep(0.02)


@pytest.mark.requirement("run.await")
async def test_a_container_that_is_not_waited_for_runs_on(runs: Runs, engine: Engine) -> None:
    assert await runs.output(run("command: sleep 60", ", await: false"), {"n": 1}) == {"n": 1}
    (container,) = engine.containers.values()
    assert container.process is not None
    assert container.process.returncode is None
    assert container.config["HostConfig"]["AutoRemove"]


@pytest.mark.requirement("run.cleanup")
async def test_containers_are_kept_or_removed_later_as_their_lifetime_says(runs: Runs, engine: Engine) -> None:
    await runs.output(run("command: 'true', lifetime: {cleanup: never}"))
    await runs.output(run("command: 'true', lifetime: {cleanup: eventually, after: {minutes: 5}}"))
    kept, later = engine.containers.values()
    assert {KILL_AT, REMOVE_AFTER}.isdisjoint(kept.config["Labels"])
    client = ContainerEngine(engine.socket)
    await client.tidy(time.time() + 200)
    assert set(engine.containers) == {kept.id, later.id}
    await client.tidy(time.time() + 301)
    assert set(engine.containers) == {kept.id}
    await client.close()


async def test_a_container_of_a_lost_runner_is_ended_after_its_time(engine: Engine) -> None:
    client = ContainerEngine(engine.socket)
    labels = {KILL_AT: str(time.time() + 100), REMOVE_AFTER: "60"}
    await client.start(await client.create(ContainerSpec(image="alpine", command=("sleep", "60"), labels=labels)))
    await client.tidy(time.time())
    assert len(engine.containers) == 1
    await client.tidy(time.time() + 101)
    assert engine.containers == {}
    await client.close()


@pytest.mark.requirement("problems.unsupported")
async def test_without_an_engine_a_workflow_with_containers_fails_when_it_is_loaded(
    start_runner: StartRunner, tmp_path: Path
) -> None:
    runs = await start_runner(container_socket=tmp_path / "none.sock")
    error = await runs.error("do:\n- first: {set: {n: 1}}\n- it: {run: {container: {image: alpine}}}")
    assert "needs Docker or Podman" in error["detail"]
    assert "/do/1/it" in error["detail"]


@pytest.mark.requirement("run.await")
async def test_a_process_that_is_not_waited_for_is_started_and_the_input_passes_through(
    start_runner: StartRunner, tmp_path: Path
) -> None:
    runs = await start_runner(sandbox="host")
    done = tmp_path / "done"
    definition = f"do:\n- it: {{run: {{shell: {{command: 'echo x > {done}'}}, await: false}}}}"
    assert await runs.output(definition, {"n": 1}) == {"n": 1}
    async with asyncio.timeout(20):
        while not done.exists():  # noqa: ASYNC110 - the process tells nobody
            await asyncio.sleep(0.02)
