"""Running scripts and shell commands, in the sandbox that the operator chose."""

import asyncio
import shutil
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from loguru import logger
from stigmer_dsl import Problem
from stigmer_dsl.model import RunTask, Workflow
from stigmer_sandbox import Command, Ending, Finished
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.calls import CallFailedError, Calls
from workflow_runner.activities.confinement import PATH, Confinement
from workflow_runner.activities.resources import Resources
from workflow_runner.call_messages import EndpointArguments, ProcessArguments
from workflow_runner.document import find
from workflow_runner.tasks.run import LANGUAGES

_EXCERPT = 500
_FILES = {"python": "script.py", "js": "script.js"}


class Processes:
    """Runs what `run` tasks say."""

    def __init__(self, calls: Calls, confinement: Confinement, resources: Resources) -> None:
        """Run processes in `confinement`; `resources` fetches scripts that stand somewhere else."""
        self._calls = calls
        self._confinement = confinement
        self._resources = resources
        self._running: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End the processes that nobody waits for."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @activity.defn(name=names.RUN_PROCESS)
    async def run(self, call: Any) -> Any:
        """Run what `ProcessArguments` say; the output is as their `return` says."""
        return await self._calls.make(call, self._run)

    async def lacking(self, workflow: Workflow) -> list[Problem]:
        """Return what a workflow needs to run its processes, and this machine has not."""
        tasks = _processes(workflow)
        return await self._confinement.lacking([pointer for pointer, _ in tasks]) or [
            Problem(code="unsupported", message=f"scripts in {language} need {program}, which is not here", pointer=at)
            for at, task in tasks
            if (language := LANGUAGES.get(task.run.script.language if task.run.script else "")) is not None
            and self._interpreter(language) is None
            for program in ["node" if language == "js" else "python3"]
        ]

    async def _run(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        process = cast("ProcessArguments", arguments)
        self._confinement.check_network(asked=process["network"])
        command = await self._command(process, seconds)
        if not process.get("await", True):
            running = asyncio.create_task(self._alone(command))
            self._running.add(running)
            running.add_done_callback(self._running.discard)
            return None
        finished = await self._confinement.run(command, "the process")
        return output_of(process["return"], finished, seconds, "process")

    async def _alone(self, command: Command) -> None:
        """Run what nobody waits for; it ends with this runner at the latest."""
        try:
            finished = await self._confinement.run(command, "the process")
        except CallFailedError as error:
            logger.warning("a process that nobody waits for cannot be run: {}", error)
        else:
            logger.debug("a process that nobody waits for ended with {}", finished.code)

    async def _command(self, process: ProcessArguments, seconds: float) -> Command:
        code = await self._fetched(process, seconds) or process["code"]
        language = process["language"]
        limits = self._confinement.limits.lasting(seconds)
        more: dict[str, Any] = {
            "stdin": process["stdin"].encode(),
            "environment": process["environment"],
            "network": process["network"],
            "limits": limits,
        }
        if language == "shell":
            return Command(arguments=("/bin/sh", "-c", code or "", "sh", *process["arguments"]), **more)
        interpreter = self._interpreter(language)
        if interpreter is None:
            raise CallFailedError("configuration", f"there is nothing on this machine that runs scripts in {language}")
        file = _FILES[language]
        return Command(
            arguments=(*interpreter, file, *process["arguments"]),
            files={file: (code or "").encode()},
            readable=self._shown,
            **more,
        )

    def _interpreter(self, language: str) -> tuple[str, ...] | None:
        if language == "python":
            return self._python
        found = shutil.which("node", path=PATH)
        return (found,) if found else None

    @cached_property
    def _python(self) -> tuple[str, ...] | None:
        """The machine's own Python, or else the one that runs this, without what was installed for this."""
        own = shutil.which("python3", path=PATH)
        program = own or str(Path(sys.base_prefix) / "bin" / "python3")
        return (program, "-I", "-B") if Path(program).exists() else None

    @cached_property
    def _shown(self) -> tuple[Path, ...]:
        base = Path(sys.base_prefix)
        return () if shutil.which("python3", path=PATH) or base.is_relative_to("/usr") else (base,)

    async def _fetched(self, process: ProcessArguments, seconds: float) -> str | None:
        """Return the code that stands somewhere else; None where it does not."""
        resource: EndpointArguments | None = process.get("resource")
        if resource is None and process["source"] is not None:
            resource = EndpointArguments(uri=process["source"], template=None, authentication=None)
        if resource is None:
            return None
        return (await self._resources.fetch(resource, seconds=seconds, what="the script")).text


def _processes(workflow: Workflow) -> list[tuple[str, RunTask]]:
    """Return every task that runs a process in the sandbox, with its JSON pointer."""
    return [(at, task) for at, task in find(workflow, RunTask) if task.run.script or task.run.shell]


def output_of(kept: str, finished: Finished, seconds: float, what: str) -> Any:
    """Return what a task outputs of something that ran: as its `return` says.

    Raises:
        CallFailedError: It ended badly.
    """
    stdout, stderr = _text(finished.stdout), _text(finished.stderr)
    match finished.ending:
        case Ending.TIME:
            raise CallFailedError("timeout", f"the {what} took longer than {seconds:g} s{_said(stderr)}")
        case Ending.MEMORY | Ending.PROCESSES:
            raise CallFailedError("runtime", f"the {what} was ended: too much {finished.ending.value}{_said(stderr)}")
        case Ending.EXITED | Ending.DISMISSED:
            pass
    if finished.truncated and kept in ("stdout", "stderr", "all"):
        raise CallFailedError("runtime", f"the {what} wrote more than can be kept; let it write to a file, or less")
    if kept == "all":
        return {"code": finished.code, "stdout": stdout, "stderr": stderr}
    if kept == "code":
        return finished.code
    if finished.code != 0:
        raise CallFailedError("runtime", f"the {what} ended with exit code {finished.code}{_said(stderr)}")
    return {"stdout": stdout, "stderr": stderr, "none": None}[kept]


def _text(output: bytes) -> str:
    """Return what was written, without the line break at its end."""
    return output.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def _said(stderr: str) -> str:
    return f": {stderr[-_EXCERPT:].strip()}" if stderr.strip() else ""
