"""Variables and secrets of environments: how they are read from a person, and how an environment is changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path

from stigmer_protos import descriptors

from stigmer_cli import console
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.references import Reference
from stigmer_cli.resources import Message, Resources

_ATTEMPTS = 5
_STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One variable or secret as a person gave it."""

    name: str
    value: str
    is_secret: bool = False


def read_variables(texts: Sequence[str]) -> list[Entry]:
    """Return the variables of `NAME=VALUE` arguments.

    Raises:
        InvalidInputError: One is none.
    """
    found: list[Entry] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            msg = f"{text}: expected NAME=VALUE"
            raise InvalidInputError(msg, hint="a secret is given with --secret NAME, and its value is then asked for")
        found.append(Entry(name=name, value=value))
    return found


def read_secrets(texts: Sequence[str]) -> list[Entry]:
    """Return the secrets of `--secret NAME`, `NAME=@FILE` and `NAME=-` options; a value itself is refused.

    Without a file, a person is asked and what is typed is not shown; without a terminal the value is what comes on
    standard input, which therefore can be that of one secret only. One line end at the end is no part of a value.

    Raises:
        InvalidInputError: A value stands in the arguments, where the shell's history and every process sees it, or
            cannot be had.
    """
    from_input = [text for text in texts if _source(text) == _STDIN]
    if len(from_input) > 1:
        msg = f"standard input has the value of one secret, and {len(from_input)} are to be taken from it"
        raise InvalidInputError(msg, hint="write the others to files, and give them with --secret NAME=@FILE")
    return [_read_secret(text) for text in texts]


def _read_secret(text: str) -> Entry:
    name, _, _ = text.partition("=")
    source = _source(text)
    if source == _STDIN:
        value = sys.stdin.read()
    elif source:
        value = _from_file(name, source)
    else:
        value = getpass(f"{name}: ", stream=sys.stderr)
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        msg = f"the value of {name} is empty"
        raise InvalidInputError(msg, hint=f"nothing was changed; `stigmer env unset ENVIRONMENT {name}` removes it")
    return Entry(name=name, value=value, is_secret=True)


def _source(text: str) -> str:
    """Return where a secret's value comes from: a file, `-` for standard input, "" for a person at a terminal."""
    name, equals, source = text.partition("=")
    if not name:
        msg = f"--secret {text}: expected NAME"
        raise InvalidInputError(msg)
    if not equals:
        return "" if sys.stdin.isatty() else _STDIN
    if source == _STDIN:
        return _STDIN
    if source.startswith("@") and len(source) > 1:
        return source[1:]
    msg = f"--secret {name}=…: a value in the command line is seen by every process, and stays in the shell's history"
    raise InvalidInputError(msg, hint=f"write --secret {name} to be asked for it, or {name}=@FILE, or {name}=-")


def _from_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "this is not UTF-8 text"
        msg = f"--secret {name}=@{path}: {said}"
        raise InvalidInputError(msg) from None


async def change_environment(
    resources: Resources, reference: Reference, change: Callable[[Message], None], *, create: bool = False
) -> Message:
    """Read an environment, change it and store it, so that a change that others make meanwhile is not lost.

    Args:
        resources: Where it is.
        reference: Which it is.
        change: Changes its spec in place; called again on what others stored meanwhile.
        create: Make it where there is none.

    Returns:
        The environment as it is stored then; its audit tells whether it was created, updated or left unchanged.

    Raises:
        NotFoundError: There is none.
        RpcError: It was refused, or others changed it again and again.
    """
    from stigmer_grpc.errors import AbortedError

    for attempt in range(_ATTEMPTS):
        message = await (resources.find(reference) if create else resources.get(reference))
        if message is None:
            message = _new(reference)
        change(message)
        try:
            return await resources.apply(reference.kind, message)
        except AbortedError:
            if attempt == _ATTEMPTS - 1:
                raise
            console.note("someone else changed it at the same time: trying again")
    raise AssertionError(reference)


def _new(reference: Reference) -> Message:
    message: Message = descriptors.message_type(reference.kind.message)()
    message.api_version, message.kind = reference.kind.api_version, reference.kind.name
    message.metadata.name = message.metadata.slug = reference.slug
    message.metadata.org = reference.org
    message.metadata.owner_scope = 2
    return message
