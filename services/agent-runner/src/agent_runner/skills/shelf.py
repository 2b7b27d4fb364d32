"""The skills that this runner has unpacked, by their hash: one that was fetched once is never fetched again."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import stat
import tempfile
import zipfile
from collections.abc import AsyncIterator
from io import BufferedRandom
from pathlib import Path, PurePosixPath
from typing import Any

from stigmer_grpc.errors import InvalidArgumentError, NotFoundError, UnimplementedError
from stigmer_runner.server import StigmerServer

from agent_runner.errors import ResourceError
from agent_runner.skills.skill import FILE, Skill, read_skill
from agent_runner.turn.definition import SkillReference

_SERVICE = "ai.stigmer.agentic.skill.v1"
_MOST_FILES = 10_000
_MOST_BYTES = 500 * 2**20
_KIND = 43
"""Number of the kind of skills in references."""


class Shelf:
    """Unpacked skills in a folder that runners of one machine may share.

    Args:
        root: The folder; made when missing, for this process's user alone.
        server: Where skills come from.
    """

    def __init__(self, root: Path, server: StigmerServer) -> None:
        self._root = root
        self._server = server

    async def get(self, reference: SkillReference) -> Skill:
        """The skill that a reference names, unpacked; nothing of it can be changed by who reads it.

        Raises:
            ResourceError: There is no such skill or version, or its archive is not what its hash says.
            RpcError: The server is away.
        """
        skill = await self._resource(reference)
        folder = self._root / skill.status.version_hash
        if not await asyncio.to_thread((folder / FILE).is_file):
            await self._fetch(skill, folder)
        return read_skill(skill.metadata.slug, skill.spec.skill_md, folder)

    async def _resource(self, reference: SkillReference) -> Any:
        named = {"scope": reference.scope, "org": reference.org, "kind": _KIND, "slug": reference.slug}
        request = {**named, "version": reference.version}
        try:
            skill = await self._server.call(f"{_SERVICE}.SkillQueryController", "getByReference", request)
        except (NotFoundError, InvalidArgumentError) as error:
            version = f" in version {reference.version}" if reference.version else ""
            raise ResourceError(f"skill {reference.slug}{version} cannot be had: {error}") from None
        if not skill.status.version_hash:
            raise ResourceError(f"skill {reference.slug} has no content yet")
        return skill

    async def _fetch(self, skill: Any, folder: Path) -> None:
        await asyncio.to_thread(self._root.mkdir, parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=self._root) as file:
            async for chunk in self._archive(skill.status.artifact_storage_key):
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_unpack, file, skill.status.version_hash, folder)

    async def _archive(self, key: str) -> AsyncIterator[bytes]:
        """An archive in parts; in one of 10 MiB at most from a server that knows no parts."""
        request = {"artifact_storage_key": key}
        try:
            async for part in self._server.stream(f"{_SERVICE}.SkillTransferController", "getArtifactParts", request):
                yield part.chunk
        except UnimplementedError:
            yield (await self._server.call(f"{_SERVICE}.SkillQueryController", "getArtifact", request)).artifact


def _unpack(file: BufferedRandom, hash_: str, folder: Path) -> None:
    """Unpack an archive beside its place and move it there whole; who comes second finds it done.

    Raises:
        ResourceError: It is not the archive that the hash names, or holds what a skill may not.
    """
    file.seek(0)
    if hashlib.file_digest(file, "sha256").hexdigest() != hash_:
        raise ResourceError(f"the archive of a skill is not what its hash {hash_} says")
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(file) as archive:
            _extract(archive, made)
        made.rename(folder)
    except zipfile.BadZipFile as error:
        raise ResourceError(f"the archive of a skill cannot be read: {error}") from None
    except OSError:
        if not (folder / FILE).is_file():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    members = archive.infolist()
    if len(members) > _MOST_FILES or sum(member.file_size for member in members) > _MOST_BYTES:
        raise ResourceError("the archive of a skill holds too much")
    # Who reads it need not be who unpacked it: in containers, commands are never root's.
    folder.chmod(0o755)
    for member in members:
        path = PurePosixPath(member.filename)
        mode = member.external_attr >> 16
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(mode):
            raise ResourceError(f"the archive of a skill holds {member.filename!r}, which leads out of it")
        target = Path(archive.extract(member, folder))
        target.chmod(0o755 if target.is_dir() else 0o555 if mode & 0o111 else 0o444)
