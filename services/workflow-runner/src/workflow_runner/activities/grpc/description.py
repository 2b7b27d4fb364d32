"""What a server offers, as messages that can be built: services, their methods, and the types they speak.

Each description has a pool of its own, so that two services may call different things by one name.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from workflow_runner.activities.calls import CallFailedError

Message = Any
"""Types of a pool are known at run time only."""
MethodDescriptor = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Services and their types."""

    pool: DescriptorPool
    services: tuple[str, ...]
    """Full names, in order."""

    def method(self, service: str, method: str) -> MethodDescriptor:
        """Return a method of a service; the package may be left out where only one service has the name.

        Raises:
            CallFailedError: There is none; says what there is.
        """
        found = self.pool.FindServiceByName(self._service(service))
        if method in found.methods_by_name:
            return found.methods_by_name[method]
        raise _missing(f"{found.full_name} has no method {method!r}", method, sorted(found.methods_by_name))

    def _service(self, name: str) -> str:
        if name in self.services:
            return name
        short = [full for full in self.services if full.rpartition(".")[2] == name]
        if len(short) == 1:
            return short[0]
        raise _missing(f"there is no service {name!r}", name, self.services)


def described(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> Description:
    """Return the description that files make, in whatever order they come.

    Raises:
        CallFailedError: They do not fit together.
    """
    pool = DescriptorPool()
    by_name = {file.name: file for file in files}
    services: list[str] = []
    try:
        for file in _ordered(by_name):
            pool.Add(file)
            services += (f"{file.package}.{service.name}".lstrip(".") for service in file.service)
    except (TypeError, ValueError) as error:
        raise CallFailedError("configuration", f"the service's description does not fit together: {error}") from None
    return Description(pool=pool, services=tuple(sorted(services)))


def described_by(descriptor_set: bytes) -> Description:
    """Return the description of a FileDescriptorSet."""
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
    except DecodeError as error:
        raise CallFailedError("configuration", f"the service's description cannot be read: {error}") from None
    return described(files)


def _ordered(by_name: dict[str, Any]) -> list[Any]:
    """Return files with those that they need before them."""
    ordered: dict[str, Any] = {}
    stack = [(name, False) for name in by_name]
    entered: set[str] = set()
    while stack:
        name, done = stack.pop()
        if done:
            ordered[name] = by_name[name]
        elif name not in entered and name in by_name:
            entered.add(name)
            stack.append((name, True))
            stack += ((inner, False) for inner in by_name[name].dependency)
    return list(ordered.values())


def _missing(sentence: str, name: str, there: Sequence[str]) -> CallFailedError:
    listed = ", ".join(there) or "none"
    close = difflib.get_close_matches(name, there, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return CallFailedError("configuration", f"{sentence}{hint}; there are: {listed}")
