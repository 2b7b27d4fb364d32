"""What `$authorization` tells: how the call of a task authenticates, as its document says it. Workflow code.

A bearer token is told, a secret in it being symbolic as everywhere. What is made of credentials, and the tokens that
servers give, are known only inside of the call.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from stigmer_dsl.descriptors import describe_authorization

_SCHEMES = {"basic": "Basic", "bearer": "Bearer", "digest": "Digest", "oauth2": "Bearer", "oidc": "Bearer"}
_HOLDERS = ((), ("endpoint",), ("service",), ("server",), ("transport", "http", "endpoint"))
"""Where in the arguments of a call its authentication stands."""


def authorization_of(task: Any, policies: Any, evaluate: Callable[[Any], Any]) -> dict[str, Any] | None:
    """Return the value of `$authorization` for a task; None for one that does not authenticate.

    Args:
        task: The definition of the task.
        policies: `use.authentications` of the document.
        evaluate: Evaluates the expressions in a part of the definition.
    """
    policy = _policy(_object(task).get("with"), policies)
    for name, scheme in _SCHEMES.items():
        if name in policy:
            token = _token(policy[name]) if name == "bearer" else None
            return describe_authorization(scheme=scheme, parameter=None if token is None else evaluate(token))
    return None


def _policy(arguments: Any, policies: Any) -> Mapping[str, Any]:
    for path in _HOLDERS:
        found = _object(_at(arguments, (*path, "authentication")))
        if found:
            return _object(_at(policies, (found["use"],))) if "use" in found else found
    return {}


def _token(bearer: Any) -> Any:
    properties = _object(bearer)
    return f"${{ $secrets[{json.dumps(properties['use'])}] }}" if "use" in properties else properties.get("token")


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = _object(value).get(key)
    return value


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
