"""What a call is given, evaluated: plain values for an activity, with the secrets in them still symbolic.

Every kind of call evaluates its endpoint, external resources, authentication and objects here, hands them to
its activity as they are, and the activity gives them to `workflow_runner.activities`: `expand` makes the
address of an endpoint, `Resources.fetch` gets a resource, `Authentication` applies a policy. Workflow code.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import AuthenticationPolicy, EndpointConfiguration, ExternalResource
from stigmer_dsl.secrets import PLACEHOLDER
from uritemplate import URITemplate

from workflow_runner.call_messages import EndpointArguments
from workflow_runner.tasks.port import Step, configuration_fault

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods of HTTP that only read: a call may be repeated."""
SCHEMES = ("basic", "bearer", "digest", "oauth2", "oidc")


def evaluate_resource(resource: ExternalResource, step: Step) -> EndpointArguments:
    """Return where an external resource is, and how to authenticate there."""
    return evaluate_endpoint(resource.endpoint, step)


def evaluate_endpoint(endpoint: EndpointConfiguration, step: Step) -> EndpointArguments:
    """Return where an endpoint is, and how to authenticate there.

    A URI template comes with those values for it that the input has. An expression gives a text, or an object
    with `uri` and perhaps `authentication`.

    Raises:
        WorkflowError: It is none, or an expression in it fails.
    """
    authentication = evaluate_authentication(endpoint.authentication, step)
    if is_expression(endpoint.uri):
        return _computed(step.evaluate(endpoint.uri), authentication, step)
    plain = PLACEHOLDER.sub("", endpoint.uri)
    # Expressions inside a text are evaluated in loose mode only, and what they give is no template.
    wanted = [] if "${" in plain else sorted(URITemplate(plain).variable_names)
    return {
        "uri": str(step.evaluate(endpoint.uri)),
        "template": _values(endpoint.uri, wanted, step) if wanted else None,
        "authentication": authentication,
    }


def _computed(found: Any, authentication: dict[str, Any] | None, step: Step) -> EndpointArguments:
    """Return the endpoint that an expression gave. It is data: nothing in it is evaluated again."""
    if isinstance(found, dict):
        given = cast("dict[str, Any]", found)
        if given.get("authentication") is not None:
            authentication = _computed_policy(given["authentication"], step)
        found = given.get("uri")
    if not isinstance(found, str):
        raise _unexpected("the endpoint is neither a text nor an object with a `uri`", step)
    return {"uri": found, "template": None, "authentication": authentication}


def _computed_policy(found: Any, step: Step) -> dict[str, Any]:
    try:
        policy = AuthenticationPolicy.model_validate(found)
    except ValidationError as error:
        said = "; ".join(str(each["msg"]) for each in error.errors())
        raise _unexpected(f"the endpoint's authentication is no policy: {said}", step) from None
    # Data must not choose which of the workflow's credentials go to an address that is data too.
    if policy.use is not None or any(getattr(getattr(policy, name), "use", None) for name in SCHEMES):
        raise _unexpected("an endpoint that is computed cannot name an authentication; write it beside `uri`", step)
    return policy.to_dict()


def _values(uri: str, wanted: list[str], step: Step) -> dict[str, Any]:
    have: Mapping[str, Any] = cast("Any", step.input) if isinstance(step.input, dict) else {}
    missing = ", ".join(name for name in wanted if have.get(name) is None)
    if missing:
        raise _unexpected(f"the input has no {missing} for the URI template {uri}", step)
    return {name: have[name] for name in wanted}


def evaluate_object(value: Any, what: str, step: Step) -> dict[str, Any]:
    """Return an object with its expressions evaluated; an empty one where there is none. `what` names it.

    Raises:
        WorkflowError: It is no object, or an expression in it fails.
    """
    found: Any = {} if value is None else step.evaluate(value)
    if not isinstance(found, dict):
        raise _unexpected(f"{what} is not an object", step)
    return cast("dict[str, Any]", found)


def check_text(value: Any, what: str, step: Step) -> str:
    """Return what an expression gave, which must be a text. `what` names it.

    Raises:
        WorkflowError: It is none.
    """
    if not isinstance(value, str):
        raise _unexpected(f"{what} is not a text", step)
    return value


def evaluate_authentication(policy: AuthenticationPolicy | None, step: Step) -> dict[str, Any] | None:
    """Return a policy, inline or named in `use.authentications`: `basic`, `bearer` … with its properties.

    Where the properties stand in a secret, they are `{"secret": …}` with the symbol of that secret.

    Raises:
        WorkflowError: The workflow has none of this name, or an expression in it fails.
    """
    if policy is not None and policy.use is not None:
        named = step.workflow.use.authentications.get(policy.use)
        if named is None:
            raise configuration_fault(f"use.authentications has no {policy.use!r}", step)
        policy = named
    if policy is None:
        return None
    for scheme in SCHEMES:
        properties = getattr(policy, scheme)
        if properties is not None and properties.use is not None:
            return {scheme: {"secret": step.evaluate(f"${{ $secrets[{json.dumps(properties.use)}] }}")}}
        if properties is not None:
            return {scheme: _placed(step.evaluate(properties.to_dict()), step)}
    raise configuration_fault("an entry of use.authentications names another one; write the policy itself", step)


def _placed(properties: dict[str, Any], step: Step) -> dict[str, Any]:
    """Return the properties of a policy with the values of the input in its authority, where that is a template."""
    wanted = sorted(URITemplate(str(properties.get("authority", ""))).variable_names)
    if not wanted:
        return properties
    authority = str(properties["authority"])
    return {**properties, "authority": URITemplate(authority).expand(_values(authority, wanted, step))}


def _unexpected(detail: str, step: Step) -> WorkflowError:
    return WorkflowError.standard("expression", detail, instance=step.pointer)
