"""Brings files that people have put into a session to its workspace, and what the agent has made there to the server.

Both sides are compared with what was known last. Whatever is done can be done again without harm, so a worker may be
killed anywhere: what it has done is found to be so, and only what it has not is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from stigmer_grpc.errors import FailedPreconditionError, NotFoundError
from stigmer_runner.files import KeptFile, KeptFiles, RefusedFileError, hash_of
from stigmer_runner.redaction import Redactor
from stigmer_sandbox import CommandError

from agent_runner.errors import ExecutionEndedError, ResourceError, WorkspaceFileError
from agent_runner.files import known
from agent_runner.files.known import Knowledge, Known
from agent_runner.files.limits import FileLimits
from agent_runner.workspace.port import MOST_ENTRIES, Entry, Workspace

_IGNORED = frozenset(
    {
        known.FOLDER,
        *(".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".nox"),
        *(".cache", ".npm", ".local", ".config", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"),
    }
)
"""Folders of which nothing is told: others make what is in them again."""
_MOST_COMPARED = 128 * 2**20
"""Bytes of a file that are read to know whether it is what it was; a larger one counts as changed."""
_SHOWN = 20
_LISTED = 100


@dataclass(slots=True, kw_only=True)
class _Takings:
    """What is being taken out of a workspace."""

    limits: FileLimits
    made: list[KeptFile] = field(default_factory=list[KeptFile])
    left: dict[str, str] = field(default_factory=dict[str, str])
    """Path → why it was left where it is."""

    def full(self, size: int) -> str:
        """Why a file of so many bytes has to wait for the next turn; "": it has not."""
        if len(self.made) >= self.limits.turn_files:
            return f"no more than {self.limits.turn_files} files are taken in one turn"
        if sum(each.size for each in self.made) + size > self.limits.turn_bytes:
            return f"no more than {self.limits.turn_bytes} bytes are taken in one turn"
        return ""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """The files of one turn.

    Attributes:
        kept: The server's side.
        workspace: Where the agent works; None: nowhere.
        session: Id of the session.
        execution: Id of the execution.
        limits: What is taken out.
        redactor: Knows the execution's secrets.
        is_offered: Whether the server keeps files; known when files have been brought.
    """

    kept: KeptFiles
    workspace: Workspace | None
    session: str
    execution: str
    limits: FileLimits
    redactor: Redactor
    is_offered: bool = False

    async def bring(self) -> tuple[tuple[KeptFile, ...], Mapping[str, str]]:
        """Bring to the workspace what was put into the session since; gives people's files, and which could not be.

        What the agent has made and nobody has put anew stays as it is here.

        Raises:
            ResourceError: There are files, and no workspace.
            RpcError: The server is away.
        """
        files = await self.kept.of(self.session)
        self.is_offered = files is not None
        by_people = tuple(file for file in files or () if file.by_person)
        if self.workspace is None:
            if by_people:
                raise ResourceError(
                    "files were put into the session, and this runner has no workspace to bring them to: its agents "
                    "work without a sandbox (STIGMER_AGENT_SANDBOX); delete the files, or use another runner"
                )
            return (), {}
        if files is None or (not files and not self.workspace.id):
            return (), {}
        entries, _ = await self._entries(self.workspace)
        before = await self._known(self.workspace)
        if not files and not before.files:
            return (), {}
        after, failed = dict(before.files), dict[str, str]()
        for file in files:
            try:
                await self._bring(self.workspace, file, entries.get(file.path), before, after)
            except (WorkspaceFileError, CommandError) as error:
                failed[file.path] = str(error)
        await self._forget(self.workspace, {file.path for file in files}, entries, before, after)
        await self._note(self.workspace, before, replace(before, files=after))
        return by_people, failed

    async def take(self) -> tuple[tuple[KeptFile, ...], Mapping[str, str]]:
        """Take to the server what the agent has made or changed; gives all that the execution has by now, and what was
        left where it is, and why.

        Raises:
            ExecutionEndedError: The execution is gone or over.
            RpcError: The server is away.
        """
        workspace = self.workspace
        if workspace is None or not workspace.id or not self.is_offered:
            return (), {}
        looked_at = time.time()
        entries, is_all = await self._entries(workspace)
        before = await self._known(workspace)
        after, takings = dict(before.files), _Takings(limits=self.limits)
        for path, entry in entries.items():
            seen = before.files.get(path)
            if seen is None or not seen.is_still(entry, before.looked_at):
                after[path] = await self._take(workspace, entry, seen, takings)
        if not is_all:
            takings.left["."] = f"it holds more than {MOST_ENTRIES} files and folders, and not all were looked at"
        for path in before.files.keys() - entries.keys() if is_all else ():
            if not _is_ignored(path) and (gone := after.pop(path)).hash:
                await self.kept.delete(self.session, path, gone.hash)
        await self._note(workspace, before, Knowledge(files=after, looked_at=looked_at))
        # Not what was taken now alone: an attempt that was killed may have told nobody of what it has taken.
        made = await self.kept.of(self.execution) if after else ()
        return made or (), takings.left

    async def _bring(
        self, workspace: Workspace, file: KeptFile, entry: Entry | None, before: Knowledge, after: dict[str, Known]
    ) -> None:
        seen = before.files.get(file.path)
        if seen is not None and seen.hash == file.hash:
            return
        here = await self._hash(workspace, entry, {file.size, *([seen.size] if seen is not None else [])})
        if here != file.hash and (file.by_person or here == (seen.hash if seen is not None else "")):
            content = await self.kept.content(self.session, file)
            if content is None:
                return
            await workspace.write(file.path, content)
            if file.executable:
                await workspace.run("chmod", "+x", "--", file.path)
        after[file.path] = Known(hash=file.hash, size=file.size, executable=file.executable)

    async def _forget(
        self,
        workspace: Workspace,
        files: set[str],
        entries: Mapping[str, Entry],
        before: Knowledge,
        after: dict[str, Known],
    ) -> None:
        """Remove what the session has no more, as far as it is here what it was there."""
        for path in before.files.keys() - files:
            seen, entry = before.files[path], entries.get(path)
            if not seen.hash:
                continue
            after.pop(path, None)
            if await self._hash(workspace, entry, {seen.size}) == seen.hash:
                await workspace.run("rm", "-f", "--", path)

    async def _take(self, workspace: Workspace, entry: Entry, seen: Known | None, takings: _Takings) -> Known:
        """Take one file, if it is another one than before; gives what is known of it now."""
        now = Known(
            hash=seen.hash if seen is not None else "",
            size=entry.size,
            modified=entry.modified,
            executable=seen.executable if seen is not None else False,
        )
        later = replace(seen or now, modified=0.0)
        try:
            if entry.size > self.limits.file_bytes:
                raise RefusedFileError(f"it has more than {self.limits.file_bytes} bytes")
            # What is another one for sure need not be read to be left.
            is_other = seen is None or not seen.hash or seen.size != entry.size
            if is_other and (reason := takings.full(entry.size)):
                takings.left[entry.path] = reason
                return later
            content = await workspace.read(entry.path, most=self.limits.file_bytes)
            file = KeptFile(
                path=entry.path,
                size=len(content),
                hash=await hash_of(content),
                executable=now.executable,
            )
            if file.hash == now.hash:
                return now
            if reason := takings.full(file.size):
                takings.left[entry.path] = reason
                return later
            if await asyncio.to_thread(self.redactor.is_in, content):
                raise RefusedFileError("it holds a secret of the execution")
            await self._put(file, content, replaces=now.hash)
        except RefusedFileError as error:
            takings.left[entry.path] = str(error)
            return now
        except WorkspaceFileError as error:
            # Gone or grown meanwhile: it will be looked at again.
            takings.left[entry.path] = str(error)
            return later
        takings.made.append(file)
        return replace(now, hash=file.hash)

    async def _put(self, file: KeptFile, content: bytes, *, replaces: str) -> None:
        try:
            await self.kept.put(self.session, file, content, execution=self.execution, replaces=replaces)
        except (NotFoundError, FailedPreconditionError) as error:
            raise ExecutionEndedError(f"execution {self.execution} takes no more files: {error}") from None

    async def _hash(self, workspace: Workspace, entry: Entry | None, sizes: Collection[int]) -> str:
        """The hash of a file here; "" when there is none, or when by its size it can be none that matters."""
        if entry is None or entry.size not in sizes or entry.size > _MOST_COMPARED:
            return ""
        try:
            return await hash_of(await workspace.read(entry.path, most=entry.size))
        except WorkspaceFileError:
            return ""

    async def _entries(self, workspace: Workspace) -> tuple[dict[str, Entry], bool]:
        """The files that may be told of, by path, and whether these are all."""
        found = await workspace.entries(without=_IGNORED)
        return {entry.path: entry for entry in found if not entry.is_folder}, len(found) < MOST_ENTRIES

    async def _known(self, workspace: Workspace) -> Knowledge:
        try:
            return known.decoded(await workspace.read(known.PATH, most=known.MOST_BYTES))
        except WorkspaceFileError:
            return Knowledge(files={})

    async def _note(self, workspace: Workspace, before: Knowledge, after: Knowledge) -> None:
        """Write down what is known; without, as in a full workspace, everything is compared anew next time."""
        if after.files == before.files and all(seen.modified < before.looked_at for seen in after.files.values()):
            return
        try:
            await workspace.write(known.PATH, known.encoded(after))
        except WorkspaceFileError:
            return


def prompt(files: Iterable[KeptFile]) -> str:
    """What the model is told of files that people have put into the workspace; empty when there are none."""
    listed = [f"- {file.path} ({file.size} bytes)" for file in files]
    if not listed:
        return ""
    more = [f"- and {len(listed) - _LISTED} more"] if len(listed) > _LISTED else []
    return "\n".join(("## Files", "People have put these files into your workspace:", *listed[:_LISTED], *more))


def told(what: str, left: Mapping[str, str]) -> str:
    """What people are told of files for which something was not done."""
    lines = [f"- {path!r}: {reason}" for path, reason in sorted(left.items())[:_SHOWN]]
    more = [f"- and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else []
    return "\n".join((what, *lines, *more))


def _is_ignored(path: str) -> bool:
    return not _IGNORED.isdisjoint(path.split("/")[:-1])
