"""`try`: run tasks; catch their errors, try again, or do something else instead."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from stigmer_dsl.errors import WorkflowError, matches
from stigmer_dsl.model import Backoff, DurationLike, RetryPolicy, TryTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault

_LONGEST_DELAY = timedelta(days=365)
_LONGEST_ASKED_SECONDS = 86_400


class _Try:
    task = TryTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: TryTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: TryTask, step: Step) -> Outcome:
        state = step.state
        if not state:
            state |= {"attempt": 1, "began": step.time(), "error": None}
        while state["error"] is None:
            if "pause" in state:
                await step.sleep(timedelta(seconds=state["pause"]))
                del state["pause"]
                state["attempt"] += 1
                state.pop("until", None)
            try:
                return Outcome(output=await self._attempt(task, step))
            except WorkflowError as error:
                variables = {task.catch.as_: error.to_dict()}
                if not _catches(task, error, step, variables):
                    raise
                pause = _pause(task, step, variables)
                if pause is not None:
                    # Kept, because the run may go on in a new history in the middle of it.
                    state["pause"] = pause.total_seconds()
                elif task.catch.do is None and task.catch.retry is not None:
                    raise  # tried as often as was asked for, and nothing else to do
                else:
                    state["error"] = error.to_dict()
        output = step.input
        if task.catch.do is not None:
            variables = {task.catch.as_: state["error"]}
            output = await step.run_tasks(
                task.catch.do, "/catch/do", step.input, label=_label(state), variables=variables
            )
        return Outcome(output=output, then=task.catch.then)

    async def _attempt(self, task: TryTask, step: Step) -> Any:
        attempt: int = step.state["attempt"]

        async def run() -> Any:
            return await step.run_tasks(task.try_, "/try", step.input, label=_label(step.state), attempt=attempt)

        policy = _policy(task, step)
        limit = policy.limit.attempt.duration if policy and policy.limit and policy.limit.attempt else None
        if limit is None:
            return await run()
        seconds = step.duration(limit).total_seconds()
        until: float = step.state.setdefault("until", step.time() + seconds)
        try:
            async with step.in_time(until):
                return await run()
        except TimeoutError:
            detail = f"attempt {attempt} took longer than {seconds:g} s"
            raise WorkflowError.standard("timeout", detail, instance=step.pointer) from None


def _label(state: dict[str, Any]) -> str:
    return f"~{state['attempt']}" if state["attempt"] > 1 else ""


def _catches(task: TryTask, error: WorkflowError, step: Step, variables: dict[str, Any]) -> bool:
    catch = task.catch
    return (
        matches(error, catch.errors.with_ if catch.errors else None)
        and (catch.when is None or step.holds(catch.when, variables))
        and not (catch.except_when is not None and step.holds(catch.except_when, variables))
    )


def _pause(task: TryTask, step: Step, variables: dict[str, Any]) -> timedelta | None:
    """Return how long the policy waits before the next attempt; None when it allows none."""
    policy = _policy(task, step)
    if policy is None:
        return None
    if policy.when is not None and not step.holds(policy.when, variables):
        return None
    if policy.except_when is not None and step.holds(policy.except_when, variables):
        return None
    retry: int = step.state["attempt"]  # the first retry follows the first attempt
    # Without a limit of its own a policy would never end.
    count = policy.limit.attempt.count if policy.limit and policy.limit.attempt else None
    if retry > (step.limits["max_backward_jumps"] if count is None else count):
        return None
    delay = max(_delay(policy, retry, step, variables), _asked_for(variables[task.catch.as_]))
    if policy.limit and policy.limit.duration is not None:
        limit = step.duration(policy.limit.duration).total_seconds()
        if step.time() + delay.total_seconds() - step.state["began"] > limit:
            return None
    return delay


def _asked_for(error: Mapping[str, Any]) -> timedelta:
    """Return how long the peer that gave an error asks to wait; none may hold a run for longer than a day."""
    return timedelta(seconds=min(error.get("retryAfter", 0), _LONGEST_ASKED_SECONDS))


def _delay(policy: RetryPolicy, retry: int, step: Step, variables: dict[str, Any]) -> timedelta:
    delay = _grown(_length(policy.delay, step), policy.backoff, retry)
    if policy.jitter is not None:
        least, most = _length(policy.jitter.from_, step), _length(policy.jitter.to, step)
        delay += least + (most - least) * step.random()
    return max(timedelta(), min(delay, _LONGEST_DELAY))


def _grown(delay: timedelta, backoff: Backoff | None, retry: int) -> timedelta:
    if backoff is None or backoff.constant is not None or delay <= timedelta():
        return delay
    # Compared before multiplying: the product may be more than a timedelta holds.
    factor = retry if backoff.linear is not None else 2 ** min(retry - 1, 64)
    return _LONGEST_DELAY if factor > _LONGEST_DELAY / delay else delay * factor


def _length(value: DurationLike | None, step: Step) -> timedelta:
    return timedelta() if value is None else step.duration(value)


def _policy(task: TryTask, step: Step) -> RetryPolicy | None:
    retry = task.catch.retry
    if not isinstance(retry, str):
        return retry
    policy = step.workflow.use.retries.get(retry)
    if policy is None:
        raise configuration_fault(f"use.retries has no {retry!r}", step)
    return policy


KIND: TaskKind[TryTask] = _Try()
