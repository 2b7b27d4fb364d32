"""Skill: a folder of instructions, pushed as an archive; every push is a version that can be asked for later."""

from __future__ import annotations

from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message


def _is_version(message: Message, version: str) -> bool:
    return version in (message.status.version_hash, message.spec.tag)


KIND = Kind(name="skill", is_version=_is_version)
