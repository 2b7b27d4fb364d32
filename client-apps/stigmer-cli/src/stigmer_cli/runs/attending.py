"""Asking the person at the prompt about tool calls and tasks that wait for one."""

from __future__ import annotations

from typing import Any

from stigmer_cli import console, keyboard
from stigmer_cli.console import Style
from stigmer_cli.keyboard import Keyboard
from stigmer_cli.plain import is_object
from stigmer_cli.references import Reference
from stigmer_cli.resources import Resources
from stigmer_cli.runs.agent import AgentRun, Call
from stigmer_cli.runs.control import Controls
from stigmer_cli.runs.execution import Execution, Task
from stigmer_cli.runs.questions import Question
from stigmer_cli.runs.states import kind_of_run

_QUESTION = "ask_person"
_CHOICES = "[a]pprove, [e]dit, [r]eject, [s]kip, [l]ater? "


class Attendant:
    """Asks about each call and task once, and passes the decision on.

    Args:
        typed: Where the person types; None: nobody is there, who is then told how to decide from elsewhere.
    """

    def __init__(self, typed: Keyboard | None) -> None:
        self._typed = typed
        self._asked: set[str] = set()

    @classmethod
    def at_prompt(cls, *, wanted: bool) -> Attendant:
        """Return one that asks, if it is wanted and somebody is there."""
        return cls(Keyboard() if wanted and keyboard.is_there() else None)

    def is_needed(self, run: AgentRun | Execution) -> bool:
        """Whether anything in the run waits that was not asked about."""
        return any(each.id not in self._asked for each in run.waiting)

    async def attend(self, resources: Resources, run: AgentRun | Execution) -> None:
        """Ask about what waits in the run, if anything does that was not asked about."""
        if isinstance(run, Execution):
            await self._attend_tasks(resources, run)
        else:
            await self._attend_calls(resources, run)

    async def _attend_calls(self, resources: Resources, run: AgentRun) -> None:
        for call in run.waiting:
            if call.id in self._asked:
                continue
            self._asked.add(call.id)
            if self._typed is None:
                answer = ' --comment "ANSWER"' if call.name == _QUESTION else ""
                told = f"`stigmer approve {run.id} {call.id}{answer}`, or `reject`"
                console.note(f"{call.name} waits for a person: {told}")
                continue
            decision = await self._ask(self._typed, run, call)
            if decision is not None:
                await _submit(resources, run, call, decision)

    async def _attend_tasks(self, resources: Resources, run: Execution) -> None:
        for task in run.waiting:
            if task.id in self._asked:
                continue
            self._asked.add(task.id)
            later = f"`stigmer approve {run.id} {task.name}`, or `reject`"
            if self._typed is None:
                console.note(f"{task.name} waits for a person: {later}")
            elif not await self._answer_task(self._typed, resources, run, task):
                console.note(f"answer with {later}")

    async def _answer_task(self, typed: Keyboard, resources: Resources, run: Execution, task: Task) -> bool:
        """Ask until the server takes the answer; tell whether the person gave one."""
        from stigmer_grpc.errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError

        question = Question.of(task)
        question.show()
        while (answer := await question.ask(typed)) is not None:
            request = {"execution_id": run.id, "task_name": task.id, **answer}
            reference = Reference(kind=kind_of_run(run.id), id=run.id)
            try:
                await Controls(resources).call(reference, "submitWorkflowTaskApproval", request)
            except InvalidArgumentError as error:
                console.complain(str(error))
                continue
            except FailedPreconditionError as error:
                console.note(f"not needed any more: {error}")
            except PermissionDeniedError as error:
                console.complain(str(error))
            return True
        return False

    async def _ask(self, typed: Keyboard, run: AgentRun, call: Call) -> dict[str, Any] | None:
        reason = run.why_waiting.get(call.id, "")
        if call.name == _QUESTION:
            return await self._answer(typed, call)
        console.note(f"{call.name} waits for you{f': {reason}' if reason else ''}", style=Style.BOLD)
        console.note(console.printable(console.to_json(call.arguments)))
        while True:
            match (await typed.line(_CHOICES) or "l").strip().lower()[:1]:
                case "a":
                    return {"action": "APPROVE"}
                case "e":
                    changed = await self._edited(typed)
                    if changed is not None:
                        return {"action": "APPROVE", "arguments": changed}
                case "r":
                    return {"action": "REJECT", "comment": await typed.line("why (for the model): ") or ""}
                case "s":
                    return {"action": "SKIP"}
                case "l":
                    console.note(f"decide with `stigmer approve {run.id} {call.id}`, or `reject`")
                    return None
                case _:
                    continue

    async def _answer(self, typed: Keyboard, call: Call) -> dict[str, Any] | None:
        console.note(console.printable(str(call.arguments.get("question", ""))), style=Style.BOLD)
        options: Any = call.arguments.get("options") or ()
        if options:
            console.note(console.printable("  " + " / ".join(str(each) for each in options)))
        answer = await typed.line("your answer: ")
        return None if answer is None else {"action": "APPROVE", "comment": answer}

    async def _edited(self, typed: Keyboard) -> dict[str, Any] | None:
        import json

        line = await typed.line("arguments (JSON): ") or ""
        try:
            value: Any = json.loads(line)
        except ValueError as error:
            console.complain(f"this is not JSON: {error}")
            return None
        if not is_object(value):
            console.complain("arguments are an object")
            return None
        return value


async def _submit(resources: Resources, run: AgentRun, call: Call, decision: dict[str, Any]) -> None:
    from stigmer_grpc.errors import FailedPreconditionError

    request = {"id": run.id, "tool_call_id": call.id, **decision, "action": f"APPROVAL_ACTION_{decision['action']}"}
    try:
        await Controls(resources).call(Reference(kind=kind_of_run(run.id), id=run.id), "submitApproval", request)
    except FailedPreconditionError as error:
        console.note(f"not needed any more: {error}")
