"""A gRPC server for tests: a shop with methods of all four kinds, over real sockets, with or without TLS."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from google.protobuf import message_factory
from grpc_reflection.v1alpha import reflection
from stigmer_grpc.errors import FieldViolation, InvalidArgumentError
from stigmer_grpc.status import to_wire

from workflow_runner.activities.grpc.description import Description, described_by
from workflow_runner.activities.grpc.protos import Sources, compiled

Message = Any

SERVICE = "shop.v1.Shop"
PROTO = """
syntax = "proto3";
package shop.v1;
// import "no/such.proto";
import "shop/v1/types.proto";
import "google/rpc/status.proto";

/* import "nor/this.proto"; */
service Shop {
  rpc Order(Item) returns (Item);
  rpc Look(Item) returns (Item) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Count(stream Item) returns (Item);
  rpc Browse(Item) returns (stream Item);
  rpc Haggle(stream Item) returns (stream Item);
  rpc Fail(google.rpc.Status) returns (Item);
  rpc Sleep(Item) returns (Item);
}
"""
TYPES = """
syntax = "proto3";
package shop.v1;
import 'google/protobuf/timestamp.proto';
import "google/protobuf/any.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";

enum Colour { COLOUR_UNSPECIFIED = 0; COLOUR_RED = 1; }

message Item {
  string item_name = 1;
  int64 count = 2;
  uint64 big = 3;
  Colour colour = 4;
  repeated int64 sizes = 5;
  map<string, int64> stock = 6;
  google.protobuf.Timestamp made_at = 7;
  google.protobuf.Any extra = 8;
  google.protobuf.Struct more = 9;
  google.protobuf.Int64Value perhaps = 10;
  Item part = 11;
  bytes picture = 12;
  double price = 13;
  optional int32 rank = 14;
}
"""


class Shop:
    """The server, and what it was asked."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._server: grpc.aio.Server | None = None
        self.port = 0
        self.metadata: list[dict[str, str]] = []
        """Of each call, in order."""
        self.orders = 0
        self.ordered: list[str] = []
        """The names of the items that were ordered."""
        self.cancelled = asyncio.Event()
        self.accepted_tokens: set[str] | None = None
        """Other tokens are refused; None: everybody is let in."""

    async def start(self, *, credentials: grpc.ServerCredentials | None = None, reflects: bool = True) -> None:
        """Serve on a free port."""
        # A port of its own: another process must not be given the same.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._handlers(),))
        if reflects:
            pool: Any = self._description.pool
            reflection.enable_server_reflection([SERVICE], self._server, pool=pool)
        address = "127.0.0.1:0"
        port = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        self.port = port
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            await self._server.stop(grace=None)

    def _handlers(self) -> grpc.GenericRpcHandler:
        service: Any = self._description.pool.FindServiceByName(SERVICE)
        makers: dict[tuple[bool, bool], Any] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                method.name: makers[method.client_streaming, method.server_streaming](
                    getattr(self, f"_{method.name.lower()}"),
                    request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
                    response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
                )
                for method in service.methods
            },
        )

    async def _enter(self, context: Any) -> None:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        self.metadata.append(metadata)
        if self.accepted_tokens is not None and metadata.get("authorization") not in self.accepted_tokens:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    async def _order(self, item: Message, context: Any) -> Message:
        await self._enter(context)
        self.orders += 1
        self.ordered.append(item.item_name)
        return item

    async def _look(self, item: Message, context: Any) -> Message:
        await self._enter(context)
        return item

    async def _count(self, items: AsyncIterator[Message], context: Any) -> Message:
        await self._enter(context)
        count = 0
        kind: Any = message_factory.GetMessageClass(self._description.pool.FindMessageTypeByName("shop.v1.Item"))
        last = kind()
        async for item in items:
            count += item.count
            last = item
        return kind(item_name=last.item_name, count=count)

    async def _browse(self, item: Message, context: Any) -> AsyncIterator[Message]:
        await self._enter(context)
        for index in range(item.count):
            yield type(item)(item_name=item.item_name, count=index, picture=item.picture)

    async def _haggle(self, items: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        await self._enter(context)
        async for item in items:
            yield type(item)(item_name=item.item_name, count=item.count - 1)

    async def _fail(self, status: Message, context: Any) -> Message:
        await self._enter(context)
        code = next(each for each in grpc.StatusCode if each.value[0] == status.code)
        metadata: Any = ()
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            violation = FieldViolation(field="item_name", rule_id="string.min_len", message="must not be empty")
            metadata = to_wire(InvalidArgumentError(status.message, [violation]))[1]
        await context.abort(code, status.message, metadata)

    async def _sleep(self, item: Message, context: Any) -> Message:
        await self._enter(context)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return item


@contextlib.asynccontextmanager
async def shop_server(
    *, credentials: grpc.ServerCredentials | None = None, reflects: bool = True
) -> AsyncGenerator[Shop]:
    """Serve until the block ends."""
    files = {"shop.proto": PROTO.encode(), "shop/v1/types.proto": TYPES.encode()}
    made = Shop(described_by(await compiled(Sources(root="shop.proto", files=files), 30)))
    await made.start(credentials=credentials, reflects=reflects)
    try:
        yield made
    finally:
        await made.stop()
