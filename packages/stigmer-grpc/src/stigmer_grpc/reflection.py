"""grpc.reflection: the server tells tools such as grpcurl what it serves, from the pool it was made with.

grpcio-reflection brings the answers and the v1alpha protocol. v1 is the same protocol under another package
name, so its descriptor is made from v1alpha's and its messages are the same bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from stigmer_grpc.binding import Message, Service, bind
from stigmer_grpc.context import CallContext

_ALPHA = "grpc.reflection.v1alpha"
_V1 = "grpc.reflection.v1"
NAMES = (f"{_V1}.ServerReflection", f"{_ALPHA}.ServerReflection")


def reflection_services(names: Iterable[str], pool: DescriptorPool) -> tuple[Service, ...]:
    """Reflection over the services called `names` and itself."""
    pools: Any = _Pools(pool, own_pool())
    answers: Any = ReflectionServicer((*names, *NAMES), pool=pools)

    async def info(requests: AsyncIterator[Message], context: CallContext) -> AsyncIterator[bytes]:
        async for answer in answers.ServerReflectionInfo(_as_alpha(requests), context):
            yield answer.SerializeToString()

    return tuple(bind(own_pool(), name, {"ServerReflectionInfo": info}) for name in NAMES)


async def _as_alpha(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    request_type: Any = reflection_pb2
    async for request in requests:
        yield request_type.ServerReflectionRequest.FromString(request.SerializeToString())


@cache
def own_pool() -> DescriptorPool:
    """What describes health and reflection themselves, should the server's pool not."""
    pool = DescriptorPool()
    health: Any = health_pb2.DESCRIPTOR
    alpha: Any = reflection_pb2.DESCRIPTOR
    pool.AddSerializedFile(health.serialized_pb)
    pool.AddSerializedFile(alpha.serialized_pb)
    pool.Add(_as_v1(FileDescriptorProto.FromString(alpha.serialized_pb)))
    return pool


def _as_v1(file: FileDescriptorProto) -> FileDescriptorProto:
    file.name = file.name.replace("v1alpha", "v1")
    file.package = _V1
    for field in (field for message in file.message_type for field in message.field):
        if field.HasField("type_name"):
            field.type_name = _renamed(field.type_name)
    for method in (method for service in file.service for method in service.method):
        method.input_type = _renamed(method.input_type)
        method.output_type = _renamed(method.output_type)
    return file


def _renamed(name: str) -> str:
    return name.replace(f".{_ALPHA}.", f".{_V1}.")


class _Pools:
    """Two pools asked one after the other, as far as reflection asks."""

    def __init__(self, first: DescriptorPool, second: DescriptorPool) -> None:
        self._pools: tuple[Any, Any] = (first, second)

    def FindFileByName(self, name: str) -> Any:  # noqa: N802 - DescriptorPool's name
        return self._ask(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - DescriptorPool's name
        try:
            return self._ask(lambda pool: pool.FindFileContainingSymbol(symbol))
        except KeyError:
            # The pool finds files by everything but methods.
            service, _, method = symbol.rpartition(".")
            return self._ask(
                lambda pool: pool.FindServiceByName(service).methods_by_name[method]
            ).containing_service.file

    def FindMessageTypeByName(self, name: str) -> Any:  # noqa: N802 - DescriptorPool's name
        return self._ask(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:  # noqa: N802 - DescriptorPool's name
        return self._ask(lambda pool: pool.FindExtensionByNumber(message, number))

    def FindAllExtensions(self, message: Any) -> Any:  # noqa: N802 - DescriptorPool's name
        return message.file.pool.FindAllExtensions(message)

    def _ask(self, find: Callable[[Any], Any]) -> Any:
        first, second = self._pools
        try:
            return find(first)
        except KeyError:
            return find(second)
