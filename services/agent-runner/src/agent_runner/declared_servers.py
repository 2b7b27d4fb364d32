"""MCP servers as the contract's messages declare them, in this runner's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent_runner.tools.servers import WEB_SECONDS, Container, McpServer, Port, Process, Transport, Volume, Web

Message = Any


def server_of(definition: Message) -> McpServer:
    """An McpServerDefinition of an agent."""
    return McpServer(
        name=definition.name, transport=_transport(definition), enabled=tuple(dict.fromkeys(definition.enabled_tools))
    )


def completed(server: McpServer, resource: Message) -> McpServer:
    """A server that an agent names only, as the McpServer resource says.

    What the resource declares as variables is what the program gets; a default holds where nothing else gives a value.
    """
    spec = resource.spec
    declared: Any = spec.env_spec.data if spec.HasField("env_spec") else {}
    transport = _transport(spec)
    if isinstance(transport, Process | Container):
        transport = replace(transport, env={name: f"${{{name}}}" for name in declared})
    return replace(
        server,
        transport=transport,
        enabled=server.enabled or tuple(dict.fromkeys(spec.default_enabled_tools)),
        # A secret's default comes sealed, and is of no use.
        defaults={
            name: declared[name].value for name in declared if declared[name].value and not declared[name].is_secret
        },
    )


def _transport(message: Message) -> Transport | None:
    match message.WhichOneof("server_type"):
        case "stdio":
            stdio = message.stdio
            return Process(
                command=stdio.command, args=tuple(stdio.args), env=_placeholders(stdio), folder=stdio.working_dir
            )
        case "http":
            http = message.http
            return Web(
                url=http.url,
                headers=dict(http.headers),
                query=dict(http.query_params),
                seconds=http.timeout_seconds or WEB_SECONDS,
            )
        case "docker":
            docker = message.docker
            return Container(
                image=docker.image,
                args=tuple(docker.args),
                env=_placeholders(docker),
                volumes=tuple(
                    Volume(own=each.host_path, inside=each.container_path, read_only=each.read_only)
                    for each in docker.volumes
                ),
                network=docker.network,
                ports=tuple(
                    Port(own=each.host_port, inside=each.container_port, protocol=each.protocol or "tcp")
                    for each in docker.ports
                ),
                name=docker.container_name,
            )
        case _:
            return None


def _placeholders(message: Message) -> Mapping[str, str]:
    # A resource's servers have none: what they declare in env_spec is what they get.
    return dict(getattr(message, "env_placeholders", {}))
