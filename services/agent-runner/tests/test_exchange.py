"""What comparing files costs: no more is read than may be needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agent_runner.files.exchange import Exchange
from agent_runner.files.known import PATH
from agent_runner.files.limits import FileLimits
from agent_runner.workspace.folder import FolderWorkspace, Place
from stigmer_runner.files import KeptFile, KeptFiles
from stigmer_runner.redaction import Redactor
from stigmer_sandbox import HostSandbox


class Watched(FolderWorkspace):
    """A workspace of which is known what was read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(HostSandbox(), Place(folder=folder, most_bytes=2**40))
        self.files_read: list[str] = []

    async def read(self, path: str, *, most: int) -> bytes:
        self.files_read += [path] if path != PATH else []
        return await super().read(path, most=most)


@dataclass(slots=True)
class Kept:
    """The server's side."""

    files: dict[str, tuple[KeptFile, bytes]] = field(default_factory=dict[str, tuple[KeptFile, bytes]])

    async def of(self, _: str) -> tuple[KeptFile, ...]:
        return tuple(file for file, _ in self.files.values())

    async def content(self, _: str, file: KeptFile) -> bytes:
        return self.files[file.path][1]

    async def put(self, _: str, file: KeptFile, content: bytes, *, execution: str, replaces: str) -> None:
        del execution, replaces
        self.files[file.path] = file, content

    async def delete(self, _: str, path: str, hash_: str) -> None:
        if path in self.files and self.files[path][0].hash == hash_:
            del self.files[path]


@pytest.fixture
def workspace(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def exchange(workspace: Watched, kept: Any, **limits: int) -> Exchange:
    return Exchange(
        kept=kept,
        workspace=workspace,
        session="ses-1",
        execution="aex-1",
        limits=FileLimits(**limits),
        redactor=Redactor(()),
        is_offered=True,
    )


async def test_what_has_to_wait_for_the_next_turn_is_not_read(workspace: Watched, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"file-{number}").write_text(str(number))
    kept = Kept()
    for turn in range(3):
        workspace.files_read.clear()
        _, left = await exchange(workspace, kept, turn_files=2).take()
        assert len(left) == max(0, 5 - 2 * (turn + 1))
        new = [path for path in workspace.files_read if path not in [f"file-{each}" for each in range(2 * turn)]]
        assert len(new) == min(2, 5 - 2 * turn)
    assert sorted(kept.files) == [f"file-{number}" for number in range(5)]


async def test_a_file_that_can_be_no_other_is_not_read_to_be_compared(workspace: Watched, tmp_path: Path) -> None:
    kept = Kept()
    (tmp_path / "a").write_bytes(b"first")
    await exchange(workspace, kept).take()
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**34)
    mine = KeptFile(path="a", size=4, hash="0" * 64, by_person=True)
    kept.files = {"a": (mine, b"mine")}
    workspace.files_read.clear()
    await exchange(workspace, kept).bring()
    assert workspace.files_read == []
    assert (tmp_path / "a").read_bytes() == b"mine"
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**34)
    kept.files = {}
    await exchange(workspace, kept).bring()
    assert workspace.files_read == []
    assert (tmp_path / "a").stat().st_size == 2**34, "what an agent has changed stays"


async def test_a_file_is_sent_in_parts_as_often_as_needed() -> None:
    content = bytes(range(256)) * 10_000
    sent: list[bytes] = []

    class Twice:
        async def upload(self, _service: str, _method: str, requests: Any) -> None:
            sent.extend(b"".join(part.chunk for part in requests) for _ in range(2))

    server: Any = Twice()
    file = KeptFile(path="a", size=len(content), hash="0" * 64)
    await KeptFiles(server).put("ses-1", file, content, execution="aex-1")
    assert sent == [content, content]
