"""`call: agent`: run one of our agents, and output its answer."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import AgentConfiguration, AgentFile, CallAgentTask

from workflow_runner.arguments import evaluate_object
from workflow_runner.call_messages import AgentArguments
from workflow_runner.call_messages import AgentFile as FileArguments
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind
from workflow_runner.tasks.run import text_of

_ENCODINGS = ("text", "json", "base64")
_COMPUTED = ("path", "content")
_KEYS = (*_COMPUTED, "encoding")


class _CallAgent:
    task = CallAgentTask
    type = "WORKFLOW_TASK_AGENT_INVOCATION"

    def unsupported(self, task: CallAgentTask) -> Iterator[tuple[str, str]]:
        del task
        yield from ()

    async def run(self, task: CallAgentTask, step: Step) -> Outcome:
        given = task.with_
        config = given.config or AgentConfiguration()
        arguments: AgentArguments = {
            "agent": text_of(step.evaluate(given.agent), "the agent", step),
            "scope": given.scope,
            "message": text_of(step.evaluate(given.message), "the message", step),
            "env": {
                name: text_of(value, f"the variable {name}", step)
                for name, value in evaluate_object(given.env, "the environment", step).items()
            },
            "session": "" if given.session is None else text_of(step.evaluate(given.session), "the session", step),
            "config": _config(config, step),
            "output": given.output,
        }
        if given.files is not None:
            arguments["files"] = _files(given.files, step)
        if given.collect is not None:
            arguments["collect"] = [text_of(step.evaluate(each), "a path to collect", step) for each in given.collect]
        if given.response is not None:
            arguments["config"]["outputSchema"] = given.response.document
        ended = await _in_time(arguments, config.timeout or 0, step)
        return Outcome(output=ended if given.output == "execution" else ended["output"])


async def _in_time(arguments: AgentArguments, seconds: int, step: Step) -> Any:
    """Run the agent; one that takes longer than some seconds is cancelled."""
    if not seconds:
        return await step.run_agent(arguments)
    until = step.state.setdefault("until", step.time() + seconds)
    try:
        async with step.in_time(until):
            return await step.run_agent(arguments)
    except TimeoutError:
        detail = f"the agent {arguments['agent']} took longer than {seconds} seconds"
        raise WorkflowError.standard("timeout", detail, instance=step.pointer) from None


def _config(config: AgentConfiguration, step: Step) -> dict[str, Any]:
    made: dict[str, Any] = {
        "modelName": None if config.model is None else text_of(step.evaluate(config.model), "the model", step),
        "temperature": config.temperature,
        "fallbackModels": [text_of(step.evaluate(each), "a model", step) for each in config.fallback_models or ()],
        "budget": None if config.budget is None else config.budget.to_dict(),
    }
    return {name: value for name, value in made.items() if value not in (None, [])}


def _files(given: tuple[AgentFile, ...] | str, step: Step) -> list[FileArguments]:
    """Return the files for an agent. What `collect` has given of another one may be among them, as it is."""
    if isinstance(given, str):
        found = step.evaluate(given)
    else:
        found = [file.to_dict() | {key: step.evaluate(getattr(file, key)) for key in _COMPUTED} for file in given]
    if not isinstance(found, list) or not all(map(_is_file, cast("list[Any]", found))):
        allowed = ", ".join(_ENCODINGS)
        raise _unfit(
            f"the files are no list of objects with `path`, `content` and perhaps `encoding` ({allowed})", step
        )
    files = [{key: value for key, value in file.items() if key in _KEYS} for file in cast("list[Any]", found)]
    counted = Counter(file["path"] for file in files)
    if twice := [path for path, count in counted.items() if count > 1]:
        raise _unfit(f"two files go to {twice[0]}", step)
    return cast("list[FileArguments]", files)


def _is_file(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    file = cast("dict[str, Any]", value)
    is_known = "encoding" not in file or file["encoding"] in _ENCODINGS
    return isinstance(file.get("path"), str) and "content" in file and is_known


def _unfit(detail: str, step: Step) -> WorkflowError:
    return WorkflowError.standard("expression", detail, instance=step.pointer)


KIND: TaskKind[CallAgentTask] = _CallAgent()
