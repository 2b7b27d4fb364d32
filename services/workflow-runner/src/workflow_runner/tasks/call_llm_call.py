"""`call: llm_call`: ask a model, and output its answer."""

from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import CallLlmTask, LlmCallArguments

from workflow_runner.call_messages import ModelArguments
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind
from workflow_runner.tasks.run import text_of

_ROLES = ("user", "assistant")


class _CallLlm:
    task = CallLlmTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallLlmTask) -> Iterator[tuple[str, str]]:
        del task
        yield from ()

    async def run(self, task: CallLlmTask, step: Step) -> Outcome:
        given = task.with_
        arguments: ModelArguments = {
            "model": text_of(step.evaluate(given.model or ""), "the model", step),
            "system": text_of(step.evaluate(given.system or ""), "the system prompt", step),
            "messages": _messages(given, step),
            "temperature": given.temperature,
            "max_tokens": given.max_tokens,
            "schema": None if given.response is None else given.response.document,
        }
        answer = await step.ask_model(arguments, seconds=given.timeout or 0)
        return Outcome(output=answer if given.output == "all" else answer["content"])


def _messages(given: LlmCallArguments, step: Step) -> list[dict[str, str]]:
    if given.prompt is not None:
        return [{"role": "user", "content": text_of(step.evaluate(given.prompt), "the prompt", step)}]
    if isinstance(given.messages, tuple):
        said: Any = [{"role": each.role, "content": step.evaluate(each.content)} for each in given.messages]
    else:
        said = step.evaluate(given.messages)
    if not isinstance(said, list) or not said or not all(map(_is_message, cast("list[Any]", said))):
        detail = (
            "the messages are no list of objects with a `role` (user, assistant) and a `content` that says something"
        )
        raise WorkflowError.standard("expression", detail, instance=step.pointer)
    return cast("list[dict[str, str]]", said)


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    message = cast("dict[str, Any]", value)
    is_said = isinstance(message.get("content"), str) and bool(message["content"].strip())
    return is_said and message.get("role") in _ROLES and len(message) == len(("role", "content"))


KIND: TaskKind[CallLlmTask] = _CallLlm()
