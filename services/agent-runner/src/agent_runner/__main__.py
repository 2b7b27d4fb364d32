"""`agent-runner`: the worker as a process."""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn

from stigmer_runner.process import run_process

from agent_runner.settings import Settings

_TRACING = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
_OF_PROVIDERS = ("ANTHROPIC_", "OPENAI_", "GOOGLE_", "GEMINI_", "OLLAMA_")


def main() -> NoReturn:
    """Run until SIGTERM or SIGINT, then exit with 0."""
    # A trace holds prompts, answers and tools' results: a variable that another program left behind must not
    # send them anywhere.
    for name in _TRACING:
        os.environ.pop(name, None)
    run_process(Settings, _serve)


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    # What there is to know of providers is in the settings. Their packages would find it here too, and send the
    # operator's tokens and headers along with a key, and to an address, of an execution's environment.
    for name in [name for name in os.environ if name.startswith(_OF_PROVIDERS)]:
        del os.environ[name]
    from agent_runner.worker import serve  # after --help and wrong settings: it imports LangChain and Temporal

    await serve(settings, stop)


if __name__ == "__main__":
    main()
