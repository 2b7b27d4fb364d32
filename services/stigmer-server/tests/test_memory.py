"""Memory that the start of the server leaves behind."""

from __future__ import annotations

import asyncio
import platform

import pytest

from stigmer_server import memory


def test_memory_is_given_back_where_the_system_can_take_it() -> None:
    assert memory.give_back() is (platform.libc_ver()[0] == "glibc")


async def test_it_is_given_back_once_the_start_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, given = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(memory, "SETTLED_SECONDS", 0.01)
    monkeypatch.setattr(memory, "give_back", lambda: loop.call_soon_threadsafe(given.set))
    memory.give_back_later()
    async with asyncio.timeout(5):
        await given.wait()
