"""Answers of real models, written down as a script that the scripted model plays back.

One file an execution, `ID.yaml`, which holds each agent's conversations: by the person's message, or by what a
sub-agent was given to do. Secrets are taken out before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from ruamel.yaml import YAML

from agent_runner.models.marks import begins_turn


class Recorder:
    """Writes scripts.

    Args:
        folder: Where to; a runner's STIGMER_SCRIPTS_FOLDER plays them back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._yaml: Any = YAML(typ="safe", pure=True)  # ships without types
        self._yaml.default_flow_style = False

    def note(
        self,
        execution: str,
        *,
        agent: str,
        messages: Sequence[AnyMessage],
        answer: AIMessage,
        redact: Callable[[Any], Any],
    ) -> None:
        """Write one answer down; a call that is made again replaces what it gave before."""
        said, since = since_said(messages)
        position = sum(isinstance(each, AIMessage) for each in since)
        path = self._folder / f"{execution}.yaml"
        script: dict[str, Any] = self._yaml.load(path) if path.exists() else {"conversations": []}
        when = f"^{re.escape(redact(said))}$"
        known: list[dict[str, Any]] = script["conversations"]
        found = [each for each in known if (each["agent"], each["when"]) == (agent, when)]
        if not found:
            made: dict[str, Any] = {"agent": agent, "when": when, "turns": []}
            found = [made]
            known.append(made)
        turns: list[Any] = found[0]["turns"]
        turns[position:] = [redact(_turn(answer))]
        self._write(path, script)

    def _write(self, path: Path, script: dict[str, Any]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.touch(mode=0o600)
        with draft.open("w", encoding="utf-8") as file:
            self._yaml.dump(script, file)
        draft.replace(path)


def since_said(messages: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """What the person began the turn with, and the messages since: where a conversation stands in a script."""
    return since(messages, begins_turn)


def since(messages: Sequence[Any], fits: Callable[[Any], bool]) -> tuple[str, Sequence[Any]]:
    """The text of the last message that fits, "" when none does, and the messages after it."""
    last = max((index for index, each in enumerate(messages) if fits(each)), default=-1)
    return messages[last].text if last >= 0 else "", messages[last + 1 :]


def _turn(answer: AIMessage) -> dict[str, Any]:
    # A $ of a real answer is none of a script.
    turn: dict[str, Any] = {"text": _plain(answer.text)} if answer.text else {}
    if answer.tool_calls:
        turn["tool_calls"] = [{"name": call["name"], "args": _plain(call["args"])} for call in answer.tool_calls]
    if used := answer.usage_metadata:
        turn["usage"] = {"input": used["input_tokens"], "output": used["output_tokens"]}
    return turn if answer.text or answer.tool_calls else {"text": " ", **turn}


def _plain(value: Any) -> Any:
    match value:
        case str():
            return value.replace("$", "$$")
        case dict():
            return {key: _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
        case list():
            return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
        case _:
            return value
