"""`run`: run a script or a shell command in the sandbox, a container, or another workflow; output what it gives."""

from collections.abc import Iterator, Mapping
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import Container, RunTask, Script, Shell, Subflow, TaskBase

from workflow_runner import call_messages, names
from workflow_runner.arguments import evaluate_object, evaluate_resource
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind

LANGUAGES: Mapping[str, str] = {"python": "python", "js": "js", "javascript": "js"}
"""The names of the languages of scripts, and which one is meant."""


class _Run:
    task = RunTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: RunTask) -> Iterator[tuple[str, str]]:
        script = task.run.script
        if script is not None and script.language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            yield "/run/script/language", f"scripts in {script.language!r} are not run, only in: {known}"

    async def run(self, task: RunTask, step: Step) -> Outcome:
        run = task.run
        if run.workflow is not None:
            output = await step.run_workflow(_subflow(run.workflow, step), waits=run.await_)
            return Outcome(output=output if run.await_ else step.input)
        process = run.script or run.shell or run.container
        if process is None:
            raise WorkflowError.standard("configuration", "there is nothing to run", instance=step.pointer)
        arguments: dict[str, Any] = {
            **_own(process, step),
            "stdin": "" if process.stdin is None else text_of(step.evaluate(process.stdin), "stdin", step),
            "arguments": [text_of(step.evaluate(value), "an argument", step) for value in process.arguments or ()],
            "environment": _texts(process.environment, "the environment", step),
            "network": wants_network(task, step),
            "return": run.return_,
        }
        if not run.await_ or run.container is not None:
            arguments["await"] = run.await_
        activity = names.RUN_PROCESS if run.container is None else names.RUN_CONTAINER
        output = await step.call(activity, arguments, repeatable=False)
        return Outcome(output=output if run.await_ else step.input)


def _own(process: Script | Shell | Container, step: Step) -> dict[str, Any]:
    """Return what only one kind of process has."""
    match process:
        case Script():
            return _script(process, step)
        case Shell():
            return _shell(process, step)
        case Container():
            return _container(process, step)


def _subflow(workflow: Subflow, step: Step) -> call_messages.Subflow:
    return {
        "namespace": text_of(step.evaluate(workflow.namespace), "the namespace", step),
        "name": text_of(step.evaluate(workflow.name), "the name", step),
        "version": text_of(step.evaluate(workflow.version), "the version", step),
        "input": None if workflow.input is None else step.evaluate(workflow.input),
    }


def _script(script: Script, step: Step) -> dict[str, Any]:
    # The code is the author's text, and no expression is looked for in it.
    made = {"language": LANGUAGES[script.language], "code": script.code, "source": None}
    return made if script.source is None else {**made, "resource": evaluate_resource(script.source, step)}


def _shell(shell: Shell, step: Step) -> dict[str, Any]:
    return {"language": "shell", "code": text_of(step.evaluate(shell.command), "the command", step), "source": None}


def _container(container: Container, step: Step) -> dict[str, Any]:
    lifetime, after = container.lifetime, container.lifetime.after if container.lifetime else None
    given = {"name": container.name, "command": container.command}
    return {
        "image": text_of(step.evaluate(container.image), "the image", step),
        **{key: None if value is None else text_of(step.evaluate(value), key, step) for key, value in given.items()},
        "ports": _texts(container.ports, "ports", step),
        "volumes": _texts(container.volumes, "volumes", step),
        "pull_policy": container.pull_policy,
        "cleanup": lifetime.cleanup if lifetime else "always",
        "after": None if after is None else step.duration(after).total_seconds(),
    }


def _texts(given: Mapping[str, Any] | None, what: str, step: Step) -> dict[str, str]:
    found = evaluate_object(given, what, step)
    return {name: text_of(value, f"{name} of {what}", step) for name, value in found.items()}


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
