"""The protocols of messages that can be spoken: one module each, found by being in this folder."""

import importlib
import pkgutil
from functools import cache
from importlib.util import find_spec

from workflow_runner.activities.asyncapi.port import MessageProtocol


@cache
def _protocols() -> tuple[MessageProtocol, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}").PROTOCOL for name in names)


def _known(scheme: str) -> MessageProtocol | None:
    return next((each for each in _protocols() if scheme in each.schemes), None)


def _is_here(protocol: MessageProtocol) -> bool:
    return not protocol.library or find_spec(protocol.library) is not None


def protocol_of(scheme: str) -> MessageProtocol | None:
    """Return the protocol with this name in documents, if it is known and its library is installed."""
    found = _known(scheme)
    return found if found is not None and _is_here(found) else None


def schemes(scheme: str) -> frozenset[str]:
    """Return all names of the protocol that has this one."""
    found = _known(scheme)
    return frozenset((scheme,)) if found is None else frozenset(found.schemes)


def extra_for(scheme: str) -> str:
    """Return why a protocol is not spoken here, and what to do about it; empty if it is."""
    found = _known(scheme)
    if found is None:
        known = ", ".join(sorted(name for each in _protocols() for name, (tls, _) in each.schemes.items() if not tls))
        return f"the protocol {scheme!r} is not spoken; those that are: {known}"
    if _is_here(found):
        return ""
    return (
        f"the protocol {scheme!r} needs a library that is not installed: pip install 'workflow-runner[{found.extra}]'"
    )
