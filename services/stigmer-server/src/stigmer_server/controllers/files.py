"""FileCommandController and FileQueryController: files of agents' workspaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors

from stigmer_server.calls import call_of
from stigmer_server.commands.put_file import delete_file, put_file
from stigmer_server.files import File
from stigmer_server.messages import Message
from stigmer_server.queries.get_file import get_file, list_files
from stigmer_server.resources import Resources

_PACKAGE = "ai.stigmer.files.v1"


def file_services(resources: Resources) -> Iterator[Service]:
    """Yield the services, bound."""
    empty = descriptors.message_type("google.protobuf.Empty")
    page = descriptors.message_type(f"{_PACKAGE}.FileList")
    part = descriptors.message_type(f"{_PACKAGE}.FilePart")

    def of(context: CallContext) -> Resources:
        return resources.on_behalf_of(call_of(context))

    async def put(requests: AsyncIterator[Message], context: CallContext) -> Message:
        return _message(await put_file(of(context), requests))

    async def delete(request: Message, context: CallContext) -> Message:
        await delete_file(of(context), request.session_id, request.path, hash=request.sha256)
        return empty()

    async def list_(request: Message, context: CallContext) -> Message:
        found, token = await list_files(
            of(context), request.resource_id, page_size=request.page_size, page_token=request.page_token
        )
        return page(entries=[_message(file) for file in found], next_page_token=token)

    async def get(request: Message, context: CallContext) -> AsyncIterator[Message]:
        async for chunk in get_file(of(context), request.resource_id, request.path):
            yield part(chunk=chunk)

    commands: dict[str, Handler] = {"put": put, "delete": delete}
    queries: dict[str, Handler] = {"list": list_, "get": get}
    yield bind(descriptors.pool(), f"{_PACKAGE}.FileCommandController", commands)
    yield bind(descriptors.pool(), f"{_PACKAGE}.FileQueryController", queries)


def _message(file: File) -> Message:
    message: Message = descriptors.message_type(f"{_PACKAGE}.WorkspaceFile")(
        path=file.path,
        bytes=file.bytes,
        sha256=file.hash,
        executable=file.executable,
        execution_id=file.execution,
    )
    message.put_at.FromMilliseconds(int(file.at * 1000))
    return message
