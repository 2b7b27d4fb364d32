"""`call: http`: send a request, output what it gives."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import AuthenticationPolicy, CallHttpTask, HttpArguments
from uritemplate import URITemplate

from workflow_runner import names
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _SAFE | {"POST", "PUT", "PATCH", "DELETE"}
_SCHEMES = ("basic", "bearer")
_LATER_SCHEMES = ("digest", "oauth2", "oidc")


class _CallHttp:
    task = CallHttpTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallHttpTask) -> Iterator[tuple[str, str]]:
        policy = task.with_.endpoint.authentication
        for scheme in _LATER_SCHEMES:
            if policy is not None and getattr(policy, scheme) is not None:
                yield f"/with/endpoint/authentication/{scheme}", f"{scheme} authentication is not run yet"

    async def run(self, task: CallHttpTask, step: Step) -> Outcome:
        arguments = _arguments(task.with_, step)
        repeatable = arguments["method"] in _SAFE
        return Outcome(output=await step.call(names.CALL_HTTP, arguments, repeatable=repeatable))


def _arguments(given: HttpArguments, step: Step) -> dict[str, Any]:
    method = str(step.evaluate(given.method)).upper()
    if method not in _METHODS:
        raise configuration_fault(f"{method!r} is no HTTP method that can be sent", step)
    uri, template = _endpoint(given.endpoint.uri, step)
    arguments: dict[str, Any] = {
        "method": method,
        "uri": uri,
        "template": template,
        "headers": _mapping(given.headers, "with.headers", step),
        "query": list(_mapping(given.query, "with.query", step).items()),
        "authentication": _authentication(given.endpoint.authentication, step),
        "output": given.output,
        "redirect": given.redirect,
    }
    if given.body is not None:
        arguments["body"] = step.evaluate(given.body)
    return arguments


def _endpoint(uri: str, step: Step) -> tuple[str, dict[str, Any] | None]:
    """Return the URI, and the values for it where it is a template: those of its names that the input has."""
    if is_expression(uri):
        found = step.evaluate(uri)
        if not isinstance(found, str):
            raise WorkflowError.standard("expression", "the endpoint is not a text", instance=step.pointer)
        return found, None
    wanted = sorted(URITemplate(uri).variable_names)
    if not wanted:
        return uri, None
    have: Mapping[str, Any] = cast("Any", step.input) if isinstance(step.input, dict) else {}
    missing = [name for name in wanted if have.get(name) is None]
    if missing:
        listed = ", ".join(missing)
        raise WorkflowError.standard(
            "expression", f"the input has no {listed} for the URI template {uri}", instance=step.pointer
        )
    return uri, {name: have[name] for name in wanted}


def _mapping(value: Any, what: str, step: Step) -> dict[str, Any]:
    found: Any = {} if value is None else step.evaluate(value)
    if not isinstance(found, dict):
        raise WorkflowError.standard("expression", f"{what} is not an object", instance=step.pointer)
    return cast("dict[str, Any]", found)


def _authentication(policy: AuthenticationPolicy | None, step: Step) -> dict[str, Any] | None:
    if policy is not None and policy.use is not None:
        named = step.workflow.use.authentications.get(policy.use)
        if named is None:
            raise configuration_fault(f"use.authentications has no {policy.use!r}", step)
        policy = named
    if policy is None:
        return None
    for scheme in _SCHEMES:
        properties = getattr(policy, scheme)
        if properties is not None:
            return {scheme: step.evaluate(properties.to_dict())}
    raise configuration_fault("only basic and bearer authentication can be used yet", step)


KIND: TaskKind[CallHttpTask] = _CallHttp()
