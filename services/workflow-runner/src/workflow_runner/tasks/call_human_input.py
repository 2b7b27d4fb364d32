"""`call: human_input`: ask a person, and output the answer.

What is asked stands in the task's input for everyone to see, and in the task's state so that it stays the same however
long the answer takes. The server holds an answer against it before it takes it; it is held against it here, too,
because what the task outputs must not depend on who has delivered the answer.
"""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import CallHumanInputTask, HumanInputArguments, Schema

from workflow_runner.data import iso8601
from workflow_runner.flow import Outcome
from workflow_runner.inbox import Answer
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault
from workflow_runner.tasks.run import text_of


class _CallHumanInput:
    task = CallHumanInputTask
    type = "WORKFLOW_TASK_APPROVAL"

    def unsupported(self, task: CallHumanInputTask) -> Iterator[tuple[str, str]]:
        del task
        yield from ()

    async def run(self, task: CallHumanInputTask, step: Step) -> Outcome:
        state = step.state
        if "question" not in state:
            state.update(_asked(task.with_, step))
        question, until = state["question"], state["until"]
        try:
            if until is None:
                answer = await step.ask(question)
            else:
                async with step.in_time(until):
                    answer = await step.ask(question)
        except TimeoutError:
            return Outcome(output=_unanswered(question, step))
        return Outcome(output=_output(answer, question, task.with_.form, step))


def _asked(given: HumanInputArguments, step: Step) -> dict[str, Any]:
    """Return what is asked, and until when on the run's own clock."""
    outcomes = [text_of(step.evaluate(each), "an outcome", step) for each in given.outcomes]
    default = None if given.default is None else text_of(step.evaluate(given.default), "the default", step)
    if default is not None and default not in outcomes:
        raise configuration_fault(f"the default {default!r} is none of the outcomes: {', '.join(outcomes)}", step)
    question: dict[str, Any] = {
        "message": text_of(step.evaluate(given.message), "the message", step),
        "outcomes": outcomes,
    }
    if given.form is not None:
        question["form"] = given.form.document
    if given.assignees is not None:
        question["assignees"] = [text_of(step.evaluate(each), "an assignee", step) for each in given.assignees]
    if default is not None:
        question["default"] = default
    if given.deadline is None:
        return {"question": question, "until": None}
    seconds = step.duration(given.deadline).total_seconds()
    try:
        question["deadline"] = iso8601(step.now() + seconds)
    except (ValueError, OverflowError):
        raise configuration_fault(
            "the deadline is later than the year 9999; leave it out to wait for ever", step
        ) from None
    return {"question": question, "until": step.time() + seconds}


def _output(answer: Answer, question: dict[str, Any], form: Schema | None, step: Step) -> dict[str, Any]:
    if answer["outcome"] not in question["outcomes"]:
        offered = ", ".join(question["outcomes"])
        detail = f"the answer {answer['outcome']!r} is none of the outcomes that are offered: {offered}"
        raise WorkflowError.standard("validation", detail, instance=step.pointer)
    data = answer["form_data"] or {}
    if form is not None:
        check("the data of the answer", data, form)
    return _made(answer["outcome"], data, answer["comment"], answer["by"], answer["at"])


def _unanswered(question: dict[str, Any], step: Step) -> dict[str, Any]:
    """Return what stands for an answer that did not come in time."""
    if "default" not in question:
        detail = f"nobody has answered until {question['deadline']}"
        raise WorkflowError.standard("timeout", detail, instance=step.pointer)
    return _made(question["default"], {}, "", "deadline", iso8601(step.now()))


def _made(outcome: str, data: dict[str, Any], comment: str, by: str, at: str) -> dict[str, Any]:
    return {"outcome": outcome, "data": data, "comment": comment, "by": by, "at": at}


KIND: TaskKind[CallHumanInputTask] = _CallHumanInput()
