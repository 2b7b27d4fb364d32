"""`call: asyncapi`: publish a message, or consume messages, as an AsyncAPI document describes it.

Consumed messages become the run's own in batches: an activity gives some, and here each is filtered, counted and
processed, so that what was done with it is done once, whatever is killed meanwhile.
"""

from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.model import AsyncApiSubscription, CallAsyncApiTask

from workflow_runner import names
from workflow_runner.arguments import check_text, evaluate_authentication, evaluate_object, evaluate_resource
from workflow_runner.call_messages import (
    AsyncApiTarget,
    ConsumeArguments,
    ConsumedBatch,
    PublishArguments,
    SettleArguments,
)
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind

_WAIT_SECONDS = 50.0
"""So long one activity waits for a message."""
_MOST = 100


class _CallAsyncApi:
    task = CallAsyncApiTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallAsyncApiTask) -> Iterator[tuple[str, str]]:
        policy = task.with_.authentication
        if policy is not None and policy.digest is not None:
            yield "/with/authentication/digest", "digest authentication is not run for messages"

    async def run(self, task: CallAsyncApiTask, step: Step) -> Outcome:
        subscription = task.with_.subscription
        if subscription is not None:
            return Outcome(output=await _Consumption(task, subscription, step).run())
        message = task.with_.message
        arguments: PublishArguments = {
            **_target(task, step),
            "payload": None if message is None else step.evaluate(message.payload),
            "headers": evaluate_object(None if message is None else message.headers, "with.message.headers", step),
        }
        await step.call(names.PUBLISH_MESSAGE, {**arguments}, repeatable=False)
        return Outcome(output=step.input)


def _target(task: CallAsyncApiTask, step: Step) -> AsyncApiTarget:
    given = task.with_
    server = given.server
    return {
        "document": evaluate_resource(given.document, step),
        "channel": _text(given.channel, "channel", step),
        "operation": _text(given.operation, "operation", step),
        "server": None if server is None else _text(server.name, "server.name", step),
        "variables": evaluate_object(None if server is None else server.variables, "with.server.variables", step),
        "protocol": given.protocol,
        "authentication": evaluate_authentication(given.authentication, step),
    }


def _text(given: str | None, what: str, step: Step) -> str | None:
    found = None if given is None else step.evaluate(given)
    return None if found is None else check_text(found, f"with.{what}", step)


class _Consumption:
    """One subscription. All that it must know to go on is in the step's state."""

    def __init__(self, task: CallAsyncApiTask, subscription: AsyncApiSubscription, step: Step) -> None:
        self._task = task
        self._step = step
        self._filter = subscription.filter
        self._consume = subscription.consume
        self._foreach = subscription.foreach
        self._state = step.state

    async def run(self) -> list[Any]:
        """Consume until it is enough; return what was kept of each message."""
        state = self._state
        if not state:
            state |= self._begun()
        while not self._is_over():
            if state["batch"]:
                await self._next()
            else:
                await self._step.rest()
                await self._fetch()
        await self._settle(None, over=True)
        output: list[Any] = state["output"]
        return output

    def _begun(self) -> dict[str, Any]:
        step, limit = self._step, self._consume.for_
        until = None if limit is None else step.time() + step.duration(limit).total_seconds()
        name = f"stigmer-{int(step.random() * 2**52):013x}"
        return {"name": name, "until": until, "position": None, "count": 0, "output": [], "batch": [], "over": False}

    def _is_over(self) -> bool:
        state, consume = self._state, self._consume
        if state["over"] or (consume.amount is not None and state["count"] >= consume.amount):
            return True
        # What has come is consumed before time ends the waiting.
        return not state["batch"] and state["until"] is not None and self._step.time() >= state["until"]

    async def _fetch(self) -> None:
        state, step = self._state, self._step
        wait = _WAIT_SECONDS
        if state["until"] is not None:
            wait = max(0.0, min(wait, state["until"] - step.time()))
        arguments: ConsumeArguments = {
            **_target(self._task, step),
            "subscription": state["name"],
            "position": state["position"],
            "most": self._most(),
            "seconds": wait,
        }
        batch = cast("ConsumedBatch", await step.call(names.CONSUME_MESSAGES, {**arguments}, repeatable=True))
        state["batch"] = [list(pair) for pair in zip(batch["messages"], batch["positions"], strict=True)]
        state["settles"] = batch["settles"]
        if state["batch"] and not self._decides:
            await self._settle(len(state["batch"]), over=False)

    @property
    def _decides(self) -> bool:
        """Whether a message may turn out not to be wanted."""
        return self._consume.amount is None or self._filter is not None

    def _most(self) -> int:
        """Return how many messages may be asked for. Where each is decided on, one that is not wanted goes back."""
        amount = self._consume.amount
        if amount is None or self._decides:
            return 1 if self._state.get("settles", True) else _MOST
        return max(1, min(_MOST, amount - self._state["count"]))

    async def _next(self) -> None:
        """Consume one message."""
        state, step = self._state, self._step
        message, position = state["batch"][0]
        if not state.get("entered"):
            wanted = self._filter is None or step.holds(self._filter, on=message)
            until = self._consume.until
            if wanted and until is not None and step.holds(until, self._variables(message), on=message):
                state["over"] = True
                return
            if self._decides:
                # It is the run's own by now. Told before it is processed, because that may take long.
                await self._settle(1, over=False)
            state["position"] = position
            if not wanted:
                state["batch"].pop(0)
                return
            state["entered"] = True
        state["output"].append(await self._process(message))
        variables = self._variables(message)
        state["batch"].pop(0)
        state["count"], state["entered"] = state["count"] + 1, False
        if self._consume.while_ is not None:
            state["over"] = not step.holds(self._consume.while_, variables, on=message)

    async def _settle(self, done: int | None, *, over: bool) -> None:
        """Tell the broker, where it waits for that, that so many messages are done; or that it is over."""
        if not over and not self._state["settles"]:
            return
        arguments: SettleArguments = {"subscription": self._state["name"], "done": done, "over": over}
        await self._step.call(names.SETTLE_MESSAGES, {**arguments}, repeatable=True)

    async def _process(self, message: Any) -> Any:
        foreach, step = self._foreach, self._step
        if foreach is None:
            return message
        number: int = self._state["count"]
        variables = self._variables(message)
        output = message
        if foreach.do is not None:
            output = await step.run_tasks(
                foreach.do,
                "/with/subscription/foreach/do",
                message,
                label=f"[{number}]",
                variables=variables,
                iteration=number,
            )
        return step.hand_on(foreach.output, foreach.export, output, variables)

    def _variables(self, message: Any) -> dict[str, Any]:
        foreach = self._foreach
        return {} if foreach is None else {foreach.item: message, foreach.at: self._state["count"]}


KIND: TaskKind[CallAsyncApiTask] = _CallAsyncApi()
