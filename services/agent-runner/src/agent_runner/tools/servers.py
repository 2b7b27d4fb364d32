"""MCP servers as agents declare them, and what their `${NAME}` placeholders stand for; knows no protocol."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent_runner.errors import ResourceError

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STEERING = re.compile(
    r"(LD|DYLD)_\w+|PATH|IFS|ENV|BASH_ENV|PYTHON(PATH|HOME|STARTUP|INSPECT)|NODE_(OPTIONS|PATH)"
    r"|PERL5?(OPT|LIB|DB)|RUBY(OPT|LIB)|(JDK_)?JAVA_(TOOL_)?OPTIONS|_JAVA_OPTIONS"
)
"""Variables that make a program run other code than its command says."""
WEB_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A program that is spoken to over its standard input and output.

    Attributes:
        command: The program.
        args: Its arguments.
        env: Its variables.
        folder: Where it begins, in the workspace; empty is the workspace itself.
    """

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """A server behind HTTP.

    Attributes:
        url: Its address.
        headers: Headers of every request.
        query: Query parameters of every request.
        seconds: How long a request may take.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = WEB_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder of this machine in a container."""

    own: str
    inside: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a container on this machine's loopback interface."""

    own: int
    inside: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A program in a container, spoken to as a `Process` is.

    Attributes:
        image: The image.
        args: Arguments of its entry point.
        env: Its variables.
        volumes: Folders of this machine that it sees.
        network: The container network that it joins; empty is the engine's usual one.
        ports: Its ports on this machine.
        name: Its name; empty is a new one each time.
    """

    image: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    volumes: tuple[Volume, ...] = ()
    network: str = ""
    ports: tuple[Port, ...] = ()
    name: str = ""


Transport = Process | Web | Container


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """An MCP server of an agent.

    Attributes:
        name: What the agent calls it.
        transport: How to reach it; None: as the McpServer resource of that name says.
        enabled: Names of the tools to use; empty is all.
        defaults: Values of variables that nothing else gives.
    """

    name: str
    transport: Transport | None = None
    enabled: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])

    def described(self) -> str:
        """What it is, for people: the exact command, or the address, with placeholders as they are written."""
        match self.transport:
            case Process(command=command, args=args):
                return f"runs `{shlex.join((command, *args))}`"
            case Container(image=image, args=args):
                return f"runs the container `{shlex.join((image, *args))}`"
            case Web(url=url):
                return f"is at {url.partition('?')[0]}"
            case None:
                return "is a resource"


def filled(server: McpServer, values: Mapping[str, str]) -> McpServer:
    """The server with every placeholder replaced by its value; nothing else may see what comes out.

    Raises:
        ResourceError: A placeholder has no value, or a variable would make the program another one.
    """
    filling = _Filling(server.name, {**server.defaults, **values})
    match server.transport:
        case Process() as process:
            _check_environment(server.name, process.env)
            transport: Transport | None = replace(
                process, args=filling.listed("args", process.args), env=filling.mapped("env_placeholders", process.env)
            )
        case Container() as container:
            transport = replace(
                container,
                args=filling.listed("args", container.args),
                env=filling.mapped("env_placeholders", container.env),
            )
        case Web() as web:
            transport = replace(
                web,
                url=filling.text("url", web.url),
                headers=filling.mapped("headers", web.headers),
                query=filling.mapped("query_params", web.query),
            )
        case None:
            transport = None
    return replace(server, transport=transport)


@dataclass(frozen=True, slots=True)
class _Filling:
    server: str
    values: Mapping[str, str]

    def text(self, place: str, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name not in self.values:
                raise ResourceError(
                    f"MCP server {self.server!r} needs {name} (${{{name}}} in {place}), and the execution's "
                    "environment has none: give it in an Environment of the instance, or as runtime_env"
                )
            return self.values[name]

        return _PLACEHOLDER.sub(value, text)

    def listed(self, place: str, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.text(f"{place}[{index}]", text) for index, text in enumerate(texts))

    def mapped(self, place: str, texts: Mapping[str, str]) -> dict[str, str]:
        return {name: self.text(f"{place}[{name}]", text) for name, text in texts.items()}


def _check_environment(server: str, env: Mapping[str, str]) -> None:
    steering = sorted(name for name in env if _STEERING.fullmatch(name))
    if steering:
        raise ResourceError(
            f"MCP server {server!r} may not set {', '.join(steering)}: its command must say what runs; "
            "use args or a wrapper script instead"
        )
