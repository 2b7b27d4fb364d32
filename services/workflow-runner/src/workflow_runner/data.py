"""Data flow: what expressions see, and what data must look like."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

from stigmer_dsl import durations
from stigmer_dsl.dataflow import transform
from stigmer_dsl.descriptors import describe_runtime, describe_task, describe_workflow
from stigmer_dsl.errors import DurationError, WorkflowError
from stigmer_dsl.expressions import Mode, evaluate, evaluate_bare, evaluate_condition
from stigmer_dsl.model import Duration, DurationLike
from stigmer_dsl.problems import pointer_parts
from stigmer_dsl.secrets import Secrets

from workflow_runner.authorization import authorization_of

_NOTHING: Mapping[str, Any] = {}
_RUNTIME = describe_runtime(name="stigmer", version=version("workflow-runner"))


# Made for every task and every evaluation: a NamedTuple costs a quarter of a frozen dataclass.
class CurrentTask(NamedTuple):
    """The task in progress, as `$task` describes it."""

    name: str
    reference: str
    raw: Any
    """Raw input."""
    started_at: float
    output: Any = None
    """Raw output, once there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an expression can see by where it stands: the task, and the loops and catches around it."""

    locals: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Variables of loops and catches."""
    parent: str = ""
    """Id of the task around, empty at the top."""
    iteration: int | None = None
    attempt: int = 1
    extended: CurrentTask | None = None
    """Inside an extension: the task around which it is."""

    def around(
        self, *, parent: str, variables: Mapping[str, Any], iteration: int | None, attempt: int | None
    ) -> "Scope":
        """Return the scope of a list inside this task."""
        return Scope(
            locals={**self.locals, **variables} if variables else self.locals,
            parent=parent,
            iteration=self.iteration if iteration is None else iteration,
            attempt=self.attempt if attempt is None else attempt,
            extended=self.extended,
        )


class View(NamedTuple):
    """All that one expression sees besides the data it is evaluated on."""

    scope: Scope
    task: CurrentTask | None = None
    context: Any = None
    own: Mapping[str, Any] = _NOTHING
    """Variables of the place: `input`, `output`, and what the task's kind adds."""


class Evaluator:
    """Evaluates the expressions of one run."""

    def __init__(
        self,
        *,
        execution_id: str,
        definition: Mapping[str, Any],
        raw: Any,
        started_at: float,
        secrets: Secrets,
        mode: Mode,
    ) -> None:
        self.definition = definition
        self.workflow = describe_workflow(
            id=execution_id, definition=definition, input=raw, started_at=datetime.fromtimestamp(started_at, UTC)
        )
        self._secrets = secrets
        self._mode: Mode = mode

    def value(self, value: Any, data: Any, view: View) -> Any:
        """Return `value`, part of a definition, with its expressions evaluated on `data`."""
        return evaluate(value, data, _Variables(self, view), secrets=self._secrets, mode=self._mode)

    def text(self, text: str, data: Any, view: View) -> Any:
        """Return what an expression gives that is written with or without `${ }`."""
        return evaluate_bare(text, data, _Variables(self, view), secrets=self._secrets)

    def condition(self, text: str, data: Any, view: View) -> bool:
        """Return whether a condition holds."""
        return evaluate_condition(text, data, _Variables(self, view), secrets=self._secrets)

    def transformed(self, rule: str | Mapping[str, Any], data: Any, view: View) -> Any:
        """Return `data` as a `from` or `as` makes it: an expression, or an object with expressions in it."""
        return transform(rule, data, _Variables(self, view), secrets=self._secrets, mode=self._mode)


class _Variables(Mapping[str, Any]):
    """The variables of one evaluation. The dear ones are only made when an expression names them."""

    __slots__ = ("_evaluator", "_view")

    def __init__(self, evaluator: Evaluator, view: View) -> None:
        self._evaluator = evaluator
        self._view = view

    def __getitem__(self, name: str) -> Any:
        if name in self._view.own:
            return self._view.own[name]
        match name:
            case "context":
                return self._view.context
            case "workflow":
                return self._evaluator.workflow
            case "runtime":
                return _RUNTIME
            case "task":
                return self._task()
            case "authorization":
                return self._authorization()
            case _:
                return self._view.scope.locals[name]

    def __iter__(self) -> Iterator[str]:
        names = ("context", "workflow", "runtime", "task", "authorization", *self._view.scope.locals, *self._view.own)
        return iter(dict.fromkeys(names))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _task(self) -> dict[str, Any] | None:
        task = self._view.task
        if task is None:
            return None
        return describe_task(
            name=task.name,
            reference=task.reference,
            definition=self._definition_of(task),
            input=task.raw,
            output=task.output,
            started_at=datetime.fromtimestamp(task.started_at, UTC),
        )

    def _authorization(self) -> dict[str, Any] | None:
        task, own = self._view.task, self._view.own
        if task is None or "input" not in own:  # in a condition, or before the task has its input
            return None
        # An authentication cannot be told by itself.
        view = self._view._replace(own={**own, "authorization": None})
        policies = self._evaluator.definition.get("use", {}).get("authentications")
        return authorization_of(
            self._definition_of(task), policies, lambda part: self._evaluator.value(part, own["input"], view)
        )

    def _definition_of(self, task: CurrentTask) -> Any:
        found: Any = self._evaluator.definition
        for part in pointer_parts(task.reference):
            found = found[int(part) if isinstance(found, list) else part]
        return found


def length(value: DurationLike, evaluate_value: Callable[[Any], Any], *, pointer: str) -> timedelta:
    """Return the length of a duration that may be, or hold, an expression.

    Raises:
        WorkflowError: It is no duration.
    """
    found = evaluate_value(value.to_dict() if isinstance(value, Duration) else value)
    try:
        return durations.parse(found)
    except DurationError as error:
        raise WorkflowError.standard("expression", str(error), instance=pointer) from None


@lru_cache(maxsize=64)
def iso8601(seconds: float) -> str:
    """Return a time as RFC 3339 text in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
