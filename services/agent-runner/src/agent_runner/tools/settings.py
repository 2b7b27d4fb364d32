"""What bounds tools; light, for the settings to import."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from stigmer_sandbox import Limits

from agent_runner.errors import ResourceError
from agent_runner.tools.servers import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """What bounds one page.

    Attributes:
        seconds: How long it may take, redirects included.
        most_bytes: How large it may be, decompressed.
    """

    seconds: float = 30.0
    most_bytes: int = 5 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """What bounds MCP servers and pages.

    Attributes:
        network: Whether servers that are programs or containers get the network.
        readable: Folders that programs see beside the machine's own.
        limits: What each program may use while its connection lasts.
        container_program: Docker's or Podman's program; None looks for it.
        volumes: Folder below which containers may be given folders; None gives them none.
        most_bytes: How large one message of a server may be.
        seconds: How long a call may take, where the server's definition does not say.
        start_seconds: How long a server has to answer when it is connected to.
        idle_seconds: How long an unused connection is kept.
        web: What bounds pages.
    """

    network: bool = True
    readable: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    container_program: Path | None = None
    volumes: Path | None = None
    most_bytes: int = 128 * 2**20
    seconds: float = 300.0
    start_seconds: float = 60.0
    idle_seconds: float = 900.0
    web: WebLimits = field(default_factory=WebLimits)

    def allowed(self, server: str, container: Container) -> Container:
        """The container as this runner allows it.

        Raises:
            ResourceError: It wants what it may not have.
        """
        if container.network.partition(":")[0] in ("host", "container", "ns"):
            raise ResourceError(f"MCP server {server!r} may not join the network {container.network!r}")
        volumes = tuple(replace(volume, own=self._folder(server, volume.own)) for volume in container.volumes)
        return replace(container, volumes=volumes, network=container.network if self.network else "none")

    def _folder(self, server: str, own: str) -> str:
        if self.volumes is None:
            raise ResourceError(
                f"MCP server {server!r} wants {own}, and this runner gives containers no folders of its machine "
                "(STIGMER_AGENT_CONTAINER_VOLUMES)"
            )
        root = self.volumes.resolve()
        path = (root / own).resolve()
        if not path.is_relative_to(root):
            raise ResourceError(
                f"MCP server {server!r} wants {own}, which is not below {root}, where containers may be given folders"
            )
        return str(path)
