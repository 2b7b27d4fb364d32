"""The meaning of a document: names, references, flow, and every text that has a form of its own.

Walks the typed model once. Knows which fields hold expressions, which are constants, and which variables exist where.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, cast

from stigmer_dsl import durations
from stigmer_dsl.errors import DurationError
from stigmer_dsl.expressions import ARGUMENTS, is_expression
from stigmer_dsl.model import (
    ActivityArguments,
    AgentFile,
    AsyncApiConsumption,
    AsyncApiSubscription,
    AuthenticationPolicy,
    BasicAuthentication,
    BearerAuthentication,
    CallFunctionTask,
    CallGrpcTask,
    Catch,
    Correlation,
    Duration,
    EndpointConfiguration,
    ErrorDefinition,
    EventConsumption,
    EventProperties,
    Export,
    Extension,
    ForConfiguration,
    ForTask,
    HttpArguments,
    HumanInputArguments,
    Input,
    OpenIdConnectAuthentication,
    Output,
    RaiseTask,
    RetryPolicy,
    Schedule,
    Schema,
    SubscriptionIterator,
    SwitchCase,
    SwitchTask,
    TaskBase,
    TaskItem,
    TaskList,
    TransformArguments,
    TryTask,
    Workflow,
    inner_lists,
)
from stigmer_dsl.model.element import Element, wire_name
from stigmer_dsl.model.tasks import CALLS
from stigmer_dsl.problems import did_you_mean, pointer_to
from stigmer_dsl.schemas import invalid_schema, unsupported_format
from stigmer_dsl.secrets import PLACEHOLDER, names_secret
from stigmer_dsl.validation.expressions import ExpressionChecks
from stigmer_dsl.validation.findings import Finding, Report
from stigmer_dsl.validation.forms import wrong_cron, wrong_file, wrong_pointer, wrong_time, wrong_uri, wrong_variable

DIRECTIVES = frozenset({"continue", "exit", "end"})
"""Flow directives that are no names of tasks."""

_BARE: Mapping[type[Element], frozenset[str]] = {
    TaskBase: frozenset({"if_"}),
    Input: frozenset({"from_"}),
    Output: frozenset({"as_"}),
    Export: frozenset({"as_"}),
    ForConfiguration: frozenset({"in_"}),
    ForTask: frozenset({"while_"}),
    SwitchCase: frozenset({"when"}),
    Catch: frozenset({"when", "except_when"}),
    RetryPolicy: frozenset({"when", "except_when"}),
    Correlation: frozenset({"from_"}),
    EventConsumption: frozenset({"until"}),
    AsyncApiSubscription: frozenset({"filter"}),
    AsyncApiConsumption: frozenset({"while_", "until"}),
    Extension: frozenset({"when"}),
    TransformArguments: frozenset({"as_"}),
}
"""Fields whose text is an expression with or without `${ }`."""

_CONSTANT: Mapping[type[Element], frozenset[str]] = {
    TaskBase: frozenset({"metadata", "then", "timeout", "call"}),
    Schema: frozenset({"document", "format"}),
    SwitchCase: frozenset({"then"}),
    Catch: frozenset({"as_", "then", "retry", "errors"}),
    ForConfiguration: frozenset({"each", "at"}),
    SubscriptionIterator: frozenset({"item", "at"}),
    AuthenticationPolicy: frozenset({"use"}),
    BasicAuthentication: frozenset({"use"}),
    BearerAuthentication: frozenset({"use"}),
    OpenIdConnectAuthentication: frozenset({"use"}),
    Schedule: frozenset({"cron"}),
}
"""Fields whose text is never evaluated."""

_URIS: Mapping[type[Element], frozenset[str]] = {
    EndpointConfiguration: frozenset({"uri"}),
    ErrorDefinition: frozenset({"type"}),
    OpenIdConnectAuthentication: frozenset({"authority"}),
    EventProperties: frozenset({"dataschema", "source"}),
}
_FORMS: Mapping[tuple[type[Element], str], Callable[[str], str | None]] = {
    (AgentFile, "path"): wrong_file,
    (EventProperties, "time"): wrong_time,
    (ErrorDefinition, "instance"): wrong_pointer,
}
"""Fields whose text is an expression, or has a form of its own."""
_DURATIONS = frozenset({"after", "delay", "duration", "wait", "every", "timeout", "for_"})
_JITTER = frozenset({"from_", "to"})


@cache
def _roles(kind: type[Element]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The fields of a class that are bare expressions, those that are constant, and those that are URIs."""
    bare, constant, uris = (
        frozenset[str]().union(*(names for owner, names in table.items() if issubclass(kind, owner)))
        for table in (_BARE, _CONSTANT, _URIS)
    )
    return bare, constant, uris


def _called(task: TaskBase) -> Iterator[str]:
    """Yield the names of the functions that a task calls, at any depth."""
    if isinstance(task, CallFunctionTask):
        yield task.call
    for _, tasks in inner_lists(task):
        for item in tasks:
            yield from _called(item.task)


def _way_back(name: str, calls: Mapping[str, list[str]]) -> list[str]:
    """Return a way of calls from a function back to itself; nothing where there is none."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        for called in calls[way[-1]]:
            if called == name:
                return [*way, name]
            if called not in seen:
                seen.add(called)
                ways.append([*way, called])
    return []


class MeaningCheck:
    """Checks one workflow and reports what it finds."""

    def __init__(
        self,
        workflow: Workflow,
        report: Report,
        *,
        secrets: frozenset[str],
        broken: set[tuple[str, str]],
        stored: bool = False,
    ) -> None:
        self._workflow = workflow
        self._stored = stored
        self._report = report
        self._broken = broken
        self._secrets = secrets | frozenset(workflow.use.secrets)
        self._expressions = ExpressionChecks(
            report=report, secrets=self._secrets, loose=workflow.evaluate.mode == "loose"
        )

    def run(self) -> None:
        """Check everything."""
        workflow, scope = self._workflow, ARGUMENTS
        if workflow.evaluate.language != "jq":
            message = f"expressions in {workflow.evaluate.language!r} are not supported"
            self._find("dsl.language", "/evaluate/language", message, "use jq")
        self._use()
        for name in ("input", "output", "schedule"):
            part = getattr(workflow, name)
            if part is not None:
                self._element(part, f"/{name}", scope)
        self._timeout(workflow.timeout, "/timeout", scope)
        self._list(workflow.do, "/do", scope)
        if workflow.schedule is not None and workflow.schedule.cron is not None:
            wrong = wrong_cron(workflow.schedule.cron)
            if wrong is not None:
                self._find("dsl.cron", "/schedule/cron", wrong, "minute hour day-of-month month day-of-week")
        self._expressions.finish()

    def _find(self, code: str, pointer: str, message: str, hint: str = "", *, at_key: bool = False) -> None:
        self._report(Finding(code=code, pointer=pointer, message=message, hint=hint, at_key=at_key))

    def _use(self) -> None:
        use = self._workflow.use
        for name, task in use.functions.items():
            pointer = pointer_to(["use", "functions", name])
            if name in CALLS:
                self._find("dsl.reserved-name", pointer, f"{name!r} is a built-in function", at_key=True)
            self._targets(task, pointer, frozenset())
            self._task(task, pointer, ARGUMENTS)
        self._refuse_cycles()
        for index, item in enumerate(use.extensions):
            self._element(item.extension, pointer_to(["use", "extensions", index, item.name]), ARGUMENTS)
        for collection in ("authentications", "errors", "retries", "timeouts", "catalogs"):
            for name, component in cast("dict[str, Element]", getattr(use, collection)).items():
                self._element(component, pointer_to(["use", collection, name]), ARGUMENTS)

    def _refuse_cycles(self) -> None:
        """A function that calls itself, directly or through others, would never end."""
        functions = cast("dict[str, TaskBase]", self._workflow.use.functions)
        calls = {name: [called for called in _called(task) if called in functions] for name, task in functions.items()}
        for name in calls:
            way = _way_back(name, calls)
            if way:
                said = f"calls itself: {' → '.join(way)}"
                self._find("dsl.function-cycle", pointer_to(["use", "functions", name]), said)

    def _list(self, tasks: TaskList, pointer: str, scope: frozenset[str], *, branches: bool = False) -> None:
        first: dict[str, int] = {}
        for index, item in enumerate(tasks):
            at = pointer + pointer_to([index, item.name])
            if item.name in first:
                hint = f"the first is {pointer}/{first[item.name]}"
                self._find(
                    "dsl.duplicate-task", at, f"two tasks of this list are named {item.name!r}", hint, at_key=True
                )
            first.setdefault(item.name, index)
            if item.name in DIRECTIVES:
                message = f"{item.name!r} is a flow directive and cannot name a task"
                self._find("dsl.reserved-name", at, message, at_key=True)
        targets = frozenset[str]() if branches else frozenset(first)
        for index, item in enumerate(tasks):
            at = pointer + pointer_to([index, item.name])
            self._targets(item.task, at, targets)
            self._task(item.task, at, scope)

    def _targets(self, task: TaskBase, pointer: str, names: frozenset[str]) -> None:
        """Every directive of a task must lead somewhere in its list."""
        self._target(task.then, pointer + "/then", names)
        if isinstance(task, TryTask):
            self._target(task.catch.then, pointer + "/catch/then", names)
        if isinstance(task, SwitchTask):
            self._switch(task, pointer, names)

    def _switch(self, task: SwitchTask, pointer: str, names: frozenset[str]) -> None:
        defaults = 0
        cases: set[str] = set()
        for index, item in enumerate(task.switch):
            at = pointer + pointer_to(["switch", index, item.name])
            self._target(item.case.then, at + "/then", names)
            if item.name in cases:
                self._find("dsl.duplicate-task", at, f"two cases are named {item.name!r}", at_key=True)
            cases.add(item.name)
            defaults += item.case.when is None
            if item.case.when is None and defaults > 1:
                self._find("dsl.switch-default", at, "a switch has one case without `when`, the default", at_key=True)

    def _target(self, then: str | None, pointer: str, names: frozenset[str]) -> None:
        if then is None or then in DIRECTIVES or then in names:
            return
        hint = did_you_mean(then, names | DIRECTIVES)
        self._find("dsl.then-target", pointer, f"no task named {then!r} is in this list", hint)

    def _task(self, task: TaskBase, pointer: str, scope: frozenset[str]) -> None:
        self._timeout(task.timeout, pointer + "/timeout", scope)
        if isinstance(task, RaiseTask) and isinstance(task.raise_.error, str):
            self._refer("errors", task.raise_.error, pointer + "/raise/error")
        elif isinstance(task, CallFunctionTask):
            self._function(task.call, pointer + "/call")
        elif isinstance(task, CallGrpcTask) and task.with_.proto is None and not self._stored:
            self._find("dsl.missing-field", pointer + "/with", "needs `proto`")
        self._element(task, pointer, scope)

    def _function(self, name: str, pointer: str) -> None:
        catalog = name.partition("@")[2] if "://" not in name else ""
        if catalog:
            if catalog != "default":
                self._refer("catalogs", catalog, pointer)
        elif "://" not in name:
            self._refer("functions", name, pointer, also=CALLS)

    def _refer(self, collection: str, name: str, pointer: str, *, also: Mapping[str, str] | None = None) -> None:
        known = cast("dict[str, Any]", getattr(self._workflow.use, collection))
        if name in known or (collection, name) in self._broken:
            return
        hint = did_you_mean(name, [*known, *(also or {})], otherwise=f"define it in use.{collection}")
        self._find("dsl.unknown-reference", pointer, f"use.{collection} has no {name!r}", hint)

    def _secret(self, name: str, pointer: str) -> None:
        if name not in self._secrets:
            hint = did_you_mean(name, self._secrets, otherwise="add it to use.secrets")
            self._find("expression.unknown-secret", pointer, f"secret {name!r} is not declared", hint)

    def _timeout(self, timeout: Any, pointer: str, scope: frozenset[str]) -> None:
        if isinstance(timeout, str):
            self._refer("timeouts", timeout, pointer)
        elif isinstance(timeout, Element):
            self._element(timeout, pointer, scope)

    def _element(self, element: Element, pointer: str, scope: frozenset[str]) -> None:
        """Check an element, field by field."""
        self._special(element, pointer, scope)
        bare, constant, uris = _roles(type(element))
        for name in type(element).model_fields:
            value = getattr(element, name) if name in element.model_fields_set else None
            if value is None or name in constant:
                continue
            at = f"{pointer}/{wire_name(name)}"
            inner = self._scope(element, name, scope)
            if isinstance(value, str) and name in bare:
                self._expressions.bare(at, value, inner)
            elif isinstance(value, str) and name in uris:
                self._uri(at, value, inner)
            elif isinstance(value, str) and (form := _FORMS.get((type(element), name))) is not None:
                self._formed(at, value, inner, form)
            elif isinstance(value, str) and (
                name in _DURATIONS or (name in _JITTER and type(element).__name__ == "Jitter")
            ):
                self._duration(at, value, inner)
            else:
                self._value(value, at, inner, branches=name == "branches")
        for name, value in (element.model_extra or {}).items():
            self._value(value, f"{pointer}{pointer_to([name])}", scope)

    def _scope(self, element: Element, name: str, scope: frozenset[str]) -> frozenset[str]:
        """The variables that exist in a field."""
        if isinstance(element, ForTask) and name in ("while_", "do"):
            return scope | {element.for_.each, element.for_.at}
        if isinstance(element, SubscriptionIterator):
            return scope | {element.item, element.at}
        if isinstance(element, Catch) and name in ("when", "except_when", "retry", "do"):
            return scope | {element.as_}
        return scope

    def _value(self, value: Any, pointer: str, scope: frozenset[str], *, branches: bool = False) -> None:
        """Check whatever a field holds."""
        if isinstance(value, Element):
            self._element(value, pointer, scope)
        elif isinstance(value, str):
            self._expressions.text(pointer, value, scope)
        elif isinstance(value, dict):
            for key, item in cast("dict[str, Any]", value).items():
                self._value(item, pointer + pointer_to([key]), scope)
        elif isinstance(value, (list, tuple)):
            items = cast("tuple[Any, ...]", value)
            if items and isinstance(items[0], TaskItem):
                self._list(cast("TaskList", items), pointer, scope, branches=branches)
                return
            for index, item in enumerate(items):
                name = getattr(item, "name", None) if isinstance(item, Element) else None
                case = getattr(item, "case", None)
                if isinstance(name, str) and isinstance(case, Element):
                    self._element(case, pointer + pointer_to([index, name]), scope)
                else:
                    self._value(item, f"{pointer}/{index}", scope)

    def _special(self, element: Element, pointer: str, scope: frozenset[str]) -> None:
        """What belongs to one kind of element."""
        match element:
            case Catch():
                self._variable(element.as_, pointer + "/as")
                if isinstance(element.retry, str):
                    self._refer("retries", element.retry, pointer + "/retry")
                elif element.retry is not None:
                    self._element(element.retry, pointer + "/retry", scope | {element.as_})
            case ForConfiguration():
                self._variable(element.each, pointer + "/each")
                self._variable(element.at, pointer + "/at", other=element.each)
            case SubscriptionIterator():
                self._variable(element.item, pointer + "/item")
                self._variable(element.at, pointer + "/at", other=element.item)
            case AuthenticationPolicy() if element.use is not None:
                self._refer("authentications", element.use, pointer + "/use")
            case BasicAuthentication() | BearerAuthentication() | OpenIdConnectAuthentication():
                if element.use is not None:
                    self._secret(element.use, pointer + "/use")
            case Schema():
                self._schema(element, pointer)
            case Duration():
                self._parts(element, pointer)
            case ActivityArguments():
                self._refuse_secrets(element.to_dict(), pointer)
            case HttpArguments():
                if not is_expression(element.method) and not element.method.isalpha():
                    self._find("dsl.value", pointer + "/method", f"{element.method!r} is no HTTP method")
            case HumanInputArguments():
                self._outcome(element, pointer)
            case _:
                pass

    def _outcome(self, asked: HumanInputArguments, pointer: str) -> None:
        """The outcome of a question that nobody answers is one that could be chosen."""
        is_computed = any("${" in text for text in (*asked.outcomes, asked.default or ""))
        if not is_computed and asked.default not in (None, *asked.outcomes):
            message = f"{asked.default!r} is none of the outcomes: {', '.join(asked.outcomes)}"
            self._find("dsl.value", pointer + "/default", message)

    def _refuse_secrets(self, value: Any, pointer: str) -> None:
        """Arguments of a foreign activity stand in history, and its worker reads them: no secret may be there."""
        if isinstance(value, str) and names_secret(value):
            message = "a secret cannot be given to an activity of another worker: it would stand in history"
            self._find("dsl.secret-use", pointer, message, "let that worker have the secret itself")
        elif isinstance(value, dict):
            for key, item in cast("dict[str, Any]", value).items():
                self._refuse_secrets(item, pointer + pointer_to([key]))
        elif isinstance(value, list):
            for index, item in enumerate(cast("list[Any]", value)):
                self._refuse_secrets(item, f"{pointer}/{index}")

    def _variable(self, name: str, pointer: str, *, other: str = "") -> None:
        wrong = wrong_variable(name)
        if wrong is None and name == other:
            wrong = f"${name} is the name of the item already"
        if wrong is not None:
            self._find("dsl.variable-name", pointer, wrong)

    def _parts(self, duration: Duration, pointer: str) -> None:
        for name in type(duration).model_fields:
            if getattr(duration, name) < 0:
                self._find("dsl.duration", f"{pointer}/{name}", "a part of a duration is never negative")
        try:
            durations.parse(duration)
        except DurationError as error:
            self._find("dsl.duration", pointer, str(error))

    def _duration(self, pointer: str, text: str, scope: frozenset[str]) -> None:
        if is_expression(text) or PLACEHOLDER.search(text):
            self._expressions.text(pointer, text, scope)
            return
        try:
            durations.parse(text)
        except DurationError as error:
            self._find("dsl.duration", pointer, str(error))
            return
        if "," in text or text != text.strip():
            self._find("dsl.duration", pointer, f"{text!r} holds a comma or spaces", "write PT1.5S")

    def _formed(self, pointer: str, text: str, scope: frozenset[str], wrong: Callable[[str], str | None]) -> None:
        self._expressions.text(pointer, text, scope)
        if is_expression(text) or "${" in text:
            return
        found = wrong(text)
        if found is not None:
            self._find("dsl.value", pointer, found)

    def _uri(self, pointer: str, text: str, scope: frozenset[str]) -> None:
        self._expressions.text(pointer, text, scope)
        if is_expression(text):
            return
        plain = PLACEHOLDER.sub("x", text)
        if "${" in plain:
            if self._workflow.evaluate.mode != "loose":
                hint = r'in strict mode write one expression: ${ "https://host/\(.id)" }'
                self._find("dsl.uri", pointer, "an expression inside a URI is not evaluated", hint)
            return
        wrong = wrong_uri(plain)
        if wrong is not None:
            self._find("dsl.uri", pointer, wrong)

    def _schema(self, schema: Schema, pointer: str) -> None:
        wrong = unsupported_format(schema.format)
        if wrong is not None:
            self._find("dsl.schema", pointer + "/format", wrong)
        elif schema.resource is None:
            invalid = invalid_schema(schema.document)
            if invalid is not None:
                self._find("dsl.schema", f"{pointer}/document{invalid[0]}", f"this is no JSON Schema: {invalid[1]}")
