"""The settings on the command line: a flag for each, and all sources taken together."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from stigmer_server.errors import SettingsError
from stigmer_server.settings import Settings, endpoint
from stigmer_server.settings_file import CONFIG_VARIABLE, named_file, variables_of


def load(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings of the command line, the environment and the file.

    Raises:
        SettingsError: Something is wrong; it names every problem.
        SystemExit: The command line asked for help or the version, or is not a command line.
    """
    parser = argparse.ArgumentParser(prog="stigmer-server")
    add_flags(parser)
    return resolve(vars(parser.parse_args(arguments)))


def resolve(flags: Mapping[str, Any], *, serving: bool = True) -> Settings:
    """Return the settings of the given flags, the environment and the file; what are no flags of settings is ignored.

    Args:
        flags: Values by the names of settings.
        serving: Whether they must allow to listen where they say, too.

    Raises:
        SettingsError: Something is wrong; it names every problem.
    """
    named = named_file.set(flags.get("config") or "")
    given = {name: flags[name] for name in Settings.model_fields if flags.get(name) is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SettingsError([_problem(item["loc"], item["msg"]) for item in error.errors()]) from error
    finally:
        named_file.reset(named)
    if not serving:
        return settings
    listening = [settings.address, *([] if settings.http_port == "off" else [endpoint(settings.http_host, 0)])]
    if problems := list(dict.fromkeys(problem for address in listening for problem in settings.refusals(address))):
        raise SettingsError(problems)
    return settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; one that is not given leaves nothing behind."""
    group = parser.add_argument_group("settings", "each from the first of: flag, environment variable, file, default")
    group.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"settings file, TOML or YAML, keyed by setting ({CONFIG_VARIABLE})",
    )
    for name, info in Settings.model_fields.items():
        is_switch = info.annotation is bool
        default = "" if info.default is None or is_switch else f"; default {info.default}"
        words = f"{info.description} ({', '.join(variables_of(info))}{default})".replace("%", "%%")
        flag = "--" + name.replace("_", "-")
        if is_switch:
            group.add_argument(flag, action="store_const", const=True, default=argparse.SUPPRESS, help=words)
        else:
            group.add_argument(flag, metavar="VALUE", default=argparse.SUPPRESS, help=words)


def _problem(location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]) if location else "settings"
    for field, info in Settings.model_fields.items():
        if name == field or name in variables_of(info):
            flag = "--" + field.replace("_", "-")
            return f"{flag} ({', '.join(variables_of(info))}): {message}"
    near = get_close_matches(name.lower().replace("-", "_"), Settings.model_fields, n=1)
    return f"settings file: there is no setting {name!r}" + (f"; did you mean {near[0]}?" if near else "")
