"""Archives of skills on their way to and from a server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from stigmer_cli import console
from stigmer_cli.errors import UnavailableError
from stigmer_cli.resources import Message

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

_COMMANDS = "ai.stigmer.agentic.skill.v1.SkillCommandController"
_TRANSFERS = "ai.stigmer.agentic.skill.v1.SkillTransferController"
UNARY_BYTES = 4 * 2**20
"""Larger archives are sent in parts; a server takes 10 MiB in one message."""
_PART_BYTES = 2**20
_ORGANIZATION_SCOPE = "organization"

Moved = Callable[[int], None]
"""Told how many bytes have just moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An archive and what it is to be called."""

    name: str
    org: str
    tag: str
    file: IO[bytes]
    size: int
    sha256: str


async def push(channel: Channel, upload: Upload, moved: Moved) -> Message:
    """Send an archive, in parts when it is large, and return the skill as it is stored then."""
    named = {"name": upload.name, "scope": _ORGANIZATION_SCOPE, "org": upload.org, "tag": upload.tag}
    if upload.size <= UNARY_BYTES:
        from stigmer_protos import descriptors

        request_type: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.PushSkillRequest")
        request = request_type(name=upload.name, scope=2, org=upload.org, tag=upload.tag, artifact=upload.file.read())
        return await channel.service(_COMMANDS).unary("push", request)
    return await channel.service(_TRANSFERS).client_stream("pushParts", _parts(upload, named, moved), timeout=math.inf)


async def _parts(upload: Upload, named: dict[str, str], moved: Moved) -> AsyncIterator[Any]:
    from stigmer_protos import descriptors

    part_type: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.PushSkillPart")
    yield {"header": {**named, "sha256": upload.sha256}}
    while chunk := upload.file.read(_PART_BYTES):
        yield part_type(chunk=chunk)
        moved(len(chunk))


async def pull(channel: Channel, skill: Message, file: IO[bytes], moved: Moved) -> None:
    """Fetch the archive of a skill's version and compare it with its hash.

    Raises:
        UnavailableError: What came is not what was pushed.
    """
    request = {"artifact_storage_key": skill.status.artifact_storage_key}
    found = hashlib.sha256()
    async for part in channel.service(_TRANSFERS).stream("getArtifactParts", request):
        file.write(part.chunk)
        found.update(part.chunk)
        moved(len(part.chunk))
    file.seek(0)
    if found.hexdigest() != skill.status.version_hash:
        msg = f"what came has the hash {found.hexdigest()}, and the skill has {skill.status.version_hash}"
        raise UnavailableError(msg, hint="try again; nothing was written")


@contextmanager
def progress(text: str, size: int) -> Generator[Moved]:
    """Show on a terminal how far a large transfer is; yield what takes note of it."""
    import sys

    if size <= UNARY_BYTES or not console.is_styled(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=size)
        yield lambda count: bar.advance(task, count)
