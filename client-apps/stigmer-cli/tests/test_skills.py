"""Skills: what of a folder is packed and how, and the way to a server and back."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.errors import ConflictError, InvalidInputError
from stigmer_cli.skills.archive import STORED_BYTES, pack, unpack
from stigmer_cli.skills.folder import read_folder


def skill(folder: Path, **files: str) -> Path:
    """A folder with a SKILL.md and further files, in whose names __ stands for a slash."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text("# House style\n")
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def packed(folder: Path) -> tuple[str, bytes]:
    file = io.BytesIO()
    return pack(read_folder(folder), file), file.getvalue()


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    one = skill(tmp_path / "one", scripts__run="#!/bin/sh\n", b="b", a="a")
    two = skill(tmp_path / "two", a="a", b="b", scripts__run="#!/bin/sh\n")
    os.utime(two / "a", (1, 1))
    (two / "b").chmod(0o664)
    assert packed(one) == packed(two)
    (two / "scripts/run").chmod(0o755)
    assert packed(one) != packed(two)


def test_names_are_left_out_whole_and_not_by_how_they_begin(tmp_path: Path) -> None:
    folder = skill(tmp_path / "s")
    kept = [".gitignore", ".github/x", "venv-notes.md", ".envrc", "git/.gitkeep", "my.env", "node_modules.md"]
    left = [
        ".git/config",
        "venv/x",
        ".env",
        "sub/node_modules/x",
        "sub/__pycache__/x.pyc",
        ".DS_Store",
        "a.log",
        "drafts/x",
    ]
    for name in (*kept, *left):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    contents = read_folder(folder, exclude=["*.log", "drafts/"])
    assert {member.name for member in contents.members} == {"SKILL.md", *kept}
    assert set(contents.left_out) == {
        ".git/", "venv/", ".env", "sub/node_modules/", "sub/__pycache__/", ".DS_Store", "a.log", "drafts/",
    }  # fmt: skip


def test_what_can_be_no_part_of_a_skill_is_refused(tmp_path: Path) -> None:
    folder = skill(tmp_path / "s", real="x")
    (folder / "same").symlink_to("real")
    assert {member.name for member in read_folder(folder).members} == {"SKILL.md", "real", "same"}
    outside = tmp_path / "secret"
    outside.write_text("hunter2")
    for target in (outside, folder, tmp_path / "nowhere"):
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to(target)
        with pytest.raises(InvalidInputError, match="link"):
            read_folder(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidInputError, match="neither a file nor a folder"):
        read_folder(folder)
    (folder / "pipe").unlink()
    (folder / "SKILL.md").rename(folder / "skill.md")
    with pytest.raises(InvalidInputError, match=r"no SKILL\.md") as caught:
        read_folder(folder)
    assert caught.value.hint == "there is skill.md"


def test_large_skills_are_compressed_but_not_to_what_looks_like_a_bomb(tmp_path: Path) -> None:
    folder = skill(tmp_path / "s", dense="0" * STORED_BYTES)
    (folder / "text").write_text("".join(f"{number} bottles\n" for number in range(100_000)))
    _, content = packed(folder)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = {entry.filename: entry.compress_type for entry in archive.infolist()}
    assert found["dense"] == zipfile.ZIP_STORED
    assert found["text"] == zipfile.ZIP_DEFLATED


def test_unpacking_brings_back_what_was_packed(tmp_path: Path) -> None:
    folder = skill(tmp_path / "s", scripts__run="#!/bin/sh\n", notes="ä")
    (folder / "scripts/run").chmod(0o755)
    _, content = packed(folder)
    target = tmp_path / "t"
    assert unpack(io.BytesIO(content), target) == 3
    assert packed(target) == packed(folder)
    assert (target / "scripts/run").stat().st_mode & 0o111
    with pytest.raises(ConflictError, match="not empty"):
        unpack(io.BytesIO(content), target)
    assert unpack(io.BytesIO(content), target, overwrite=True) == 3


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a\\b"])
def test_unpacking_writes_nothing_outside(tmp_path: Path, name: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("SKILL.md", "x")
        archive.writestr(name, "x")
    with pytest.raises(InvalidInputError):
        unpack(file, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_unpacking_writes_through_no_link(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(InvalidInputError):
        unpack(file, tmp_path / "t")
    outside = tmp_path / "outside"
    outside.write_text("mine")
    target = tmp_path / "t"
    target.mkdir()
    (target / "SKILL.md").symlink_to(outside)
    _, content = packed(skill(tmp_path / "s"))
    unpack(io.BytesIO(content), target, overwrite=True)
    assert outside.read_text() == "mine"
    assert (target / "SKILL.md").read_text() == "# House style\n"


def test_a_skill_goes_to_the_server_and_comes_back(
    stigmer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = skill(tmp_path / "house-style", scripts__run="#!/bin/sh\n", secret="x")
    (folder / ".env").write_text("TOKEN=hunter2")
    tried = stigmer("skill", "push", folder, "--dry-run", "-o", "json")
    plan = json.loads(tried.out)
    assert (tried.code, plan["name"], plan["left_out"]) == (0, "house-style", [".env"])
    assert [file["name"] for file in plan["files"]] == ["SKILL.md", "scripts/run", "secret"]
    assert stigmer("get", "skills", "-o", "name").out.strip() == ""
    monkeypatch.chdir(folder)
    first = json.loads(stigmer("skill", "push", "--tag", "stable", "-o", "json").out)
    assert (first["name"], first["status"], first["tag"]) == ("house-style", "Created", "stable")
    assert first["version_hash"] == plan["version_hash"]
    again = stigmer("skill", "push", ".", "--tag", "stable", "-o", "json")
    assert json.loads(again.out)["status"] == "Unchanged"
    assert "left out: .env" in again.err
    (folder / "secret").write_text("y")
    assert json.loads(stigmer("skill", "push", folder, "-o", "json").out)["status"] == "Updated"
    assert stigmer("skill", "push", folder, "-o", "name").out == "skill/house-style\n"
    pulled = json.loads(stigmer("skill", "pull", "house-style", tmp_path / "new", "-o", "json").out)
    assert (pulled["files"], (tmp_path / "new/secret").read_text()) == (3, "y")
    assert stigmer("skill", "pull", "house-style", tmp_path / "old", "--version", "stable").code == 0
    assert (tmp_path / "old/secret").read_text() == "x"
    assert stigmer("skill", "pull", "house-style", tmp_path / "old").code == 4
    assert stigmer("skill", "pull", "nobody", tmp_path / "x").code == 3
    assert not (tmp_path / "x").exists()


def test_a_large_skill_goes_in_parts(stigmer: Any, tmp_path: Path) -> None:
    folder = skill(tmp_path / "large")
    (folder / "data").write_bytes(os.urandom(11 * 2**20))
    pushed = stigmer("skill", "push", folder, "-o", "json")
    assert pushed.code == 0, pushed.err
    assert json.loads(pushed.out)["size"] > 10 * 2**20
    assert stigmer("skill", "pull", "large", tmp_path / "back").code == 0
    assert (tmp_path / "back/data").read_bytes() == (folder / "data").read_bytes()


def test_an_archive_is_pushed_as_it_is(stigmer: Any, tmp_path: Path) -> None:
    path = tmp_path / "style.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("SKILL.md", "# Style\n")
    assert stigmer("skill", "push", path, "-o", "name").out == "skill/style\n"
    assert stigmer("skill", "push", path, "--exclude", "x").code == 2
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.md", "# Style\n")
    refused = stigmer("skill", "push", path)
    assert refused.code == 2
    assert "SKILL.md" in refused.err
    assert stigmer("skill", "push", tmp_path / "nowhere").code == 2
    assert stigmer("skill", "push", tmp_path).code == 2
