"""What the workflow and the activities of its calls tell each other, beside `messages.Call`; the same holds of them."""

from typing import Any, Literal, NotRequired, TypedDict


class EndpointArguments(TypedDict):
    """Where something is: an endpoint, or an external resource."""

    uri: str
    template: dict[str, Any] | None
    """Values for the URI template that `uri` is; None when it is no template."""
    authentication: dict[str, Any] | None
    """`basic`, `bearer`, `digest`, `oauth2` or `oidc`, with its properties or with the `secret` that holds them."""


class HttpArguments(EndpointArguments):
    """The arguments of an HTTP call."""

    method: str
    headers: dict[str, Any]
    query: list[tuple[str, Any]]
    """In the order written: an object does not keep its order on the way through history."""
    body: NotRequired[Any]
    output: Literal["raw", "content", "response"]
    redirect: bool


class GrpcArguments(TypedDict):
    """The arguments of a gRPC call."""

    proto: EndpointArguments | None
    """What describes the service; None: the server itself."""
    service: str
    method: str
    host: str
    port: int | None
    tls: bool | None
    """Whether the server speaks TLS; None: port 443 does."""
    authentication: dict[str, Any] | None
    """A policy, as an endpoint has."""
    arguments: Any
    """The message to send, or what gives the messages of a stream; None for none."""


class OpenApiArguments(TypedDict):
    """The arguments of a call of an operation. To find the operation, the first two are enough."""

    document: EndpointArguments
    operation_id: str
    method: str
    """The operation's method as it was found: one that is not safe must not become a call that is repeated."""
    parameters: dict[str, Any]
    authentication: dict[str, Any] | None
    output: Literal["raw", "content", "response"]
    redirect: bool


class AsyncApiTarget(TypedDict):
    """What an AsyncAPI call is about."""

    document: EndpointArguments
    channel: str | None
    operation: str | None
    server: str | None
    variables: dict[str, Any]
    """Values for what is open in the addresses of server and channel."""
    protocol: str | None
    authentication: dict[str, Any] | None
    """A policy, as an endpoint has."""


class ModelArguments(TypedDict):
    """What a model is asked."""

    model: str
    """`provider:model`; empty: the execution's, else the runner's own."""
    system: str
    messages: list[dict[str, str]]
    """The conversation: `role` (user, assistant) and `content` of each."""
    temperature: float | None
    max_tokens: int | None
    schema: dict[str, Any] | None
    """JSON Schema of the answer; None: a text."""


class ModelRequest(TypedDict):
    """The argument of the activity that asks a model."""

    execution_id: str
    run: str
    """Id of the Temporal workflow, of a recovered run: its environment is its own."""
    nonce: str
    arguments: ModelArguments
    seconds: float


class ModelAnswer(TypedDict):
    """What a model answered."""

    content: Any
    """A text, or what its schema says."""
    model: str
    usage: dict[str, Any]
    """What it has used up, in tokens and US dollars."""


class PublishArguments(AsyncApiTarget):
    """The arguments of publishing a message."""

    payload: Any
    headers: dict[str, Any]


class ConsumeArguments(AsyncApiTarget):
    """The arguments of asking for the next messages of a subscription."""

    subscription: str
    """The same for the whole task."""
    position: Any
    """Of the last message that was consumed; None at first, and where the protocol has none."""
    most: int
    """So many messages at most, and none that is left over where the broker keeps them."""
    seconds: float
    """How long to wait for the first."""


class ConsumedBatch(TypedDict):
    """The next messages of a subscription."""

    messages: list[dict[str, Any]]
    """Each with `payload`, `headers` and perhaps `correlationId`."""
    positions: list[Any]
    """Of each, where a subscription goes on after it."""
    settles: bool
    """Whether the broker waits to be told that they are done."""


class SettleArguments(TypedDict):
    """The arguments of telling a broker what became of the last batch."""

    subscription: str
    done: int | None
    """So many of it, from the first, are done; the others go back. None: nothing is to be told."""
    over: bool
    """Whether the subscription ends here."""


ProcessArguments = TypedDict(
    "ProcessArguments",
    {
        "language": Literal["shell", "python", "js"],
        "code": str | None,
        "source": str | None,
        "stdin": str,
        "arguments": list[str],
        "environment": dict[str, str],
        "network": bool,
        "return": Literal["stdout", "stderr", "code", "all", "none"],
        "resource": NotRequired[EndpointArguments],
        "await": NotRequired[bool],
    },
)
"""The arguments of a process: its code, or the `resource` that holds it. Older runs have its URL as `source`.

It is waited for unless `await` is false."""

ContainerArguments = TypedDict(
    "ContainerArguments",
    {
        "image": str,
        "name": str | None,
        "command": str | None,
        "stdin": str,
        "arguments": list[str],
        "environment": dict[str, str],
        "ports": dict[str, str],
        "volumes": dict[str, str],
        "network": bool,
        "pull_policy": Literal["ifNotPresent", "always", "never"],
        "cleanup": Literal["always", "never", "eventually"],
        "after": float | None,
        "return": Literal["stdout", "stderr", "code", "all", "none"],
        "await": bool,
    },
)
"""The arguments of a container; `after` is in seconds."""


class A2aArguments(TypedDict):
    """The arguments of a call of an agent that speaks Agent2Agent."""

    method: str
    parameters: dict[str, Any]
    endpoint: EndpointArguments
    """Of its card, or of itself."""
    is_card: bool


class McpServer(EndpointArguments):
    """An MCP server behind HTTP."""

    headers: dict[str, str]


class McpProcess(TypedDict):
    """An MCP server that is a process."""

    command: str
    arguments: list[str]
    environment: dict[str, str]
    network: bool


class McpArguments(TypedDict):
    """The arguments of an MCP call. One of `http` and `stdio` is there."""

    method: str
    parameters: dict[str, Any]
    protocol_version: str
    client: dict[str, str]
    http: McpServer | None
    stdio: McpProcess | None


class Subflow(TypedDict):
    """Which workflow to run, and its input."""

    namespace: str
    name: str
    version: str
    input: Any


class StartRequest(Subflow):
    """An execution to create: the same `key` never makes a second one."""

    org: str
    key: str
    token: str
    """By which the activity that waits is ended, in base64; empty when nobody waits."""
    depth: NotRequired[int]
    """How many workflows stand above it; none is told of unless said."""


class AgentFile(TypedDict):
    """A file for an agent's workspace."""

    path: str
    content: Any
    encoding: NotRequired[Literal["text", "json", "base64"]]
    """What `content` is; a text is one and anything else JSON unless said."""


class AgentArguments(TypedDict):
    """What an agent is to do, and how it is run."""

    agent: str
    scope: str
    message: str
    env: dict[str, str]
    session: str
    """Id of the session to go on with; empty for one of its own."""
    files: NotRequired[list[AgentFile]]
    """What is put into the session before; nothing unless said."""
    collect: NotRequired[list[str]]
    """Paths and patterns of the files whose content is wanted; none unless said."""
    config: dict[str, Any]
    """The fields of the contract's ExecutionConfig that are set, as JSON."""
    output: str
    """`content` or `execution`."""


class AgentRequest(TypedDict):
    """An execution of an agent to create: the same `key` never makes a second one."""

    execution_id: str
    run: str
    """Id of the Temporal workflow, of a recovered run: its environment is its own."""
    has_secrets: bool
    nonce: str
    org: str
    arguments: AgentArguments
    key: str
    token: NotRequired[str]
    """By which the activity that waits is ended, in base64."""


class CollectRequest(TypedDict):
    """Which files are wanted of those that an agent's execution has made."""

    execution: str
    patterns: list[str]
    most: int
    """What they may take together, in bytes."""


class Started(TypedDict):
    """The execution, or the session, or why there is none."""

    id: NotRequired[str]
    error: NotRequired[dict[str, Any]]


class CallAnswer(TypedDict):
    """How a call ended: `output`, or `error`, or neither when it was too slow or large for a local activity."""

    output: NotRequired[Any]
    error: NotRequired[dict[str, Any]]
    slow: NotRequired[bool]
    bytes: NotRequired[int]
    """What the output takes in history."""
    reported: NotRequired[bool]
    """Whether the report that went with the call was delivered."""


class EmitArguments(TypedDict):
    """The arguments of the publication of an event."""

    org: str
    event: dict[str, Any]
    """In the JSON form of CloudEvents."""


class ReceiveArguments(TypedDict):
    """The arguments of a look for events."""

    listener: str
    """Names who is woken when there are more."""
    patterns: list[dict[str, str]]
    """Types and sources, of which an event has one; empty: any."""
    after: int
    """The place in the order of all events up to which they are known."""


class Received(TypedDict):
    """What a look for events found."""

    events: list[dict[str, Any]]
    """In order: `event` and `position` of each."""
    position: int
    """The place up to which was looked."""
    waiting: bool
    """Whether there are no more, and the listener is woken once there are."""
