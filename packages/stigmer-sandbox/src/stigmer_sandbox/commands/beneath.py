"""Files below a folder into which programs write that may mean harm.

Every path is walked one folder at a time, no link is followed, and nothing is opened but files: those programs must not
choose what is read or written. Like the supervisor it stands alone, because its text is also given to the Python of a
sandbox far away, where files cross in a place of their own:

    list {folder, most, without}    -> [[path, size, modified, is a folder], …]
    held {folder, most}             -> {held}
    get {folder, path, most, to}    copies a file to a place   -> {}, {content} of a small one instead, or {error}
    put {folder, path, most, from}  moves a file from a place  -> {} or {error}
    drop {place}                    removes what a place has   -> {}
    skills {folders, place}         -> the hashes of folders in a place, by name
    unpack {from, place, name}      puts a folder there in place of what is there -> {}
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Not to wait for the other end of a pipe that somebody put there.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_CHUNK = 1 << 20
_SMALL = 1 << 18
DEEPEST = 100
"""How many folders may stand in one another. Each that is looked into takes an open file, and Python's stack ends."""


def opened(folder: Path, path: PurePosixPath) -> int:
    """A file, open to be read. Raises: OSError, also when it is none."""
    with ExitStack() as stack:
        here = _way(folder, path, stack, owner=None, make=False)
        file = os.open(path.name, _READ, dir_fd=here)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(path.name)
        return file


@contextmanager
def placed(folder: Path, path: PurePosixPath, owner: int | None = None) -> Generator[IO[bytes]]:
    """Open a file to be written, which takes its place when it is whole; folders on the way are made. Raises: OSError.

    Whoever is killed meanwhile leaves what was there before; only a file is replaced by it.
    """
    with ExitStack() as stack:
        here = _way(folder, path, stack, owner=owner, make=True)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(path.name, dir_fd=here, follow_symlinks=False).st_mode):
                raise OSError(errno.EINVAL, "something that is no file is there")
        beside = f".{secrets.token_hex(8)}"
        file = os.open(beside, _WRITE, 0o700, dir_fd=here)
        try:
            with os.fdopen(file, "wb") as opened:
                if owner is not None:
                    os.fchown(file, owner, owner)
                yield opened
            os.replace(beside, path.name, src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            os.unlink(beside, dir_fd=here)
            raise


def walked(
    folder: Path, onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str], list[str], int]]:
    """What `os.fwalk` gives, down to the folders that are too deep, which are not looked into; nothing of no folder."""
    for parent, folders, names, here in os.fwalk(folder, onerror=onerror) if folder.is_dir() else ():
        yield parent, folders, names, here
        if len(Path(parent).relative_to(folder).parts) == DEEPEST:
            folders.clear()


def found(folder: Path, without: Collection[str] = ()) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder; what is gone meanwhile, is too deep, or has a name that is no text, is left out, and
    so are folders that are called as one of `without`.
    """
    for parent, folders, names, here in walked(folder):
        folders[:] = [name for name in folders if name not in without]
        for name in (*folders, *names):
            path = str(Path(parent, name).relative_to(folder))
            try:
                path.encode()
                yield path, os.stat(name, dir_fd=here, follow_symlinks=False)
            except (OSError, UnicodeEncodeError):
                continue


def entries(folder: Path, most: int, without: Collection[str] = ()) -> list[tuple[str, int, float, bool]]:
    """Files and folders, by path: path, size, time of the last change, and whether it is a folder."""
    listed = (
        (path, 0 if stat.S_ISDIR(each.st_mode) else each.st_size, each.st_mtime, stat.S_ISDIR(each.st_mode))
        for path, each in found(folder, without)
        if stat.S_ISDIR(each.st_mode) or stat.S_ISREG(each.st_mode)
    )
    return sorted(islice(listed, most))


def held(folder: Path, most: int) -> int:
    """How many bytes the files below a folder take, as soon as they are more than `most`; links are not followed.

    Nobody can tell what is in folders that are too deep: they are more than `most`, too.
    """
    total = 0
    for path, each in found(folder):
        if stat.S_ISDIR(each.st_mode):
            total += most + 1 if path.count("/") == DEEPEST else 0
        else:
            total += each.st_size
        if total > most:
            break
    return total


def digest(folder: Path) -> str:
    """A hash of all that is below a folder: paths, contents, and what can be run."""
    whole = hashlib.sha256()
    for path, each in sorted(found(folder), key=lambda one: one[0]):
        whole.update(repr((path, stat.S_IFMT(each.st_mode), bool(each.st_mode & 0o100))).encode())
        if stat.S_ISREG(each.st_mode):
            with os.fdopen(opened(folder, PurePosixPath(path)), "rb") as file:
                whole.update(hashlib.sha256(file.read()).digest())
    return whole.hexdigest()


def _way(folder: Path, path: PurePosixPath, stack: ExitStack, *, owner: int | None, make: bool) -> int:
    """The folder of a path, open."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, here)
    for part in path.parent.parts:
        new = make and _new(part, here)
        here = os.open(part, _FOLDER, dir_fd=here)
        stack.callback(os.close, here)
        if new and owner is not None:
            os.fchown(here, owner, owner)
    return here


def _new(name: str, folder: int) -> bool:
    """Make a folder; tells whether it was not there before."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _get(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        file = opened(Path(asked["folder"]), PurePosixPath(asked["path"]))
    except OSError:
        return {"error": "missing"}
    with os.fdopen(file, "rb") as source:
        content = source.read(min(_SMALL, asked["most"]) + 1)
        if len(content) > asked["most"]:
            return {"error": "large"}
        if len(content) <= _SMALL:
            return {"content": base64.b64encode(content).decode()}
        with Path(asked["to"]).open("wb") as target:
            left = asked["most"]
            while content:
                left -= len(content)
                if left < 0:
                    return {"error": "large"}
                target.write(content)
                content = source.read(_CHUNK)
    return {}


def _put(asked: dict[str, Any]) -> dict[str, Any]:
    folder, given = Path(asked["folder"]), Path(asked["from"])
    try:
        if held(folder, asked["most"]) + given.stat().st_size > asked["most"]:
            return {"error": "full"}
        with given.open("rb") as source, placed(folder, PurePosixPath(asked["path"])) as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
    except OSError as error:
        return {"error": error.strerror or "it cannot be written"}
    finally:
        _drop(given)
    return {}


def _drop(place: Path) -> dict[str, Any]:
    if place.exists():
        place.unlink()
    return {}


def _skills(asked: dict[str, Any]) -> dict[str, str]:
    places = {name: Path(asked["place"], name) for name in asked["folders"]}
    return {name: digest(place) for name, place in places.items() if place.is_dir()}


def _unpack(asked: dict[str, Any]) -> dict[str, Any]:
    import tarfile

    place, given = Path(asked["place"], asked["name"]), Path(asked["from"])
    remove(place)
    place.mkdir(parents=True)
    with tarfile.open(given) as archive:
        # Its maker is who started this; a Python that does not know of filters does the same without.
        archive.extraction_filter = lambda member, _: member
        archive.extractall(place)  # noqa: S202 - see above
    given.unlink()
    for path, each in found(place):
        if stat.S_ISDIR(each.st_mode):
            Path(place, path).chmod(0o555)
    place.chmod(0o555)
    return {}


def remove(folder: Path) -> None:
    """Remove a folder with everything in it, also what its owner may not look into or change."""
    # Not Python's own, which cannot remove what is very deep.
    _quietly("rm", "-rf", "--", str(folder))
    if folder.exists():
        _quietly("chmod", "-R", "u+rwx", "--", str(folder))
        _quietly("rm", "-rf", "--", str(folder))


def _quietly(*command: str) -> None:
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _main(verb: str, said: str) -> None:
    asked: dict[str, Any] = json.loads(base64.b64decode(said))
    if "folder" in asked:
        # A command may have removed it.
        Path(asked["folder"]).mkdir(parents=True, exist_ok=True)
    answers: dict[str, Any] = {
        "list": lambda: entries(Path(asked["folder"]), asked["most"], asked["without"]),
        "held": lambda: {"held": held(Path(asked["folder"]), asked["most"])},
        "drop": lambda: _drop(Path(asked["place"])),
        "get": lambda: _get(asked),
        "put": lambda: _put(asked),
        "skills": lambda: _skills(asked),
        "unpack": lambda: _unpack(asked),
    }
    sys.stdout.write(json.dumps(answers[verb]()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
