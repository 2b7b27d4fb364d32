"""Skill: a folder of instructions, pushed as an archive; every push is a version that can be asked for later."""

from __future__ import annotations

from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message


def _version_names(message: Message) -> tuple[str, str]:
    return message.spec.tag, message.status.version_hash


KIND = Kind(
    name="skill",
    shared=True,
    version_names=_version_names,
    content=("status.version_hash", "status.artifact_storage_key", "status.state"),
)
