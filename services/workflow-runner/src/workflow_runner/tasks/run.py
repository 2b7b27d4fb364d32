"""`run`: run a script or a shell command in the sandbox, output what it gives."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import RunTask, Script, Shell, TaskBase

from workflow_runner import names
from workflow_runner.arguments import evaluate_resource
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind

LANGUAGES: Mapping[str, str] = {"python": "python", "js": "js", "javascript": "js"}
"""The names of the languages of scripts, and which one is meant."""


class _Run:
    task = RunTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: RunTask) -> Iterator[tuple[str, str]]:
        for process in ("container", "workflow"):
            if getattr(task.run, process) is not None:
                yield f"/run/{process}", f"running a {process} is not run yet"
        script = task.run.script
        if script is not None and script.language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            yield "/run/script/language", f"scripts in {script.language!r} are not run, only in: {known}"
        if not task.run.await_:
            yield "/run/await", "every process is waited for; leave `await` out"

    async def run(self, task: RunTask, step: Step) -> Outcome:
        run = task.run
        process = run.script or run.shell
        if process is None:
            raise WorkflowError.standard("configuration", "there is nothing to run", instance=step.pointer)
        arguments: dict[str, Any] = {
            **(_script(process, step) if isinstance(process, Script) else _shell(process, step)),
            "stdin": "" if process.stdin is None else text_of(step.evaluate(process.stdin), "stdin", step),
            "arguments": [text_of(step.evaluate(value), "an argument", step) for value in process.arguments or ()],
            "environment": _environment(process.environment, step),
            "network": wants_network(task, step),
            "return": run.return_,
        }
        return Outcome(output=await step.call(names.RUN_PROCESS, arguments, repeatable=False))


def _script(script: Script, step: Step) -> dict[str, Any]:
    # The code is the author's text, and no expression is looked for in it.
    made = {"language": LANGUAGES[script.language], "code": script.code, "source": None}
    return made if script.source is None else {**made, "resource": evaluate_resource(script.source, step)}


def _shell(shell: Shell, step: Step) -> dict[str, Any]:
    return {"language": "shell", "code": text_of(step.evaluate(shell.command), "the command", step), "source": None}


def _environment(given: Mapping[str, Any] | None, step: Step) -> dict[str, str]:
    found: Any = {} if given is None else step.evaluate(given)
    if not isinstance(found, dict):
        raise WorkflowError.standard("expression", "the environment is not an object", instance=step.pointer)
    return {name: text_of(value, f"the variable {name}", step) for name, value in cast("dict[str, Any]", found).items()}


def wants_network(task: TaskBase, step: Step) -> bool:
    """Return whether the metadata of a task asks for the network."""
    asked = step.evaluate((task.metadata or {}).get("network", False))
    if not isinstance(asked, bool):
        raise WorkflowError.standard("expression", "metadata.network is neither true nor false", instance=step.pointer)
    return asked


def text_of(value: Any, what: str, step: Step) -> str:
    """Return a value as a process is given it: texts, numbers and truth values; `what` names it."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            raise WorkflowError.standard("expression", f"{what} is neither text nor number", instance=step.pointer)


KIND: TaskKind[RunTask] = _Run()
