"""`call: agent`: run one of our agents, and output its answer."""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import AgentConfiguration, CallAgentTask

from workflow_runner.arguments import evaluate_object
from workflow_runner.call_messages import AgentArguments
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind
from workflow_runner.tasks.run import text_of


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


KIND: TaskKind[CallAgentTask] = _CallAgent()
