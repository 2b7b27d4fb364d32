"""The text of a .proto and of all that it imports, and what protoc makes of them.

An import is a path from a root that the text does not tell. It is looked for beside the .proto, then in each folder
above it, as far as the resource's address goes up; what Google ships with protobuf and with its common types is here.

protoc runs in a process of its own: its input is somebody else's, its errors go to a file descriptor, and 8 MB
of compiler need not stay in memory.
"""

import hashlib
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from posixpath import basename
from urllib.parse import urljoin, urlsplit

from stigmer_sandbox import Command, CommandError, Ending, HostSandbox, Limits

from workflow_runner.activities.calls import CallFailedError

Read = Callable[[str], Awaitable[bytes]]
"""Returns what stands at an address; raises LookupError when nothing does, CallFailedError when it cannot be had."""

_MOST_FILES = 200
_MOST_BYTES = 4 * 2**20
_MOST_SECONDS = 30.0
_EXCERPT = 1000
_MADE = ".made"
"""What protoc writes, beside the sources; no import has such a name."""
# Not to /dev/stdout: where standard output is a socket, as uvloop has it, that cannot be opened.
_COMPILE = f"""
import sys
from grpc_tools import protoc
code = protoc.main(sys.argv)
if code == 0:
    with open({_MADE!r}, "rb") as made:
        sys.stdout.buffer.write(made.read())
sys.exit(code)
"""
# Comments and texts first, so that an import inside of one is none.
_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bimport\s+(?:weak\s+|public\s+|option\s+)?(?:"([^"\n]*)"|'([^'\n]*)')\s*;"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+ -]*(?:/[A-Za-z0-9_][A-Za-z0-9_.@+ -]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """A .proto and everything that it imports."""

    root: str
    """The path of the .proto itself."""
    files: Mapping[str, bytes]
    """Their texts, by path."""

    @property
    def digest(self) -> str:
        """Says whether two are the same."""
        made = hashlib.sha256(self.root.encode())
        for path, text in sorted(self.files.items()):
            made.update(f"\0{path}\0{len(text)}\0".encode())
            made.update(text)
        return made.hexdigest()


async def gather(url: str, read: Read) -> Sources:
    """Return the .proto at `url` with all that it imports.

    Raises:
        CallFailedError: One of them cannot be had, or they are too many or too large.
    """
    try:
        text = await read(url)
    except LookupError:
        raise CallFailedError("configuration", f"there is no proto at {_shown(url)}") from None
    root = basename(urlsplit(url).path) or "service.proto"
    files = {root: text}
    folders = list(_folders(url))
    waiting = [(root, path) for path in _imports(text)]
    while waiting:
        importer, path = waiting.pop()
        if path in files or _is_shipped(path):
            continue
        files[path] = await _find(path, importer, folders, read)
        if len(files) > _MOST_FILES or sum(map(len, files.values())) > _MOST_BYTES:
            limits = f"{_MOST_FILES} files or {_MOST_BYTES} bytes"
            raise CallFailedError("configuration", f"{_shown(url)} and what it imports are more than {limits}")
        waiting += ((path, inner) for inner in _imports(files[path]))
    return Sources(root=root, files=files)


async def _find(path: str, importer: str, folders: list[str], read: Read) -> bytes:
    if not _PATH.fullmatch(path):
        raise CallFailedError("configuration", f"{importer} imports {path!r}, which is no path below a folder")
    for folder in list(folders):
        try:
            text = await read(urljoin(folder, path))
        except LookupError:
            continue
        # Where one import was found, the next is likely to be.
        folders.remove(folder)
        folders.insert(0, folder)
        return text
    tried = ", ".join(_shown(folder) for folder in folders)
    raise CallFailedError("configuration", f"{importer} imports {path!r}, which is in none of: {tried}")


def _folders(url: str) -> Iterator[str]:
    """Yield the folder of a resource, then those above it."""
    folder = urljoin(url, ".")
    while True:
        yield folder
        above = urljoin(folder, "..")
        if above == folder or len(above) >= len(folder):
            return
        folder = above


def _imports(text: bytes) -> list[str]:
    found = (match[1] or match[2] for match in _TOKEN.finditer(text.decode("utf-8", "replace")))
    return [path for path in found if path]


def _shown(url: str) -> str:
    """Return an address without its query, which may hold what is nobody's business."""
    return url.partition("?")[0]


def _is_shipped(path: str) -> bool:
    return _PATH.fullmatch(path) is not None and any((root / path).is_file() for root in _shipped())


@cache
def _shipped() -> tuple[Path, ...]:
    """Return the roots of what is at hand: protobuf's own types, and Google's common ones."""
    tools, common = find_spec("grpc_tools"), find_spec("google.api")
    if tools is None or not tools.submodule_search_locations:
        raise CallFailedError("configuration", "protoc is not installed: install grpcio-tools beside this runner")
    roots = [Path(tools.submodule_search_locations[0]) / "_proto"]
    if common is not None and common.submodule_search_locations:
        roots.append(Path(next(iter(common.submodule_search_locations))).parents[1])
    return tuple(roots)


async def compiled(sources: Sources, seconds: float) -> bytes:
    """Return the FileDescriptorSet that `sources` make.

    Raises:
        CallFailedError: They are not valid; says where and why.
    """
    roots = [f"-I{root}" for root in (".", *_shipped())]
    options = ["--include_imports", f"--descriptor_set_out={_MADE}", sources.root]
    command = Command(
        arguments=(sys.executable, "-I", "-B", "-c", _COMPILE, *roots, *options),
        files=sources.files,
        limits=Limits(seconds=min(seconds, _MOST_SECONDS), output_bytes=4 * _MOST_BYTES),
    )
    try:
        finished = await HostSandbox().run(command)
    except CommandError as error:
        raise CallFailedError("configuration", f"protoc cannot be run: {error}") from None
    if finished.ending is not Ending.EXITED or finished.truncated:
        raise CallFailedError("configuration", f"protoc was ended: {sources.root} takes too much to compile")
    if finished.code != 0:
        said = finished.stderr.decode("utf-8", "replace").strip()[:_EXCERPT]
        raise CallFailedError("configuration", f"the proto is not valid: {said}")
    return finished.stdout
