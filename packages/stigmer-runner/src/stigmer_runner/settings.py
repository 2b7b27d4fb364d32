"""What every runner can be told, and how it is told: flag > environment > file > default.

A setting is one field of a `RunnerSettings` subclass. Its flag is its name with hyphens, its environment
variables are its aliases, and in the TOML file it stands under its name. Nothing else in a runner reads the
environment.
"""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict
from stigmer_grpc.traces import TraceExporter

from stigmer_runner.errors import SettingsError

_FILE_VARIABLE = "STIGMER_RUNNER_SETTINGS"


def setting(default: Any, *variables: str, description: str, **limits: Any) -> Any:
    """Declare a setting that is read from the first of `variables` that is set.

    `limits` are pydantic's (`ge`, `le`, `min_length` …).
    """
    return Field(default, validation_alias=AliasChoices(*variables), description=description, **limits)


def folders(text: str) -> tuple[Path, ...]:
    """Return the folders of a setting that names several, separated by colons."""
    return tuple(Path(folder) for folder in text.split(":") if folder)


class RunnerSettings(BaseSettings):
    """The settings that both runners share."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)
    program: ClassVar[str] = "runner"

    temporal_address: str = setting(
        "localhost:7233",
        "TEMPORAL_HOST_PORT",
        "TEMPORAL_SERVICE_ADDRESS",
        description="host:port of the Temporal front end",
        min_length=1,
    )
    temporal_namespace: str = setting(
        "default", "TEMPORAL_NAMESPACE", description="Temporal namespace to work in", min_length=1
    )
    server_address: str = setting(
        "localhost:8080", "STIGMER_BACKEND_ENDPOINT", description="host:port of stigmer-server", min_length=1
    )
    api_key: str = setting("", "STIGMER_API_KEY", description="token sent to stigmer-server; empty sends none")
    api_key_file: Path | None = setting(
        None, "STIGMER_API_KEY_FILE", description="file that holds the token, unless one is given"
    )
    server_tls: bool = setting(False, "STIGMER_BACKEND_TLS", description="stigmer-server speaks TLS")
    server_ca: Path | None = setting(
        None, "STIGMER_BACKEND_CA", description="PEM file of the authority of its certificate; implies TLS"
    )
    max_concurrency: int = setting(
        100,
        "TEMPORAL_MAX_CONCURRENCY",
        description="activities, and workflow steps, in progress at once",
        ge=2,
        le=10_000,
    )
    sticky_seconds: float = setting(
        5.0,
        "TEMPORAL_STICKY_SECONDS",
        description="how long a run waits for the worker that knows it before any other takes over",
        gt=0,
        le=60,
    )
    grace_seconds: float = setting(
        10.0, "STIGMER_RUNNER_GRACE_SECONDS", description="how long calls in flight may finish on a stop", ge=0, le=600
    )
    ready_file: Path | None = setting(
        None, "STIGMER_RUNNER_READY_FILE", description="file that exists while the worker takes work"
    )
    log_level: str = setting(
        "info",
        "LOG_LEVEL",
        description="trace, debug, info, warning or error",
        pattern="(?i)^(trace|debug|info|warning|error)$",
    )
    traces_exporter: TraceExporter = setting(
        "auto",
        "OTEL_TRACES_EXPORTER",
        description="`otlp` sends traces by OTLP over HTTP, `none` does not, `auto` does if it is told where to",
    )
    otlp_endpoint: str = setting(
        "", "OTEL_EXPORTER_OTLP_ENDPOINT", description="URL of the collector of traces, such as http://localhost:4318"
    )
    otlp_traces_endpoint: str = setting(
        "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", description="the same with its path, if that is not /v1/traces"
    )
    outbound_allow_loopback: bool = setting(
        True, "STIGMER_OUTBOUND_ALLOW_LOOPBACK", description="calls may reach this machine"
    )
    outbound_allow_private: bool = setting(
        True, "STIGMER_OUTBOUND_ALLOW_PRIVATE", description="calls may reach private networks (RFC 1918)"
    )

    blob_folder: Path | None = setting(
        None,
        "STIGMER_BLOB_FOLDER",
        description="folder, shared by all runners, for values too large for histories; `stigmer up` has one",
    )
    blob_bucket: str = setting(
        "", "STIGMER_BLOB_BUCKET", description="the same in an S3 bucket; with a folder too, that is only read"
    )
    blob_prefix: str = setting(
        "stigmer", "STIGMER_BLOB_PREFIX", description="what the names of its objects begin with", min_length=1
    )
    blob_endpoint: str = setting(
        "", "STIGMER_BLOB_ENDPOINT", "AWS_ENDPOINT_URL_S3", description="URL of an S3 service that is not Amazon's"
    )
    blob_region: str = setting("", "STIGMER_BLOB_REGION", "AWS_REGION", description="region of the bucket")
    blob_access_key: str = setting(
        "", "STIGMER_BLOB_ACCESS_KEY", description="id of the key for the bucket; empty takes what AWS's own tools find"
    )
    blob_secret_key: str = setting("", "STIGMER_BLOB_SECRET_KEY", description="the secret of that key", repr=False)
    blob_path_style: bool = setting(
        False, "STIGMER_BLOB_PATH_STYLE", description="the bucket stands in the path of URLs, as MinIO has it"
    )
    blob_threshold_bytes: int = setting(
        128 * 1024,
        "STIGMER_BLOB_THRESHOLD_BYTES",
        description="a value that takes as much is kept outside of the history",
        ge=1024,
        le=1_900_000,
    )
    blob_compression: Literal["zstd", "none"] = setting(
        "zstd", "STIGMER_BLOB_COMPRESSION", description="how kept values are compressed, where that makes them smaller"
    )
    blob_sweep_seconds: float = setting(
        3600.0,
        "STIGMER_BLOB_SWEEP_SECONDS",
        description="how often values that no history needs are removed; 0: never",
        ge=0,
    )
    blob_grace_seconds: float = setting(
        86_400.0, "STIGMER_BLOB_GRACE_SECONDS", description="how long a value is kept at least", ge=60
    )
    blob_patience_seconds: float = setting(
        20.0,
        "STIGMER_BLOB_PATIENCE_SECONDS",
        description="how long a value may not be found before the run that needs it is ended",
        ge=0,
    )
    max_value_bytes: int = setting(
        64 * 2**20,
        "STIGMER_MAX_VALUE_BYTES",
        description="largest value in a run, where there is a folder or bucket for such",
        ge=1_900_000,
    )

    @classmethod
    def load(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Return the settings that flags, environment and file give, in this order of weight.

        Prints the reference and exits when `--help` is among `arguments`.

        Raises:
            SettingsError: Any of them is wrong; one error names all problems.
        """
        flags = vars(_parser(cls).parse_args(list(arguments)))
        file = flags.pop("settings") or environment.get(_FILE_VARIABLE)
        problems: list[str] = []
        given: dict[str, Any] = _read_file(cls, Path(file), problems) if file else {}
        for name, variables in variables_of(cls).items():
            found = next((environment[each] for each in variables if environment.get(each)), None)
            given |= {} if found is None else {name: found}
            given |= {} if flags[name] is None else {name: flags[name]}
        try:
            made = cls.model_validate(given)
        except ValidationError as error:
            problems += [_sentence(cls, each["loc"], each["msg"]) for each in error.errors()]
            raise SettingsError(problems) from None
        if problems:
            raise SettingsError(problems)
        return made


def variables_of(settings: type[RunnerSettings]) -> dict[str, tuple[str, ...]]:
    """Return, for every setting, the environment variables that give it, weightiest first."""
    return {name: _variables(field) for name, field in settings.model_fields.items()}


def _variables(field: FieldInfo) -> tuple[str, ...]:
    alias = field.validation_alias
    if not isinstance(alias, AliasChoices):
        raise TypeError("a setting is declared with setting()")
    return tuple(str(choice) for choice in alias.choices)


def _parser(settings: type[RunnerSettings]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=settings.program,
        description=(settings.__doc__ or "").partition("\n")[0],
        epilog="A flag weighs more than an environment variable, a variable more than the file.",
    )
    parser.add_argument("--settings", metavar="FILE", help=f"TOML file of settings [env {_FILE_VARIABLE}]")
    for name, field in settings.model_fields.items():
        variables = ", ".join(_variables(field))
        default = "" if field.default in (None, "", PydanticUndefined) else f", default {field.default}"
        text = f"{field.description} [env {variables}{default}]".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=text)
    return parser


def _read_file(settings: type[RunnerSettings], path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return {}
    unknown = sorted(set(read) - set(settings.model_fields))
    problems += [f"{path}: there is no setting {name!r}" for name in unknown]
    return {name: value for name, value in read.items() if name in settings.model_fields}


def _sentence(settings: type[RunnerSettings], location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]) if location else ""
    for field, variables in variables_of(settings).items():
        if name == field or name in variables:
            return f"--{field.replace('_', '-')} ({variables[0]}): {message}"
    return message
