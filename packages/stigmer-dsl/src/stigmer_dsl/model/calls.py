"""Arguments of call tasks: the functions of the specification."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, Tag, model_validator

from stigmer_dsl.model.authentication import Authentication
from stigmer_dsl.model.element import Choice, Element, ExpressionText, Flag, Mapped, Text, Whole, by_shape
from stigmer_dsl.model.values import DurationLike, Endpoint, ExternalResource, OutputFormat

if TYPE_CHECKING:
    from stigmer_dsl.model.tasks import SubscriptionIterator

Values: TypeAlias = Annotated[
    Annotated[Mapped, Tag("<object>")] | Annotated[ExpressionText, Tag("<text>")],
    by_shape("an object, or an expression that gives one"),
]
Parameters: TypeAlias = Annotated[
    Annotated[Mapped, Tag("<object>")] | Annotated[Text, Tag("<text>")],
    by_shape("an object, or an expression that gives one"),
]
Listed: TypeAlias = Annotated[
    Annotated[tuple[Any, ...], Tag("<list>")] | Annotated[ExpressionText, Tag("<text>")],
    by_shape("a list, or an expression that gives one"),
]
Headers: TypeAlias = Annotated[
    Annotated[dict[str, Text], Tag("<object>")] | Annotated[ExpressionText, Tag("<text>")],
    by_shape("an object of texts, or an expression that gives one"),
]


class HttpArguments(Element):
    """An HTTP request."""

    method: Text
    """Any case; an expression is allowed."""
    endpoint: Endpoint
    headers: Headers | None = None
    body: Any = None
    query: Values | None = None
    output: OutputFormat = "content"
    redirect: Flag = False
    """Whether a status from 300 to 399 is a success; otherwise it is an error."""


class GrpcService(Element):
    """Where a gRPC service is."""

    name: Text
    """The full name: package and service."""
    host: Annotated[Text, Field(min_length=1)]
    port: Annotated[Whole, Field(ge=0, le=65535)] | None = None
    authentication: Authentication | None = None


class GrpcArguments(Element):
    """A gRPC request."""

    proto: ExternalResource | None = None
    """Needed in a document. A stored task has none: the server's reflection describes the service."""
    service: GrpcService
    method: Text
    arguments: Values | None = None


class OpenApiArguments(Element):
    """An operation of an OpenAPI document."""

    document: ExternalResource
    operation_id: Text
    parameters: Values | None = None
    authentication: Authentication | None = None
    output: OutputFormat = "content"
    redirect: Flag = False


class AsyncApiServer(Element):
    """The server of an AsyncAPI document to use."""

    name: Text
    variables: Mapped | None = None


class AsyncApiMessage(Element):
    """A message to publish."""

    payload: Any = None
    headers: Mapped | None = None


class AsyncApiConsumption(Choice):
    """When a subscription ends: after an amount, or by a condition; in any case after `for`."""

    one_of = (("amount", "while_", "until"),)

    amount: Whole | None = None
    for_: DurationLike | None = None
    while_: Text | None = None
    until: Text | None = None


class AsyncApiSubscription(Element):
    """Messages to consume."""

    filter: Text | None = None
    consume: AsyncApiConsumption
    foreach: "SubscriptionIterator | None" = None


class AsyncApiArguments(Choice):
    """An operation of an AsyncAPI document: publish `message`, or consume by `subscription`."""

    one_of = (("operation", "channel"), ("message", "subscription"))

    document: ExternalResource
    channel: Text | None = None
    """The channel, in a version 2 document."""
    operation: Text | None = None
    """The operation, in a version 3 document."""
    server: AsyncApiServer | None = None
    protocol: (
        Literal[
            "amqp",
            "amqp1",
            "anypointmq",
            "googlepubsub",
            "http",
            "ibmmq",
            "jms",
            "kafka",
            "mercure",
            "mqtt",
            "mqtt5",
            "nats",
            "pulsar",
            "redis",
            "sns",
            "solace",
            "sqs",
            "stomp",
            "ws",
        ]
        | None
    ) = None
    message: AsyncApiMessage | None = None
    subscription: AsyncApiSubscription | None = None
    authentication: Authentication | None = None


class A2aArguments(Element):
    """A request to an agent that speaks Agent2Agent."""

    method: Literal[
        "message/send",
        "message/stream",
        "tasks/get",
        "tasks/list",
        "tasks/cancel",
        "tasks/resubscribe",
        "tasks/pushNotificationConfig/set",
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "tasks/pushNotificationConfig/delete",
        "agent/getAuthenticatedExtendedCard",
    ]
    agent_card: ExternalResource | None = None
    server: Endpoint | None = None
    parameters: Parameters | None = None

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if self.agent_card is None and self.server is None:
            return self.require_one_of("agent_card", "server")
        return self


class McpHttpTransport(Element):
    """An MCP server behind HTTP."""

    endpoint: Endpoint
    headers: Headers | None = None


class McpStdioTransport(Element):
    """An MCP server that is a process."""

    command: Text
    arguments: tuple[Text, ...] | None = None
    environment: dict[str, Text] | None = None


class McpTransport(Choice):
    """How to reach an MCP server."""

    one_of = (("http", "stdio"),)

    http: McpHttpTransport | None = None
    stdio: McpStdioTransport | None = None
    options: dict[str, Text] | None = None


class McpClient(Element):
    """Who calls an MCP server."""

    name: Text
    version: Text


class McpArguments(Element):
    """A request to an MCP server."""

    protocol_version: Text = "2025-06-18"
    method: Literal[
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
    ]
    parameters: Parameters | None = None
    timeout: DurationLike | None = None
    transport: McpTransport
    client: McpClient | None = None
