"""Scripts: what the scripted model says, as a YAML file that a person writes.

Knows nothing of LangChain. A script is a list of conversations; the first whose `agent` and `when` fit answers,
and its turns are given in order, one for each model call since the person's last message.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from agent_runner.errors import ScriptError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_BYTES = 256 * 1024
_NO_MODEL = (
    "the built-in script only repeats what it is told, and gives no answers by a schema: choose a model "
    "(STIGMER_LLM_MODEL=provider:model and its key, for the runner or in the execution's environment), "
    "or bring a script (--script FILE)"
)

ErrorKind = Literal["rate_limit", "overloaded", "unavailable", "bad_request", "unauthorized"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScriptedToolCall(_Model):
    """A tool that the model asks for."""

    name: Annotated[str, Field(min_length=1)]
    args: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class ScriptedFailure(_Model):
    """A provider's error in place of an answer."""

    kind: ErrorKind = "unavailable"
    message: str = "the script says so"


class ScriptedUsage(_Model):
    """What the answer is said to have used up, in tokens."""

    input: Annotated[int, Field(ge=0)] = 0
    output: Annotated[int, Field(ge=0)] = 0


class ScriptedTurn(_Model):
    """One model call's answer."""

    text: str = ""
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    error: ScriptedFailure | None = None
    delay: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """Seconds before the first word."""
    pace: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Seconds between words."""
    usage: ScriptedUsage | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ScriptedTurn:
        if not (self.text or self.tool_calls or self.error):
            raise ValueError("a turn needs text, tool_calls or error")
        return self

    def filled(self, values: dict[str, str]) -> ScriptedTurn:
        """This turn with `$message` and `$result` replaced in its text and in its tools' arguments."""
        calls = tuple(call.model_copy(update={"args": _fill(call.args, values)}) for call in self.tool_calls)
        return self.model_copy(update={"text": Template(self.text).safe_substitute(values), "tool_calls": calls})


class Conversation(_Model):
    """Turns for one agent, when the person's message fits."""

    agent: str = ""
    """Name of a sub-agent; empty is the main agent."""
    when: Annotated[str, AfterValidator(_pattern)] = ""
    turns: Annotated[tuple[ScriptedTurn, ...], Field(min_length=1)]

    def fits(self, *, agent: str, message: str) -> bool:
        """Whether this conversation answers `message` for `agent` (empty for the main agent)."""
        return self.agent == agent and re.search(self.when, message, re.IGNORECASE) is not None


class Script(_Model):
    """A whole script.

    `turns` at the top is the short form of one conversation for the main agent and any message.
    """

    conversations: tuple[Conversation, ...] = ()
    turns: tuple[ScriptedTurn, ...] = ()

    @model_validator(mode="after")
    def _has_turns(self) -> Script:
        if bool(self.conversations) == bool(self.turns):
            raise ValueError("a script needs either conversations or turns")
        return self

    def turn(self, *, agent: str, message: str, position: int) -> ScriptedTurn:
        """The answer to the model call number `position` (from 0) since the person's last message.

        Raises:
            ScriptError: No conversation fits, or it has fewer turns.
        """
        conversations = self.conversations or (Conversation(turns=self.turns),)
        who = f"sub-agent {agent!r}" if agent else "the main agent"
        for conversation in conversations:
            if conversation.fits(agent=agent, message=message):
                if position >= len(conversation.turns):
                    if self is DEFAULT_SCRIPT:
                        raise ScriptError(_NO_MODEL)
                    raise ScriptError(
                        f"the script has {len(conversation.turns)} turns for {who} and was asked for one more"
                    )
                return conversation.turns[position]
        raise ScriptError(f"no conversation of the script fits {who} and this message")


def parse_script(text: str, *, name: str) -> Script:
    """Read a script.

    Raises:
        ScriptError: Not YAML, or not a script; every problem is listed.
    """
    try:
        reader: Any = YAML(typ="safe", pure=True)  # ships without types
        value = reader.load(text)
        return Script.model_validate(value)
    except YAMLError as error:
        raise ScriptError(f"script {name}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'script'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ScriptError(f"script {name}: {problems}") from None


def load_script(name: str, *, folder: Path | None) -> Script:
    """The script called `name` of `folder`, or the built-in one when the name is `default` and the folder has none.

    A name is a file's stem and never a path, because an execution may choose it.

    Raises:
        ScriptError: There is none, or it is not valid.
    """
    if not _NAME.fullmatch(name):
        raise ScriptError(f"{name!r} is not a script's name: letters, digits, - and _, at most 64")
    path = None if folder is None else folder / f"{name}.yaml"
    if path is not None and path.is_file():
        if path.stat().st_size > _MAX_BYTES:
            raise ScriptError(f"script {name}: larger than {_MAX_BYTES} bytes")
        return parse_script(path.read_text(encoding="utf-8"), name=name)
    if name == "default":
        return DEFAULT_SCRIPT
    where = (
        "no folder of scripts is configured (STIGMER_SCRIPTS_FOLDER)"
        if folder is None
        else f"{folder} has no {name}.yaml"
    )
    raise ScriptError(f"script {name}: {where}")


def _fill(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, str):
        return Template(value).safe_substitute(values)
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list):
        return [_fill(item, values) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value


DEFAULT_SCRIPT = Script(
    conversations=(
        Conversation(
            turns=(
                ScriptedTurn(
                    text=(
                        "No model is configured, so Stigmer's built-in scripted model answers. You wrote: $message\n\n"
                        "For real answers say which model (--model openai:gpt-5, or STIGMER_LLM_MODEL) and give its "
                        "provider's key (ANTHROPIC_API_KEY, OPENAI_API_KEY, GOOGLE_API_KEY) or OLLAMA_BASE_URL."
                    )
                ),
            )
        ),
    )
)
"""What answers when no model is configured."""
