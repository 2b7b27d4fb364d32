"""Running containers, with the engine of this machine."""

import asyncio
import contextlib
import os
import shlex
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, cast

from loguru import logger
from stigmer_dsl import Problem
from stigmer_dsl.model import RunTask, Workflow
from stigmer_sandbox import Limits
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.confinement import check_network
from workflow_runner.activities.processes import output_of
from workflow_runner.call_messages import ContainerArguments
from workflow_runner.containers import KILL_AT, REMOVE_AFTER, ContainerEngine, ContainerSpec, EngineError
from workflow_runner.document import find

_SPARE_SECONDS = 60.0
"""How long a container outlives its time, or its end, when the runner that made it is lost."""
_TIDY_SECONDS = 30.0
_WITHOUT = "running a container needs Docker or Podman, of which no socket is found here (STIGMER_CONTAINER_SOCKET)"


class Containers:
    """Runs what `run: container` tasks say."""

    def __init__(
        self, calls: Calls, engine: ContainerEngine | None, limits: Limits, *, volumes: Path | None, allow_network: bool
    ) -> None:
        """Run containers with an engine.

        Args:
            calls: What all calls have in common.
            engine: The engine; None: there is none here.
            limits: What each container may use; its time is the call's.
            volumes: Folder below which containers may be given folders of this machine; None gives them none.
            allow_network: Whether a task that asks for the network gets it.
        """
        self._calls = calls
        self._engine = engine
        self._limits = limits
        self._volumes = volumes
        self._allow_network = allow_network

    @activity.defn(name=names.RUN_CONTAINER)
    async def run(self, call: Any) -> Any:
        """Run what `ContainerArguments` say; the output is as their `return` says."""
        return await self._calls.make(call, self._run)

    async def lacking(self, workflow: Workflow) -> list[Problem]:
        """Return which tasks run containers that this machine cannot run."""
        pointers = [pointer for pointer, task in find(workflow, RunTask) if task.run.container]
        if not pointers:
            return []
        try:
            await self._present().check()
        except (CallFailedError, EngineError) as error:
            return [Problem(code="unsupported", message=str(error), pointer=pointer) for pointer in pointers]
        return []

    @contextlib.asynccontextmanager
    async def tidying(self) -> AsyncGenerator[None]:
        """Meanwhile, remove containers whose time has come: of tasks that say `eventually`, and of lost runners."""
        if self._engine is None:
            yield
            return
        tidying = asyncio.create_task(self._tidy(self._engine))
        try:
            yield
        finally:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
            await self._engine.close()

    async def _tidy(self, engine: ContainerEngine) -> None:
        while True:
            try:
                await engine.tidy(time.time())
            except EngineError as error:
                logger.debug("containers are not tidied up: {}", error)
            await asyncio.sleep(_TIDY_SECONDS)

    def _present(self) -> ContainerEngine:
        if self._engine is None:
            raise CallFailedError("configuration", _WITHOUT)
        return self._engine

    async def _run(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        given = cast("ContainerArguments", arguments)
        engine = self._present()
        spec = self._spec(given, seconds)
        try:
            async with asyncio.timeout(seconds):
                await engine.pull(spec.image, given["pull_policy"])
                container = await engine.create(spec)
                if not given["await"]:
                    await engine.start(container)
                    return None
                try:
                    finished = await engine.run(container, spec.stdin, most_bytes=self._limits.output_bytes)
                except BaseException:
                    await asyncio.shield(self._end(engine, container, given))
                    raise
                if given["cleanup"] == "always":
                    await engine.remove(container)
        except TimeoutError:
            raise CallFailedError("timeout", f"the container took longer than {seconds:g} s") from None
        except EngineError as error:
            raise CallFailedError("runtime", f"the container cannot be run: {error}") from None
        return output_of(given["return"], finished, seconds, "container")

    async def _end(self, engine: ContainerEngine, container: str, given: ContainerArguments) -> None:
        end = engine.remove if given["cleanup"] == "always" else engine.kill
        with contextlib.suppress(EngineError):
            await end(container)

    def _spec(self, given: ContainerArguments, seconds: float) -> ContainerSpec:
        check_network(asked=given["network"], allowed=self._allow_network)
        if given["ports"] and not given["network"]:
            raise CallFailedError("configuration", "ports need the network: say `metadata: {network: true}`")
        labels: dict[str, str] = {}
        if given["cleanup"] != "never":
            labels[REMOVE_AFTER] = str(given["after"] or _SPARE_SECONDS)
        if given["await"]:
            labels[KILL_AT] = str(time.time() + seconds + (given["after"] or 0) + _SPARE_SECONDS)
        try:
            command = shlex.split(given["command"] or "")
        except ValueError as error:
            raise CallFailedError("configuration", f"the command cannot be read: {error}") from None
        return ContainerSpec(
            image=given["image"],
            name=given["name"],
            command=(*command, *given["arguments"]),
            environment=given["environment"],
            ports=given["ports"],
            volumes={self._allowed(own): inside for own, inside in given["volumes"].items()},
            labels=labels if given["cleanup"] != "never" else {},
            network=given["network"],
            stdin=given["stdin"].encode() if given["stdin"] and given["await"] else None,
            memory_bytes=self._limits.memory_bytes,
            processes=self._limits.processes,
            remove_itself=not given["await"] and given["cleanup"] == "always",
        )

    def _allowed(self, own: str) -> str:
        """Return the name of a volume, or a folder if it is one that containers may be given."""
        if "/" not in own and own not in (".", ".."):
            return own
        if self._volumes is None:
            detail = f"this runner gives containers no folders of its machine, like {own} (STIGMER_CONTAINER_VOLUMES)"
            raise CallFailedError("authorization", detail)
        root = self._volumes.resolve()
        path = (root / own).resolve()
        if not path.is_relative_to(root):
            raise CallFailedError("authorization", f"{own} is not below {root}, where containers may be given folders")
        return str(path)


def find_engine(given: Path | None) -> ContainerEngine | None:
    """Return the engine at a socket, or at one of the usual ones; None: there is none."""
    podman = "podman/podman.sock"
    usual = (Path("/var/run/docker.sock"), Path(f"/run/user/{os.getuid()}", podman), Path("/run", podman))
    found = next((socket for socket in ((given,) if given else usual) if socket.exists()), None)
    return ContainerEngine(found) if found else None
