"""The settings file: TOML or YAML, keyed by setting or by environment variable."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from stigmer_server.errors import SettingsError

CONFIG_VARIABLE = "STIGMER_SERVER_CONFIG"
"""Names the settings file when `--config` does not."""
named_file: ContextVar[str] = ContextVar("settings file of the command line", default="")


class FileSource(PydanticBaseSettingsSource):
    """Values of the settings file that the environment names; its keys are the settings' names or variables."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Look the field up by hand; unused, because the file is returned whole."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what the file says, by the names of variables."""
        name = named_file.get() or os.environ.get(CONFIG_VARIABLE, "")
        if not name:
            return {}
        names = {alias: alias for info in self.settings_cls.model_fields.values() for alias in variables_of(info)}
        for field, info in self.settings_cls.model_fields.items():
            # As in a program, and as on the command line.
            names[field] = names[field.replace("_", "-")] = variables_of(info)[0]
        return {names.get(key, key): value for key, value in read_file(Path(name)).items() if value not in (None, "")}


def read_file(path: Path) -> Mapping[str, Any]:
    """Return the content of a settings file, TOML or YAML by its name.

    Raises:
        SettingsError: It cannot be read, is not well formed, or is not a table of settings.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else _yaml(text)
    except (OSError, ValueError) as error:
        raise SettingsError([f"settings file {path}: {error}"]) from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SettingsError([f"settings file {path}: expected a table of settings"])
    return cast("Mapping[str, Any]", content)


def _yaml(text: str) -> Any:
    """Return what YAML text says. Raises: ValueError."""
    # Imported when there is such a file to read, which is seldom.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml: Any = YAML(typ="safe", pure=True)
    try:
        return yaml.load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def variables_of(info: FieldInfo) -> tuple[str, ...]:
    """Return the names of the environment variables that a setting is read from, best first."""
    alias = info.validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()
