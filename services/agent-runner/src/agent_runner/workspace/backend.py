"""deepagents' file and shell tools, carried out by commands in a sandbox.

Every operation is a command of its own, the reading of a file as well: nothing of this process follows a path that the
agent or one of its programs has made. Paths of the file tools are those of the sandbox; any that leads to none of its
folders is taken as one of the workspace, because models like to write `/notes.txt`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from typing import Any

from deepagents.backends.protocol import (
    DeleteResult,
    EditResult,
    ExecuteResponse,
    FileDownloadResponse,
    FileUploadResponse,
    GlobResult,
    GrepResult,
    LsResult,
    ReadResult,
    WriteResult,
)
from deepagents.backends.sandbox import BaseSandbox
from stigmer_sandbox import CommandError, Ending, Finished, SandboxUnavailableError

from agent_runner.workspace.files import TOO_DEEP
from agent_runner.workspace.port import Workspace

_SYSTEM = ("/tmp", "/usr", "/etc", "/proc", "/dev", "/bin", "/lib")  # noqa: S108 - the sandbox's own
_PUT = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
_DELETE = 'test -e "$1" || test -L "$1" || exit 3; rm -rf -- "$1"'
_MISSING = 3


class SandboxBackend(BaseSandbox):
    """One session's tools.

    Args:
        workspace: Where it works.
        readable: Folders of this machine that it can read beside the workspace.
    """

    def __init__(self, workspace: Workspace, readable: tuple[Path, ...] = ()) -> None:
        self._workspace = workspace
        self._roots = (workspace.root, *_SYSTEM, *map(workspace.seen, readable))

    @property
    def id(self) -> str:
        """What the workspace is called."""
        return self._workspace.id

    @property
    def workspace(self) -> Workspace:
        """Where the tools work."""
        return self._workspace

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a shell command, for callers without an event loop."""
        return asyncio.run(self.aexecute(command, timeout=timeout))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:  # noqa: ASYNC109 - deepagents' name
        """Run a shell command in the workspace; the output says why when it cannot be."""
        try:
            outcome = await self._workspace.run("/bin/sh", "-c", command, seconds=timeout or None)
        except (CommandError, SandboxUnavailableError) as error:
            return ExecuteResponse(output=f"the command cannot be run: {error}", exit_code=126)
        finished = outcome.finished
        output = (finished.stdout + finished.stderr).decode("utf-8", "replace")
        if finished.ending is not Ending.EXITED:
            output += f"\n(ended: the command used too much {finished.ending.value})"
        elif outcome.is_full:
            most = self._workspace.most_bytes
            output += f"\n(the workspace holds more than {most} bytes, or has {TOO_DEEP}: delete files)"
        return ExecuteResponse(output=output, exit_code=finished.code, truncated=finished.truncated)

    async def als(self, path: str) -> LsResult:
        """See `BaseSandbox`."""
        return await super().als(self._inside(path))

    async def aread(self, file_path: str, offset: int = 0, limit: int = 2000, **more: Any) -> ReadResult:
        """See `BaseSandbox`."""
        return await super().aread(self._inside(file_path), offset, limit, **more)

    async def awrite(self, file_path: str, content: str, **more: Any) -> WriteResult:
        """See `BaseSandbox`."""
        return await super().awrite(self._inside(file_path), content, **more)

    async def aedit(
        self,
        file_path: str,
        old_string: str,
        new_string: str,
        replace_all: bool = False,
    ) -> EditResult:
        """See `BaseSandbox`."""
        return await super().aedit(self._inside(file_path), old_string, new_string, replace_all)

    async def agrep(self, pattern: str, path: str | None = None, *rest: Any, **more: Any) -> GrepResult:
        """See `BaseSandbox`."""
        return await super().agrep(pattern, self._inside(path or self._workspace.root), *rest, **more)

    async def aglob(self, pattern: str, path: str | None = None) -> GlobResult:
        """See `BaseSandbox`."""
        return await super().aglob(pattern, self._inside(path or self._workspace.root))

    def delete(self, file_path: str) -> DeleteResult:
        """Delete a file or a folder, for callers without an event loop."""
        return asyncio.run(self.adelete(file_path))

    async def adelete(self, file_path: str) -> DeleteResult:
        """Delete a file, or a folder with everything in it."""
        path = self._inside(file_path)
        finished = await self._run("/bin/sh", "-c", _DELETE, "sh", path)
        if finished.code == _MISSING:
            return DeleteResult(error=f"Error: File '{file_path}' not found")
        if finished.code:
            return DeleteResult(error=f"Error: {_said(finished)}")
        return DeleteResult(path=path)

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files, for callers without an event loop."""
        return asyncio.run(self.aupload_files(files))

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files into the sandbox."""
        responses: list[FileUploadResponse] = []
        for name, content in files:
            path = self._inside(name)
            finished = await self._run("/bin/sh", "-c", _PUT, "sh", path, stdin=content)
            responses.append(FileUploadResponse(path=path, error=_said(finished) if finished.code else None))
        return responses

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files, for callers without an event loop."""
        return asyncio.run(self.adownload_files(paths))

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files of the sandbox."""
        responses: list[FileDownloadResponse] = []
        for name in paths:
            finished = await self._run("/bin/cat", "--", self._inside(name))
            if finished.truncated:
                responses.append(FileDownloadResponse(path=name, error="the file is too large"))
            elif finished.code:
                responses.append(FileDownloadResponse(path=name, error="file_not_found"))
            else:
                responses.append(FileDownloadResponse(path=name, content=finished.stdout))
        return responses

    def _inside(self, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() and any(pure.is_relative_to(root) for root in self._roots):
            return path
        return str(PurePosixPath(self._workspace.root) / path.lstrip("/"))

    async def _run(self, *arguments: str, stdin: bytes = b"") -> Finished:
        return (await self._workspace.run(*arguments, stdin=stdin)).finished


def _said(finished: Finished) -> str:
    return finished.stderr.decode("utf-8", "replace").strip() or f"exit code {finished.code}"
