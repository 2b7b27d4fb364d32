"""Files that a workflow gives to an agent, and those that it gets of what the agent has made.

In a workflow a file is its path, its content, and what that is: a text, any JSON value, or base64 of anything else. A
JSON file whose name ends in `.jsonl` or `.ndjson` is a list with a line for each item.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_runner import StigmerServer, sayable_value
from stigmer_runner.files import KeptFile, KeptFiles, RefusedFileError, hash_of
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.bodies import decoded
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.structured import check_depth, read_json
from workflow_runner.call_messages import AgentFile, CollectRequest
from workflow_runner.sizes import size_of

_LINES = (".jsonl", ".ndjson")
_JSON = (".json", *_LINES)
_SHOWN = 20


class AgentFiles:
    """Puts files into sessions, and collects those of executions."""

    def __init__(self, server: StigmerServer) -> None:
        self._kept = KeptFiles(server)

    async def put(self, session: str, files: Sequence[AgentFile]) -> None:
        """Put files into a session; those that are there already, with the same content, stay as they are.

        Raises:
            WorkflowError: One is not what it says, or the server does not take it.
            RpcError: The server is away.
        """
        there = await self._kept.of(session)
        if there is None:
            raise WorkflowError.standard("configuration", "the server keeps no files: give the agent none")
        hashes = {file.path: file.hash for file in there}
        for given in files:
            content = await asyncio.to_thread(encoded, given)
            file = KeptFile(path=given["path"], size=len(content), hash=await hash_of(content))
            if hashes.get(file.path) == file.hash:
                continue
            try:
                await self._kept.put(session, file, content)
            except RefusedFileError as error:
                detail = f"the file {file.path} cannot be given to the agent: {error}"
                raise WorkflowError.standard("configuration", detail) from None

    @activity.defn(name=names.COLLECT_FILES)
    async def collect(self, request: Any) -> Any:
        """Return, as a `CallAnswer`, files that an execution has made, which a `CollectRequest` names.

        Raises:
            RpcError: The server is away.
        """
        given = cast("CollectRequest", request)
        async with heartbeats(SERVER_SECONDS):
            try:
                return {"output": await self._collected(given)}
            except WorkflowError as error:
                return {"error": error.to_dict()}

    async def _collected(self, request: CollectRequest) -> list[dict[str, Any]]:
        execution = request["execution"]
        made = await self._kept.of(execution) or ()
        wanted = _chosen(request["patterns"], made, execution)
        _check_size(sum(file.size for file in wanted), request["most"])
        found = [await self._read(execution, file) for file in wanted]
        # Base64 and escapes take more than the bytes that they stand for.
        _check_size(await asyncio.to_thread(size_of, found), request["most"])
        return found

    async def _read(self, execution: str, file: KeptFile) -> dict[str, Any]:
        content = await self._kept.content(execution, file)
        if content is None:
            detail = f"the file {file.path} of the execution {execution} was deleted before it could be collected"
            raise WorkflowError.standard("runtime", detail)
        encoding, value = await asyncio.to_thread(_decoded, file.path, content)
        told = {"path": file.path, "bytes": file.size, "sha256": file.hash}
        return {**told, "encoding": encoding, "content": value}


def encoded(file: AgentFile) -> bytes:
    """Return the bytes of a file.

    Raises:
        WorkflowError: Its content is not what it is said to be.
    """
    path, content = file["path"], file["content"]
    encoding = file.get("encoding") or ("text" if isinstance(content, str) else "json")
    if encoding == "json":
        return _json(path, content).encode("utf-8", "replace")
    if not isinstance(content, str):
        detail = f"the content of the file {path} is no text, and its encoding is said to be {encoding}"
        raise WorkflowError.standard("configuration", detail)
    if encoding == "text":
        return content.encode("utf-8", "replace")
    try:
        return decoded(content, f"the file {path}")
    except CallFailedError as failure:
        raise failure.error from None


def _json(path: str, content: Any) -> str:
    # In lines: tools of agents read and search by the line.
    if path.endswith(_LINES) and isinstance(content, list):
        return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in cast("list[Any]", content))
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _decoded(path: str, content: bytes) -> tuple[str, Any]:
    """Return what a file's content is, and the value of it."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(content).decode()
    if not path.endswith(_JSON):
        return "text", text
    try:
        value = _read_lines(text) if path.endswith(_LINES) else read_json(text)
        check_depth(value)
    except ValueError:
        return "text", text
    return "json", sayable_value(value)


def _read_lines(text: str) -> list[Any]:
    return [read_json(line) for line in text.split("\n") if line.strip()]


def _chosen(patterns: Sequence[str], made: Sequence[KeptFile], execution: str) -> list[KeptFile]:
    """Return the files that patterns name, in the order in which they were made.

    Raises:
        WorkflowError: The execution has not made a file that is named without wildcards.
    """
    for pattern in patterns:
        if not any(_is_meant(pattern, file.path) for file in made) and not set("*?[") & set(pattern):
            paths = ", ".join(file.path for file in made[:_SHOWN]) + (", …" if len(made) > _SHOWN else "")
            detail = f"the execution {execution} has made no {pattern}; it has made {paths or 'no files'}"
            raise WorkflowError.standard("runtime", detail)
    return [file for file in made if any(_is_meant(pattern, file.path) for pattern in patterns)]


def _is_meant(pattern: str, path: str) -> bool:
    return path == pattern or path.startswith(pattern.rstrip("/") + "/") or fnmatchcase(path, pattern)


def _check_size(size: int, most: int) -> None:
    if size > most:
        detail = f"the files to collect take {size} bytes, more than the {most} that can be kept: collect fewer"
        raise WorkflowError.standard("runtime", detail)
