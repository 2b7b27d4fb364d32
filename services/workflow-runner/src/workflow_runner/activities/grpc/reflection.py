"""Asking a server to describe itself: grpc.reflection, version v1 and before it v1alpha.

Both speak the same messages under two names.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.grpc.description import Description, described

_VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
_MOST_FILES = 1000
_MOST_BYTES = 8 * 2**20
_LOST = "Internal error from Core"
"""What grpcio says of a stream that was refused just while a question was written: what the server said is lost."""
_MOST_LOST = 10
_FILES = "file_descriptor_response"
_ERROR = "error_response"

Message = Any
Metadata = Sequence[tuple[str, str]]

_pb2: Any = reflection_pb2
_aio: Any = grpc.aio


async def reflect(channel: grpc.aio.Channel, service: str, *, metadata: Metadata, seconds: float) -> Description:
    """Return what the server says of `service`, or of the one service whose name it is without a package.

    Raises:
        AioRpcError: The server cannot be reached, or refuses.
        CallFailedError: It has no reflection, or what it says cannot be used.
    """
    lost = 0
    versions = list(_VERSIONS)
    while versions:
        stream = channel.stream_stream(
            f"/{versions[0]}.ServerReflection/ServerReflectionInfo",
            request_serializer=_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=_pb2.ServerReflectionResponse.FromString,
        )(timeout=seconds, metadata=metadata)
        try:
            return await _Conversation(stream).describe(service)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                versions.pop(0)
            elif error.details() == _LOST and lost < _MOST_LOST:
                lost += 1
            else:
                raise
        finally:
            stream.cancel()
    raise CallFailedError(
        "configuration", f"the server of {service} does not describe itself by reflection; say where its `proto` is"
    )


class _Conversation:
    """One stream of questions."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._bytes = 0

    async def describe(self, service: str) -> Description:
        known = [each.name for each in (await self._ask(list_services="")).list_services_response.service]
        short = [name for name in known if name.rpartition(".")[2] == service]
        full = short[0] if service not in known and len(short) == 1 else service
        self._take(await self._ask(file_containing_symbol=full))
        if not self._files:
            # Says which services there are.
            return Description(pool=described(()).pool, services=tuple(sorted(known)))
        while missing := self._missing():
            before = len(self._files)
            for name in missing:
                self._take(await self._ask(file_by_filename=name))
            if len(self._files) == before:
                listed = ", ".join(sorted(missing))
                raise CallFailedError("communication", f"the server's reflection lacks: {listed}", status=502)
        return described(self._files.values())

    def _missing(self) -> set[str]:
        return {name for file in self._files.values() for name in file.dependency} - self._files.keys()

    async def _ask(self, **question: str) -> Message:
        await self._stream.write(_pb2.ServerReflectionRequest(**question))
        answer = await self._stream.read()
        if answer is _aio.EOF:
            # The status of the stream says why, as an AioRpcError.
            code, details = await self._stream.code(), await self._stream.details()
            raise grpc.aio.AioRpcError(
                code if code is not grpc.StatusCode.OK else grpc.StatusCode.UNIMPLEMENTED,
                await self._stream.initial_metadata(),
                await self._stream.trailing_metadata(),
                details,
            )
        return answer

    def _take(self, answer: Message) -> None:
        if answer.WhichOneof("message_response") == _ERROR:
            if answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]:
                return
            said = answer.error_response.error_message
            raise CallFailedError("communication", f"the server's reflection fails: {said}", status=502)
        for file in _read(getattr(answer, _FILES).file_descriptor_proto):
            self._bytes += file.ByteSize()
            self._files[file.name] = file
        if len(self._files) > _MOST_FILES or self._bytes > _MOST_BYTES:
            limits = f"{_MOST_FILES} files or {_MOST_BYTES} bytes"
            raise CallFailedError("communication", f"the server's reflection says more than {limits}", status=502)


def _read(files: Iterable[bytes]) -> list[descriptor_pb2.FileDescriptorProto]:
    try:
        return [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]
    except DecodeError as error:
        raise CallFailedError("communication", f"the server's reflection is broken: {error}", status=502) from None
